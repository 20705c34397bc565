import { type Files, isPolynomial, type ModelConfig, openSafetensors, type Plan, type TensorEntry } from '../models/index.ts';
import { isObject, readJsonObject } from '../models/json.ts';
import { isMeasured } from '../models/ranges.ts';
import { manifestHash, readManifest } from '../party/index.ts';
import { size } from '../program/index.ts';
import { type LoadedModel, openModel } from './model.ts';

export interface Inspection {
  readonly folder: string;
  readonly architecture: ModelConfig['family'];
  readonly dimensions: Readonly<Record<string, unknown>>;
  readonly parameters: number;
  /** Bytes of weights on disk, by type. */
  readonly bytesByType: Readonly<Record<string, number>>;
  readonly plan: Plan;
  /** True where the ring can run it. */
  readonly polynomial: boolean;
  /** What a private run's client is given: the configuration without ranges, and files by their bytes. */
  readonly manifest: {
    /** By which clients know it. */
    readonly sha256: string;
    /** False of a model that was never calibrated: a server measures it first, and what it found is in its manifest. */
    readonly asServed: boolean;
    readonly configBytes: number;
    readonly files: Readonly<Record<string, number>>;
  };
  /** What stays with the server. */
  readonly weights: { readonly tensors: number; readonly bytes: number };
  readonly tensors: readonly Pick<TensorEntry, 'name' | 'dtype' | 'shape' | 'byteLength' | 'file'>[];
}

/** What a checkpoint folder is, from its configuration and headers: no tensor is loaded. */
export async function inspectModel(folder: string | Files): Promise<Inspection> {
  const model = await openModel(folder);
  const { files } = model.checkpoint;
  const tensors = await entries(files);
  const bytesByType: Record<string, number> = {};
  for (const { dtype, byteLength } of tensors) bytesByType[dtype] = (bytesByType[dtype] ?? 0) + byteLength;
  const { plan: _, ...dimensions } = model.config;
  return {
    folder: files.name,
    architecture: model.config.family,
    dimensions,
    parameters: tensors.reduce((sum, { shape }) => sum + size(shape), 0),
    bytesByType,
    plan: model.plan,
    polynomial: isPolynomial(model.plan),
    manifest: await manifestOf(model),
    weights: { tensors: tensors.length, bytes: tensors.reduce((sum, { byteLength }) => sum + byteLength, 0) },
    tensors: tensors.map(({ name, dtype, shape, byteLength, file }) => ({ name, dtype, shape, byteLength, file })),
  };
}

async function manifestOf({ checkpoint, plan }: LoadedModel): Promise<Inspection['manifest']> {
  const manifest = await readManifest(checkpoint.files, checkpoint.config);
  const bytes = (text: string): number => new TextEncoder().encode(text).length;
  const files = Object.entries(manifest.files).map(([name, text]) => [name, bytes(text)]);
  const sha256 = manifestHash(manifest);
  return {
    sha256,
    asServed: isMeasured(plan),
    configBytes: bytes(JSON.stringify(manifest.config)),
    files: Object.fromEntries(files) as Record<string, number>,
  };
}

/** The hash of the manifest that a server of a model shows whose plan was measured. */
export async function servedHash(model: LoadedModel, plan: Plan): Promise<string> {
  const { files, config } = model.checkpoint;
  return manifestHash(await readManifest(files, plan === model.plan ? config : { ...config, sotto: plan }));
}

async function entries(files: Files): Promise<TensorEntry[]> {
  const single = 'model.safetensors';
  if (await files.exists(single)) return [...(await openSafetensors(files, single)).tensors.values()];
  const { weight_map: map } = await readJsonObject(files, 'model.safetensors.index.json', 100_000_000);
  const shards = isObject(map) ? new Set(Object.values(map) as string[]) : [];
  const found: TensorEntry[] = [];
  for (const shard of shards) found.push(...(await openSafetensors(files, shard)).tensors.values());
  return found;
}
