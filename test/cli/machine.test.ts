import { readFile } from 'node:fs/promises';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fitRates, onlineSeconds, parseMachine } from '../../src/backends/cost/index.ts';
import { quantise, schedule } from '../../src/backends/ring/index.ts';
import { trace } from '../../src/program/index.ts';

const shipped = JSON.parse(await readFile(new URL('../../artefacts/machine.json', import.meta.url), 'utf8')) as object;

describe('a machine profile', () => {
  it('that is shipped can be read, and is what it was', () => {
    expect(parseMachine(shipped)).toEqual(shipped);
  });

  it('from anybody is read or refused by an input error', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom('name', 'frame', 'rings', 'firstRun', 'none'), (value, field) => {
        const raw = field === 'none' ? value : { ...shipped, [field]: value };
        try {
          parseMachine(raw);
        } catch (error) {
          expect(error).toMatchObject({ kind: 'input' });
        }
      }),
    );
  });

  it('is fitted from sums of work', () => {
    const samples = Array.from({ length: 40 }, (_, at) => {
      const amounts = { nodes: 1, words: (at + 1) ** 3, products: at % 7 };
      return { amounts, seconds: 1e-5 + 2e-6 * amounts.words + 1e-3 * amounts.products };
    });
    const rates = fitRates(samples, ['nodes', 'words', 'products', 'absent']);
    expect(rates.words).toBeCloseTo(2e-6, 8);
    expect(rates.products).toBeCloseTo(1e-3, 5);
    expect(rates).not.toHaveProperty('absent');
  });
});

describe('the time of a run', () => {
  const program = quantise(
    trace((ops) => ({ y: ops.square(ops.input('x', [1000], 'client')) })),
    { bits: 64, fraction: 16 },
  );
  const idle = { client: {}, server: {}, expandedPoint: 0, encodedWeight: 0, maskedWeight: 0, dealer: {}, prepare: {} };
  const still = {
    name: 'idle',
    frame: { seconds: 0, byteSeconds: 0 },
    bundle: { storedByteSeconds: 0, readSeconds: 0 },
    overhead: { nodeSeconds: 0, byteSeconds: 0, offlineByteSeconds: 0 },
    firstRun: { offlineSeconds: 0, onlineSeconds: 0 },
    rings: { 32: idle, 64: idle },
  };

  it('without work is latency and bytes over the bandwidth', () => {
    const network = { name: 'n', bitsPerSecond: 1e6, roundTripSeconds: 0.1 };
    const hops = schedule(program);
    const bytes = hops.reduce((sum, hop) => sum + hop.bytes + 20, 0);
    const { seconds, networkSeconds } = onlineSeconds(program, still, network);
    const frameBytes = (seconds - hops.length * 0.05) * (1e6 / 8) - (bytes - 20 * hops.length);
    expect(frameBytes / hops.length).toBeGreaterThan(0);
    expect(frameBytes / hops.length).toBeLessThan(64);
    expect(networkSeconds).toBeCloseTo(seconds, 9);
  });

  it('adds what a party computes before it speaks', () => {
    const network = { name: 'n', bitsPerSecond: 1e9, roundTripSeconds: 0 };
    const server = { square: { start: { words: 1e-3 } } };
    const busy = { ...still, rings: { 32: idle, 64: { ...idle, server } } };
    const more = onlineSeconds(program, busy, network);
    expect(more.serverComputeSeconds).toBeCloseTo(1, 9);
    expect(more.seconds - onlineSeconds(program, still, network).seconds).toBeGreaterThan(0.9);
  });
});
