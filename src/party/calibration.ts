import { createHash } from 'node:crypto';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { type Calibration, calibrate, subjectOf } from '../convert/index.ts';
import { SottoError } from '../errors/index.ts';
import { openGenerator } from '../jobs/float-write.ts';
import type { Checkpoint } from '../models/checkpoint.ts';
import type { LlamaConfig, ModelConfig } from '../models/config.ts';
import { classifiesPictures, writesText } from '../models/families/index.ts';
import { type Files, loadWeights, type Plan, parsePlan, sampler, seededUniform } from '../models/index.ts';
import { readJson } from '../models/json.ts';
import { isMeasured } from '../models/ranges.ts';
import { folderFiles } from '../node/files.ts';
import { usualFloat, withFloatBackend } from '../node/float.ts';
import type { FloatBackend, Tensor } from '../program/index.ts';

/** What a model is measured for, and who is told. */
export interface Measuring {
  /** 64 bits where absent; without fraction bits, the usual ones as far as they fit. */
  readonly ring?: { readonly bits: number; readonly fraction?: number | undefined } | undefined;
  /** Texts or pictures of the kind that the model is for. A model that writes does without. */
  readonly samples?: Calibration | undefined;
  /** One line each: that it takes a while, where it is kept, what could not be used. */
  readonly say?: ((line: string) => void) | undefined;
  /** Where plans are kept whose model's folder cannot be written. */
  readonly cacheFolder?: string | undefined;
}

export interface MeasuredModel {
  readonly checkpoint: Checkpoint;
  readonly config: ModelConfig;
  readonly plan: Plan;
}

