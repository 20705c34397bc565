import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { forecast } from '../../src/backends/cost/index.ts';
import { FrameReader, FrameWriter } from '../../src/backends/mpc/frames.ts';
import { rehearse } from '../../src/backends/mpc/index.ts';
import { mostFrameBytes, quantise, schedule } from '../../src/backends/ring/index.ts';
import { trace } from '../../src/program/index.ts';
import { platforms } from './platform.ts';

describe('a hop of more bytes than a frame holds', () => {
  it('is sent in several frames, whose headers the forecast counts', async () => {
    const shape = [1200, 2000];
    const program = quantise(
      trace((ops) => {
        const x = ops.input('x', shape, 'client');
        return { y: ops.add(x, x) };
      }),
      { bits: 64, fraction: 16 },
    );
    expect(schedule(program).map(({ bytes, frames }) => [bytes > mostFrameBytes, frames])).toEqual([
      [true, 2],
      [true, 2],
    ]);
    const values = Float64Array.from({ length: 1200 * 2000 }, (_, i) => (i % 1000) / 8);
    const run = await rehearse({
      program,
      platforms: platforms(64),
      weight: () => Promise.reject(new Error('no weights')),
      input: async () => ({ shape, values }),
    });
    expect(run.measured.online).toEqual(forecast(program).total.online);
    expect(run.measured.online.clientToServerBytes).toBe(1200 * 2000 * 8 + 2 * 16);
    expect(run.client.hops).toBe(2);
    const wrong = Float64Array.from(run.outputs.get('y')!.values).reduce(
      (sum, value, at) => sum + (value === 2 * values[at]! ? 0 : 1),
      0,
    );
    expect(wrong).toBe(0);
  });

  it('comes out as it went in, wherever messages end, with one frame in memory', async () => {
    const parts = fc.array(fc.constantFrom(0, 1, 1000, mostFrameBytes - 1, mostFrameBytes, mostFrameBytes + 7), { maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(parts, async (lengths) => {
        const messages = lengths.map((length, i) => new Uint8Array(length).fill(i + 1));
        const total = lengths.reduce((sum, length) => sum + length, 0);
        const sent: Uint8Array[] = [];
        const writer = new FrameWriter(total, new Uint8Array(mostFrameBytes), async (frame) => {
          expect(frame.length).toBeLessThanOrEqual(mostFrameBytes);
          sent.push(frame.slice());
        });
        for (const message of messages) await writer.write(message);
        expect(sent.length).toBe(Math.ceil(total / mostFrameBytes));
        const reader = new FrameReader(total, async (bytes) => {
          const frame = sent.shift()!;
          expect(frame.length).toBe(bytes);
          return frame;
        });
        for (const message of messages) {
          const back = reader.held(message.length) ?? (await reader.read(message.length));
          expect(Buffer.compare(back, message)).toBe(0);
        }
        expect(sent.length).toBe(0);
      }),
      { numRuns: 12 },
    );
  });
});
