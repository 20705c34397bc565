import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Tensor } from '../../src/program/index.ts';

/** What a twin needs to compute the same step from the same weights on the same batch. */
export interface TrainingCase {
  readonly model: object;
  readonly optimiser: object;
  readonly clip: number;
  readonly rate: number;
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly tokens: Int32Array;
  readonly labels: Int32Array;
}

export interface Twin {
  readonly name: string;
  /** One training step: its loss, and the CPU time of the process. */
  step(): Promise<{ loss: number; cpuMilliseconds: number }>;
  close(): void;
}

const script = fileURLToPath(new URL('training_step.py', import.meta.url));

/**
 * The step in PyTorch, in a process of its own with one thread; undefined where no Python with PyTorch is found (SOTTO_PYTHON names
 * one, /usr/bin/python3 is tried otherwise). `core` chooses OpenBLAS' kernels: versions older than the processor take slow ones.
 */
export async function torchTwin(given: TrainingCase, core?: string): Promise<Twin | undefined> {
  const python = process.env.SOTTO_PYTHON ?? '/usr/bin/python3';
  if (!existsSync(python)) return undefined;
  const folder = mkdtempSync(join(tmpdir(), 'sotto-training-'));
  const { weights, tokens, labels, ...rest } = given;
  const parameters = [...weights].map(([name, { shape }]) => [name, shape]);
  const step = { ...rest, parameters, tokens: Array.from(tokens), labels: Array.from(labels) };
  writeFileSync(join(folder, 'step.json'), JSON.stringify(step));
  writeFileSync(join(folder, 'weights.bin'), Buffer.concat([...weights.values()].map(({ values }) => bytes(values))));
  const child = spawn(python, [script, folder], {
    env: {
      ...process.env,
      OMP_NUM_THREADS: '1',
      OPENBLAS_NUM_THREADS: '1',
      MKL_NUM_THREADS: '1',
      ...(core === undefined ? {} : { OPENBLAS_CORETYPE: core }),
    },
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<Record<string, unknown> | undefined> => {
    const { value, done } = await lines.next();
    return done ? undefined : (JSON.parse(value) as Record<string, unknown>);
  };
  const ready = await next();
  rmSync(folder, { recursive: true });
  if (ready === undefined) return undefined;
  return {
    name: `PyTorch ${ready.torch}${core === undefined ? '' : `, OPENBLAS_CORETYPE=${core}`}`,
    async step() {
      child.stdin.write('\n');
      const answer = await next();
      if (answer === undefined) throw new Error('the PyTorch twin ended');
      return { loss: Number(answer.loss), cpuMilliseconds: Number(answer.cpuMilliseconds) };
    },
    close: () => child.stdin.end(),
  };
}

function bytes(values: Tensor['values']): Uint8Array {
  const floats = Float32Array.from(values);
  return new Uint8Array(floats.buffer);
}