/** Raised where what is measured, or how it is used, changes: older files are not read. */
const version = 1;
const limitBytes = 2 ** 24;
const stored = z.strictObject({
  version: z.literal(version),
  /** What it is for: weights, configuration and ring, hashed. */
  key: z.string().regex(/^[0-9a-f]{64}$/),
  /** SHA-256 of the plan's JSON. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  plan: z.record(z.string(), z.unknown()),
});

/**
 * The plan of a model with the ranges of its values, which every ring program is made by. A model that was never calibrated is measured now
 * on text of its own, or on samples, and what was found is kept: beside the model, or in a cache where that cannot be written, named by a
 * hash of weights, configuration and ring. Throws a `range` error for a model that neither writes nor is given samples, and where its values
 * do not fit the ring.
 */
export async function measuredPlan(model: MeasuredModel, options: Measuring = {}): Promise<Plan> {
  if (isMeasured(model.plan)) return model.plan;
  const { ring = { bits: 64 }, say = () => undefined } = options;
  const weights = await hashOfWeights(model.checkpoint);
  const named = (of: object): Named => {
    const key = hashOf([version, weights, model.checkpoint.config, of]);
    return { key, path: `sotto-calibration-${key.slice(0, 16)}.json` };
  };
  const places = [model.checkpoint.files, folderFiles(options.cacheFolder ?? join(homedir(), '.sotto', 'calibrations'))];
  if (options.samples === undefined) {
    const known = await findMeasured(places, named(ring), model, say);
    if (known !== undefined) return known;
  }
  const started = performance.now();
  // As it will be read again: everybody who finds it has the same.
  const bare: unknown = JSON.parse(JSON.stringify(await measureNow(model, ring, options)));
  const plan = parsePlan(bare, model.config);
  const kept = await keep(places, named(ring), plan);
  // Who asks for the very ring that was chosen finds it as well.
  if (ring.fraction === undefined) await keep(places, named({ ...plan.ring }), plan);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  say(`calibrated in ${seconds} s, ${kept === undefined ? 'kept nowhere: no folder can be written' : `kept in ${kept}`}`);
  return plan;
}

/** A calibration's name: never another model's. */
interface Named {
  readonly key: string;
  readonly path: string;
}

async function hashOfWeights(checkpoint: Checkpoint): Promise<string> {
  const hash = createHash('sha256');
  for (const name of [...checkpoint.names()].sort()) {
    const values = await checkpoint.read(name);
    hash.update(`${name} ${checkpoint.shape(name).join('x')}\n`);
    hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return hash.digest('hex');
}

const hashOf = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex');

/** What was kept, where it is sound; of what is not it says so. */
async function findMeasured(
  places: readonly Files[],
  named: Named,
  model: MeasuredModel,
  say: (line: string) => void,
): Promise<Plan | undefined> {
  for (const files of places) {
    try {
      const known = await readMeasured(files, named, model);
      if (known !== undefined) return known;
    } catch (error) {
      say(`${files.name}/${named.path} is not used: ${error instanceof SottoError ? error.reason : 'it cannot be read'}`);
    }
  }
  return undefined;
}
/** What was kept; undefined where nothing was. Throws where it is damaged, or of another model. */
async function readMeasured(files: Files, { path, key }: Named, { config }: MeasuredModel): Promise<Plan | undefined> {
  if (!(await files.exists(path))) return undefined;
  const damaged = (reason: string) =>
    new SottoError('input', reason, { place: { file: `${files.name}/${path}` }, remedy: 'delete the file' });
  const found = stored.safeParse(await readJson(files, path, limitBytes));
  if (!found.success) throw damaged('it is no calibration of this version');
  if (found.data.key !== key) throw damaged('it belongs to other weights, another plan or another ring');
  if (hashOf(found.data.plan) !== found.data.sha256) throw damaged('it was changed after it was made');
  const plan = parsePlan(found.data.plan, config, path);
  if (!isMeasured(plan)) throw damaged('it lacks ranges');
  return plan;
}

/** The first folder that takes it. */
async function keep(places: readonly Files[], { path, key }: Named, plan: Plan): Promise<string | undefined> {
  const bare: unknown = JSON.parse(JSON.stringify(plan));
  const bytes = new TextEncoder().encode(`${JSON.stringify({ version, key, sha256: hashOf(bare), plan: bare })}\n`);
  for (const files of places) {
    const written = await files.write?.(path, bytes).then(
      () => true,
      () => false,
    );
    if (written === true) return `${files.name}/${path}`;
  }
  return undefined;
}

async function measureNow(model: MeasuredModel, ring: NonNullable<Measuring['ring']>, options: Measuring): Promise<Plan> {
  const { checkpoint, config, plan } = model;
  const { say = () => undefined, samples } = options;
  if (samples === undefined && !writesText(config))
    throw new SottoError('range', 'nobody has measured which values this model computes with', {
      place: { file: checkpoint.files.name },
      remedy: classifiesPictures(config)
        ? 'run `sotto calibrate` once on some pictures of the kind that it names'
        : 'run `sotto calibrate` once on some texts of the kind that it classifies',
    });
  say(
    `${checkpoint.files.name} was never calibrated: measuring its values ${samples === undefined ? 'on text of its own' : 'on samples'}, once`,
  );
  const weights: ReadonlyMap<string, Tensor> = await loadWeights(checkpoint, config, plan);
  return await withFloatBackend(usualFloat(), async (backend) => {
    const calibration = samples ?? (await ownRows(config as LlamaConfig, plan, weights, backend));
    return await calibrate(subjectOf(config, calibration), plan, { weights, backend, ring, method: 'own' });
  });
}

/** Rows that a Llama writes from nothing, and rows of tokens drawn at random: what it expects, and what it does not. */
const writtenRows = 6;
const randomRows = 2;
const rowTokens = 64;

/** Rows of a model's own text, beginning with its first token; and rows of any tokens, since a prompt may have any. */
export async function ownRows(
  config: LlamaConfig,
  plan: Plan,
  weights: ReadonlyMap<string, Tensor>,
  backend: FloatBackend,
  seed = 0,
): Promise<{ rows: Int32Array[]; batch: number }> {
  const tokens = Math.min(rowTokens, config.maxPositionEmbeddings);
  const begin = config.bosTokenId ?? 0;
  const sample = sampler({ temperature: 1, topP: 1, seed });
  const uniform = seededUniform(seed + 1);
  const random = (length: number): number[] => Array.from({ length }, () => Math.floor(uniform() * config.vocabSize));
  const generator = await openGenerator({ config, plan, weights, backend }, { capacity: tokens });
  try {
    const rows: Int32Array[] = [];
    while (rows.length < writtenRows) {
      const ids: number[] = [];
      // A text that ends is followed by the next, as in training.
      for (let tries = 0; ids.length < tokens && tries < tokens; tries++)
        ids.push(...(await generator.generate({ promptIds: [begin], maxNewTokens: tokens - 1, sample })).ids);
      rows.push(Int32Array.from([...ids, ...random(tokens)].slice(0, tokens)));
    }
    for (let at = 0; at < randomRows; at++) rows.push(Int32Array.from([begin, ...random(tokens - 1)]));
    return { rows, batch: 2 };
  } finally {
    await generator.close();
  }
}
