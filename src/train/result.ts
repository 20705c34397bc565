import { type Calibration, calibrate, subjectOf } from '../convert/index.ts';
import { SottoError } from '../errors/index.ts';
import { writeCheckpoint } from '../models/checkpoint.ts';
import { parseModelConfig } from '../models/config.ts';
import { planOf } from '../models/index.ts';
import type { Tensor } from '../program/index.ts';
import { modelCard } from './card.ts';
import type { LogLine, RunFolder } from './folder.ts';
import type { Recipe } from './recipe.ts';
import type { RunOptions } from './run-options.ts';

/** A trained model, by what its run's folder and its start say of it. */
export interface Result {
  readonly recipe: Recipe;
  readonly folder: RunFolder;
  readonly backend: RunOptions['backend'];
  /** config.json of the start, with its plan. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly log: readonly LogLine[];
  /** Data to measure a planned model's tables and ranges on, and what tables allow beyond it; a published model has none. */
  readonly measuring?: { readonly calibration: Calibration; readonly margin: number } | undefined;
}

/**
 * Measures tables and ranges, and writes the checkpoint with its card. A model whose ranges no table spans is a result still, for
 * floating point: it has no tables then, and its card says what was wrong.
 */
export async function writeResult({ recipe, folder, backend, config, weights, log, measuring }: Result): Promise<void> {
  const measured = measuring === undefined ? undefined : await tables({ config, weights, backend, ...measuring });
  const tensors = [...weights].map(([name, { shape, values }]) => ({ name, shape, values: Float32Array.from(values) }));
  await writeCheckpoint(folder.result, {
    config: measured === undefined ? config : { ...config, sotto: measured.plan },
    tensors,
    dtype: recipe.dtype,
    companions: folder.start,
    extra: { 'README.md': modelCard(recipe, log, measured) },
  });
}

type Measuring = Pick<Result, 'config' | 'weights' | 'backend'> & NonNullable<Result['measuring']>;

async function tables({ config, weights, backend, calibration, margin }: Measuring) {
  const parsed = parseModelConfig(config);
  const plan = planOf(parsed);
  return calibrate(subjectOf(parsed, calibration), plan, { weights, backend, margin }).then(
    (calibrated) => ({ plan: calibrated, problem: undefined }),
    (error: unknown) => {
      if (error instanceof SottoError && error.kind === 'range') return { plan, problem: error.message };
      throw error;
    },
  );
}
