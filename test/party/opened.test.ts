import { describe, expect, it } from 'vitest';
import type { RingProgram } from '../../src/backends/ring/index.ts';
import { Opened } from '../../src/party/opened.ts';

const program = (operation: string): RingProgram => ({ ring: { bits: 64, fraction: 16 }, nodes: [{ operation }] }) as never;
const word = (value: number) => ({ shape: [1], values: Float64Array.of(value) });

/** Tokens are the opened values, and 9 ends the text. */
function opening(operation: string): { opened: Opened; shown: number[] } {
  const shown: number[] = [];
  const opened = new Opened(([id]) => ({ id: id!, last: id === 9, show: () => void shown.push(id!) }));
  opened.begin(program(operation));
  return { opened, shown };
}

describe('what a run opens', () => {
  it('is shown at once where no flag comes', () => {
    const { opened, shown } = opening('reveal');
    opened.take('logits.0', word(4));
    expect(shown).toEqual([4]);
  });

  it('waits for its flag, which may come after it or before, while the run reads it', () => {
    const { opened, shown } = opening('flag');
    opened.take('logits.0', word(4));
    expect([shown, opened.next]).toEqual([[], 4]);
    opened.take('range.0', word(0));
    opened.take('range.1', word(0));
    expect(shown).toEqual([4]);
    opened.take('logits.1', word(5));
    expect(shown).toEqual([4, 5]);
  });

  it('is never shown once a value left the range, nor anything after it', () => {
    const { opened, shown } = opening('flag');
    opened.take('logits.0', word(4));
    opened.take('range.0', word(0));
    opened.take('logits.1', word(5));
    opened.take('range.1', word(1));
    for (const name of ['logits.2', 'range.2']) opened.take(name, word(0));
    expect(shown).toEqual([4]);
    expect(opened.fault?.error).toMatchObject({ kind: 'range' });
    expect([opened.ended, opened.next]).toEqual([false, 0]);
  });

  it('has ended once all of the text is known to be right, by the count of what came', () => {
    const { opened, shown } = opening('flag');
    opened.take('logits.0', word(9));
    expect(opened.ended).toBe(false);
    opened.take('logits.1', word(3));
    opened.take('range.0', word(0));
    expect(opened.ended).toBe(false);
    opened.take('range.1', word(0));
    expect([opened.ended, opened.count, opened.newIds, shown]).toEqual([true, 2, [9], [9]]);
  });
});
