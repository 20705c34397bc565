import { SottoError } from '../errors/index.ts';
import type { Dtype, WritableDtype } from './dtypes.ts';
import { checkPath, type Files, fileLabel } from './files.ts';
import { generationEnds } from './generation-config.ts';
import { isObject, jsonBytes, readJsonObject } from './json.ts';
import { type NamedTensor, openSafetensors, readTensor, sameBytes, type TensorEntry, writeShards } from './safetensors.ts';

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

/** A tensor in memory, in row-major order. */
export interface LoadedTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** An open checkpoint: its configuration whole, its tensors by name, loaded on demand. */
export interface Checkpoint {
  readonly files: Files;
  /**
   * config.json with every field, known or not; `eos_token_id` as generation_config.json has it, where it names one: the published
   * `generate` looks there first.
   */
  readonly config: Record<string, unknown>;
  /** All tensors, by the names of today: a LayerNorm has `weight` and `bias`. */
  names(): string[];
  /** Whether there is such a tensor. */
  has(name: string): boolean;
  /** Its extents; a `model` error where there is no such tensor. */
  shape(name: string): readonly number[];
  /** How its values are stored; a `model` error where there is no such tensor. */
  dtype(name: string): Dtype;
  /** Its values in row-major order. Errors: `model` where there is no such tensor, `input` where its values are not numbers. */
  read(name: string): Promise<Float32Array>;
  /** Whether two tensors are the same to the bit: type, shape and bytes. */
  same(name: string, other: string): Promise<boolean>;
  /** All tensors in memory at once: four bytes a value, however they are stored. */
  readAll(): Promise<Map<string, LoadedTensor>>;
}

/**
 * Opens a folder in the Hugging Face layout: config.json and weights in `model.safetensors` or in shards under
 * `model.safetensors.index.json`. Headers are read and checked, tensors are not yet loaded. Whether they are those of the model that
 * config.json describes, no more and no fewer, is what `openModelFolder` checks: use that one for anything that computes.
 */
export async function openCheckpoint(files: Files): Promise<Checkpoint> {
  const config = await withGenerationEnds(files, await readJsonObject(files, 'config.json', configLimitBytes));
  const tensors = await openWeights(files);
  const entry = (name: string) => {
    const found = tensors.get(name);
    if (found) return found;
    throw new SottoError('model', `the checkpoint has no such tensor among its ${tensors.size}`, {
      place: { file: files.name, tensor: name },
      remedy: 'check that config.json describes the architecture of these weights',
    });
  };
  const read = async (name: string) => readTensor(files, entry(name));
  return {
    files,
    config,
    names: () => [...tensors.keys()],
    has: (name) => tensors.has(name),
    shape: (name) => entry(name).shape,
    dtype: (name) => entry(name).dtype,
    read,
    same: async (name, other) => sameBytes(files, entry(name), entry(other)),
    readAll: async () => {
      const all = new Map<string, LoadedTensor>();
      for (const [name, { shape }] of tensors) all.set(name, { shape, values: await read(name) });
      return all;
    },
  };
}

async function withGenerationEnds(files: Files, config: Record<string, unknown>): Promise<Record<string, unknown>> {
  const path = 'generation_config.json';
  if (!(await files.exists(path))) return config;
  const ends = generationEnds(await readJsonObject(files, path, configLimitBytes), fileLabel(files, path));
  return ends === undefined ? config : { ...config, eos_token_id: ends };
}

/** Early checkpoints call the gain and bias of a LayerNorm gamma and beta. */
const presentName = (name: string): string =>
  name.replace(/LayerNorm\.gamma$/, 'LayerNorm.weight').replace(/LayerNorm\.beta$/, 'LayerNorm.bias');

/** Tensors by the names of today. */
async function openWeights(files: Files): Promise<ReadonlyMap<string, TensorEntry>> {
  const stored = await openStored(files);
  const tensors = new Map<string, TensorEntry>();
  for (const [name, entry] of stored) {
    const present = presentName(name);
    if (present !== name && stored.has(present))
      throw new SottoError('model', `the checkpoint also has ${present.slice(0, 200)}, the name of today for the same tensor`, {
        place: { file: files.name, tensor: name.slice(0, 200) },
        remedy: 'remove the one that the model was not saved with',
      });
    tensors.set(present, entry);
  }
  return tensors;
}

async function openStored(files: Files): Promise<ReadonlyMap<string, TensorEntry>> {
  if (await files.exists(single)) return await openFile(files, single);
  if (await files.exists(sharded)) return await openShards(files);
  throw new SottoError('input', `the folder has neither ${single} nor ${sharded}`, {
    place: { file: files.name },
    remedy: 'name the folder of a checkpoint; weights in other formats must first be saved as safetensors',
  });
}

/** Libraries whose matrices lie as PyTorch's do, (out, in). */
const layouts = ['pt', 'np', 'mlx'];

async function openFile(files: Files, path: string): Promise<ReadonlyMap<string, TensorEntry>> {
  const { tensors, metadata } = await openSafetensors(files, path);
  const format = metadata.format ?? 'pt';
  if (layouts.includes(format)) return tensors;
  throw new SottoError('model', `weights in the layout of ${JSON.stringify(format.slice(0, 40))} are not read`, {
    place: { file: fileLabel(files, path), field: '__metadata__.format' },
    remedy: 'take the PyTorch weights of the model, saved as safetensors',
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
      shard = await openFile(files, path);
      shards.set(path, shard);
    }
    const entry = shard.get(name);
    if (entry === undefined) throw damaged(`the shard ${path} does not hold the tensor`, name);
    tensors.set(name, entry);
  }
  for (const [path, shard] of shards)
    for (const name of shard.keys())
      if (map[name] !== path) throw damaged(`the shard ${path} holds the tensor, and the index does not say so`, name);
  const absent = absentShard([...shards.keys()]);
  if (absent !== undefined) throw damaged(`no tensor is in ${absent}, though other shards are numbered so that there is one`);
  return tensors;
}

/** A file that the numbers of the others, `…-00001-of-00003.safetensors`, ask for. */
function absentShard(paths: readonly string[]): string | undefined {
  for (const path of paths) {
    const [, before, number, count] = /^(.*-)(\d{1,6})-of-(\d{1,6})\.safetensors$/.exec(path) ?? [];
    if (number === undefined) continue;
    for (let other = 1; other <= Number(count); other++) {
      const sibling = `${before}${String(other).padStart(number.length, '0')}-of-${count}.safetensors`;
      if (!paths.includes(sibling)) return sibling;
    }
  }
  return undefined;
}

/** What `writeCheckpoint` makes a folder of. */
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
