import { SottoError } from '../errors/index.ts';
import type { WritableDtype } from './dtypes.ts';
import { checkPath, type Files, fileLabel } from './files.ts';
import { isObject, jsonBytes, readJsonObject } from './json.ts';
import { type NamedTensor, openSafetensors, readTensor, type TensorEntry, writeShards } from './safetensors.ts';

const configLimitBytes = 16 * 2 ** 20;
const indexLimitBytes = 100_000_000;
const single = 'model.safetensors';
const sharded = 'model.safetensors.index.json';

/** The files beside config and weights that belong to a checkpoint and are copied as they are. */
export const companionFiles = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.txt',
  'vocab.json',
  'merges.txt',
  'generation_config.json',
  'preprocessor_config.json',
] as const;

export interface LoadedTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** An open checkpoint: its configuration whole, its tensors by name, loaded on demand. */
export interface Checkpoint {
  readonly files: Files;
  /** config.json as parsed, with every field, known or not. */
  readonly config: Record<string, unknown>;
  names(): string[];
  has(name: string): boolean;
  shape(name: string): readonly number[];
  read(name: string): Promise<Float32Array>;
  readAll(): Promise<Map<string, LoadedTensor>>;
}

/**
 * Opens a folder in the Hugging Face layout: config.json and weights in `model.safetensors` or in shards under
 * `model.safetensors.index.json`. Headers are read and checked, tensors are not yet loaded.
 */
export async function openCheckpoint(files: Files): Promise<Checkpoint> {
  const config = await readJsonObject(files, 'config.json', configLimitBytes);
  const tensors = await openWeights(files);
  const entry = (name: string) => {
    const found = tensors.get(name) ?? tensors.get(formerName(name));
    if (found) return found;
    throw new SottoError('model', `the checkpoint has no such tensor among its ${tensors.size}`, {
      place: { file: files.name, tensor: name },
      remedy: 'check that config.json describes the architecture of these weights',
    });
  };
  return {
    files,
    config,
    names: () => [...tensors.keys()],
    has: (name) => tensors.has(name) || tensors.has(formerName(name)),
    shape: (name) => entry(name).shape,
    read: async (name) => readTensor(files, entry(name)),
    readAll: async () => {
      const all = new Map<string, LoadedTensor>();
      for (const [name, found] of tensors) all.set(name, { shape: found.shape, values: await readTensor(files, found) });
      return all;
    },
  };
}

/** Early checkpoints call the gain and bias of a LayerNorm gamma and beta. */
const formerName = (name: string): string =>
  name.replace(/LayerNorm\.weight$/, 'LayerNorm.gamma').replace(/LayerNorm\.bias$/, 'LayerNorm.beta');

async function openWeights(files: Files): Promise<ReadonlyMap<string, TensorEntry>> {
  if (await files.exists(single)) return (await openSafetensors(files, single)).tensors;
  if (await files.exists(sharded)) return openShards(files);
  throw new SottoError('input', `the folder has neither ${single} nor ${sharded}`, {
    place: { file: files.name },
    remedy: 'name the folder of a checkpoint; weights in other formats must first be saved as safetensors',
  });
}

async function openShards(files: Files): Promise<ReadonlyMap<string, TensorEntry>> {
  const index = await readJsonObject(files, sharded, indexLimitBytes);
  const place = { file: fileLabel(files, sharded), field: 'weight_map' };
  const damaged = (reason: string, tensor?: string) =>
    new SottoError('input', reason, {
      place: tensor === undefined ? place : { ...place, tensor: tensor.slice(0, 200) },
      remedy: 'the index does not belong to these shards: fetch the checkpoint again',
    });
  const map = index.weight_map;
  if (!isObject(map)) throw damaged('the field is not an object of tensor names and files');
  const shards = new Map<string, ReadonlyMap<string, TensorEntry>>();
  const tensors = new Map<string, TensorEntry>();
  for (const [name, path] of Object.entries(map)) {
    if (typeof path !== 'string') throw damaged('the tensor is not mapped to a file name', name);
    checkPath(files, path);
    let shard = shards.get(path);
    if (shard === undefined) {
      shard = (await openSafetensors(files, path)).tensors;
      shards.set(path, shard);
    }
    const entry = shard.get(name);
    if (entry === undefined) throw damaged(`the shard ${path} does not hold the tensor`, name);
    tensors.set(name, entry);
  }
  return tensors;
}

export interface CheckpointContents {
  readonly config: Readonly<Record<string, unknown>>;
  readonly tensors: Iterable<NamedTensor>;
  /** Type the weights are stored in; F32 unless told, which keeps every bit. */
  readonly dtype?: WritableDtype;
  /** Weights above this many bytes are split into shards. */
  readonly shardBytes?: number;
  /** Tokenizer, generation and preprocessor files are copied from here. */
  readonly companions?: Files;
  /** Further files by path; they win over companions. */
  readonly extra?: Readonly<Record<string, Uint8Array | string>>;
}

/** Writes a checkpoint folder. config.json comes last: a folder without it was never finished. */
export async function writeCheckpoint(files: Files, contents: CheckpointContents): Promise<void> {
  const write = files.write?.bind(files);
  if (write === undefined) {
    throw new SottoError('usage', 'the folder is read-only', {
      place: { file: files.name },
      remedy: 'name a folder that can be written',
    });
  }
  const extra = new Map(Object.entries(contents.extra ?? {}));
  if (contents.companions) {
    for (const path of companionFiles) {
      if (!extra.has(path) && (await contents.companions.exists(path))) extra.set(path, await contents.companions.read(path));
    }
  }
  const dtype = contents.dtype ?? 'F32';
  for (const file of writeShards([...contents.tensors], contents.shardBytes ?? 2 ** 30, { dtype })) {
    if (file.path === sharded && (await files.exists(single))) {
      throw new SottoError('usage', `the folder already holds ${single}, which readers would take instead of the shards`, {
        place: { file: files.name },
        remedy: 'write to an empty folder',
      });
    }
    await write(file.path, file.bytes);
  }
  for (const [path, value] of extra) await write(path, typeof value === 'string' ? new TextEncoder().encode(value) : value);
  await write('config.json', jsonBytes(withDtype(contents.config, dtype)));
}

const dtypeNames = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' } as const;

/** config.json names the type of the weights under either of two keys; where it does, it must stay true. */
function withDtype(config: Readonly<Record<string, unknown>>, dtype: WritableDtype): Record<string, unknown> {
  const named = ['torch_dtype', 'dtype'].filter((key) => Object.hasOwn(config, key));
  return { ...config, ...Object.fromEntries(named.map((key) => [key, dtypeNames[dtype]])) };
}
