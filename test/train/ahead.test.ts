import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { folderFiles } from '../../src/node/files.ts';
import type { OnnxBackend } from '../../src/node/onnx.ts';
import { type Step, type Tensor, trace } from '../../src/program/index.ts';
import { train } from '../../src/train/loop.ts';

const root = mkdtempSync(join(tmpdir(), 'sotto-ahead-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** A backend whose steps note when they begin and end. */
function noting(events: string[]): OnnxBackend {
  const results = new Map<string, Tensor>(
    ['loss', 'loss/nll', 'gradientNorm'].map((name) => [name, { shape: [], values: Float32Array.of(1) }]),
  );
  const step: Step = {
    run: async () => {
      events.push('begin');
      await new Promise((resolve) => setTimeout(resolve, 5));
      events.push('end');
      return results;
    },
    readState: async () => new Map([['w', { shape: [2, 3], values: new Float32Array(6) }]]),
    writeState: async () => undefined,
    close: async () => undefined,
  };
  const compile = (): Promise<never> => Promise.reject(new Error('nothing is evaluated'));
  return { name: 'noting', ready: async () => undefined, compile, compileStep: async () => step, close: async () => undefined };
}

async function run(name: string, events: string[], sam: boolean, feeds: (index: number) => ReadonlyMap<string, Tensor>) {
  const directory = join(root, name);
  const part = (inner: string) => folderFiles(join(directory, inner));
  const optimiser = {
    kind: 'adamw',
    rate: 0.1,
    coefficientRate: 1,
    warmup: 0,
    floor: 1,
    beta1: 0.9,
    beta2: 0.9,
    epsilon: 1e-8,
  } as const;
  return train({
    recipe: {
      name,
      batch: 1,
      steps: 2,
      accumulate: 2,
      checkpointEvery: 100,
      evaluateEvery: 100,
      optimiser: { ...optimiser, decay: 0, clip: 1, sam: sam ? { radius: 0.1 } : undefined },
    },
    folder: {
      directory,
      files: folderFiles(directory),
      start: part('start'),
      stageStart: () => part('start'),
      result: part('checkpoint'),
      close: async () => undefined,
    },
    backend: noting(events),
    student: () => trace((ops) => ({ logits: ops.scale(ops.input('w', [2, 3], 'server'), 1) })),
    teacher: undefined,
    losses: { nll: 1 },
    samples: { unit: 'pictures', unitsPerBatch: 1, feeds, heldOut: undefined },
    start: new Map([['w', { shape: [2, 3], values: new Float32Array(6) }]]),
    trained: [{ name: 'w', rate: 1 }],
    clock: performance,
  });
}

describe('the next batch', () => {
  it('is made while a step runs, each once a pass over it, and none beyond the last', async () => {
    const events: string[] = [];
    await run('plain', events, false, (index) => {
      events.push(`batch ${index}`);
      return new Map();
    });
    expect(events).toEqual([
      'batch 0',
      'begin',
      'batch 1',
      'end',
      'begin',
      'batch 2',
      'end',
      'begin',
      'batch 3',
      'end',
      'begin',
      'end',
    ]);
    const away: string[] = [];
    await run('sam', away, true, (index) => {
      away.push(`batch ${index}`);
      return new Map();
    });
    expect(away.filter((event) => event.startsWith('batch')).map((event) => Number(event.slice(6)))).toEqual([
      0, 1, 0, 1, 2, 3, 2, 3,
    ]);
  });

  it('that cannot be made ends the run when it is due', async () => {
    const events: string[] = [];
    const feeds = (index: number): ReadonlyMap<string, Tensor> => {
      if (index === 1) throw new Error('a broken picture');
      return new Map();
    };
    await expect(run('broken', events, false, feeds)).rejects.toThrow('a broken picture');
    expect(events).toEqual(['begin', 'end']);
  });
});
