import { SottoError } from '../errors/index.ts';
import {
  type Dtype,
  decodeValues,
  dtypeBits,
  encodeValues,
  isDtype,
  isFloat,
  type WritableDtype,
  writableBytes,
} from './dtypes.ts';
import { type Files, fileLabel, refusePointer } from './files.ts';
import { isObject, parseJson } from './json.ts';

/** The published limit of the format for its header. */
const headerLimitBytes = 100_000_000;
const rankLimit = 16;

/** Where a tensor lies in a safetensors file. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** Path of the file inside its folder. */
  readonly file: string;
  /** First byte of the tensor in the file. */
  readonly start: number;
}

/** A file's header, checked against its length: tensors by name, and its free texts. */
export interface SafetensorsFile {
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** A tensor that is to be written under a name. */
export interface NamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Row-major; its length is the product of the shape. */
  readonly values: Float32Array;
}

/**
 * Reads and checks the header of a safetensors file; no tensor is loaded. Names are unique, shapes fit their bytes, and the
 * tensors cover the data exactly, without gap or overlap. Everything else is an `input` error naming file and tensor.
 */
export async function openSafetensors(files: Files, path: string): Promise<SafetensorsFile> {
  const file = fileLabel(files, path);
  const sizeBytes = await files.size(path);
  const damaged = (reason: string, tensor?: string) => damage(file, reason, tensor);
  if (sizeBytes < 8) throw damaged(`the file has ${sizeBytes} bytes, fewer than the 8 of a header length`);
  refusePointer(await files.read(path, { start: 0, end: Math.min(sizeBytes, 64) }), file);
  const prefix = await files.read(path, { start: 0, end: 8 });
  const lengths = new DataView(prefix.buffer, prefix.byteOffset, 8);
  const headerBytes = lengths.getUint32(0, true) + lengths.getUint32(4, true) * 2 ** 32;
  if (headerBytes > headerLimitBytes)
    throw damaged(`the header claims ${headerBytes} bytes, above the format's ${headerLimitBytes}`);
  if (headerBytes > sizeBytes - 8) throw damaged(`the header claims ${headerBytes} bytes, the file has ${sizeBytes - 8} left`);
  const header = parseJson(await files.read(path, { start: 8, end: 8 + headerBytes }), file, 'the header');
  if (!isObject(header)) throw damaged('the header is not a JSON object');

  const dataStart = 8 + headerBytes;
  const dataBytes = sizeBytes - dataStart;
  const metadata = readMetadata(header.__metadata__, damaged);
  const entries: TensorEntry[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name !== '__metadata__') entries.push(readEntry(name, value, path, dataStart, dataBytes, damaged));
  }
  checkCover(entries, dataStart, sizeBytes, damaged);
  return { tensors: new Map(entries.map((entry) => [entry.name, entry])), metadata };
}

type Damaged = (reason: string, tensor?: string) => SottoError;

function damage(file: string, reason: string, tensor?: string): SottoError {
  return new SottoError('input', reason, {
    place: { file, ...(tensor === undefined ? {} : { tensor: tensor.slice(0, 200) }) },
    remedy: 'the file is damaged or not a safetensors file: fetch or export it again',
  });
}

function readMetadata(value: unknown, damaged: Damaged): Record<string, string> {
  if (value === undefined) return {};
  if (!isObject(value)) throw damaged('__metadata__ of the header is not an object');
  const metadata: [string, string][] = [];
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') throw damaged('__metadata__ of the header holds something other than text');
    metadata.push([key, text]);
  }
  return Object.fromEntries(metadata);
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function readEntry(
  name: string,
  value: unknown,
  path: string,
  dataStart: number,
  dataBytes: number,
  damaged: Damaged,
): TensorEntry {
  if (!isObject(value)) throw damaged('its header entry is not an object', name);
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isDtype(dtype)) throw damaged(`its dtype ${JSON.stringify(dtype)?.slice(0, 60)} is not of the format`, name);
  if (!Array.isArray(shape) || shape.length > rankLimit || !shape.every(isCount)) {
    throw damaged(`its shape is not a list of at most ${rankLimit} whole numbers`, name);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount))
    throw damaged('its data_offsets are not two whole numbers', name);
  const [start, end] = offsets as [number, number];
  if (start > end || end > dataBytes)
    throw damaged(`its bytes ${start} to ${end} are outside the ${dataBytes} bytes of data`, name);
  let count = 1;
  for (const extent of shape as number[]) count *= extent;
  if (count * dtypeBits[dtype] !== 8 * (end - start)) {
    throw damaged(`its shape [${shape.join(', ')}] of ${dtype} does not fill its ${end - start} bytes`, name);
  }
  return { name, dtype, shape: shape as number[], byteLength: end - start, file: path, start: dataStart + start };
}

function checkCover(entries: readonly TensorEntry[], dataStart: number, sizeBytes: number, damaged: Damaged): void {
  const sorted = [...entries].sort((a, b) => a.start - b.start || a.byteLength - b.byteLength);
  let end = dataStart;
  for (const entry of sorted) {
    if (entry.start < end) throw damaged('its bytes overlap those of another tensor', entry.name);
    if (entry.start > end) throw damaged(`${entry.start - end} bytes before it belong to no tensor`, entry.name);
    end = entry.start + entry.byteLength;
  }
  if (end !== sizeBytes) throw damaged(`${sizeBytes - end} bytes at the end belong to no tensor`);
}

/**
 * Loads one tensor as 32-bit floats, row-major; F16 and BF16 are exact, F64 is rounded. Whole numbers and eight-bit floats are codes whose
 * scales stand elsewhere: they are never read as values. That, and a value that is not finite, is an `input` error naming file and tensor.
 */
export async function readTensor(files: Files, entry: TensorEntry): Promise<Float32Array> {
  const { dtype } = entry;
  const place = { file: fileLabel(files, entry.file), tensor: entry.name };
  if (!isFloat(dtype)) {
    throw new SottoError('input', `values of type ${dtype} are not read as weights`, {
      place,
      remedy: 'quantised weights are not supported: take the checkpoint in F32, F16 or BF16',
    });
  }
  const bytes = await files.read(entry.file, { start: entry.start, end: entry.start + entry.byteLength });
  const values = decodeValues(dtype, bytes);
  const index = firstNonFinite(values);
  if (index >= 0) {
    throw new SottoError('input', `element ${index} is not a finite number of 32 bits`, {
      place,
      remedy: 'the file is damaged, or its training run diverged: take another checkpoint',
    });
  }
  return values;
}

/** Bytes of two tensors that are compared at a time. */
const comparedBytes = 2 ** 24;

/** Whether two tensors have the same type, shape and bytes. */
export async function sameBytes(files: Files, one: TensorEntry, other: TensorEntry): Promise<boolean> {
  if (one.dtype !== other.dtype || one.shape.join() !== other.shape.join()) return false;
  for (let at = 0; at < one.byteLength; at += comparedBytes) {
    const end = Math.min(at + comparedBytes, one.byteLength);
    const part = ({ file, start }: TensorEntry) => files.read(file, { start: start + at, end: start + end });
    const [left, right] = [await part(one), await part(other)];
    if (left.some((byte, index) => byte !== right[index])) return false;
  }
  return true;
}

function firstNonFinite(values: Float32Array): number {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i]!)) return i;
  return -1;
}

/** What tensors are stored in (`F32` where absent), and free texts of the header. */
export interface WriteOptions {
  readonly dtype?: WritableDtype;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Writes tensors, in the order given, as the bytes of one safetensors file. F32 is exact; F16 and BF16 round to nearest. */
export function writeSafetensors(tensors: Iterable<NamedTensor>, options: WriteOptions = {}): Uint8Array {
  const dtype = options.dtype ?? 'F32';
  const list = [...tensors];
  const header: [string, unknown][] = [['__metadata__', { format: 'pt', ...options.metadata }]];
  const names = new Set<string>();
  let offset = 0;
  for (const tensor of list) {
    checkWritable(tensor, dtype);
    if (names.has(tensor.name)) throw unwritable(tensor, 'two tensors have this name');
    names.add(tensor.name);
    const end = offset + tensor.values.length * writableBytes[dtype];
    header.push([tensor.name, { dtype, shape: tensor.shape, data_offsets: [offset, end] }]);
    offset = end;
  }
  const text = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  // Spaces after the JSON start the data at a multiple of eight bytes, as the reference writer does.
  const headerBytes = Math.ceil(text.length / 8) * 8;
  const bytes = new Uint8Array(8 + headerBytes + offset);
  new DataView(bytes.buffer).setUint32(0, headerBytes, true);
  bytes.fill(32, 8, 8 + headerBytes);
  bytes.set(text, 8);
  let position = 8 + headerBytes;
  for (const { values } of list) {
    encodeValues(dtype, values, bytes, position);
    position += values.length * writableBytes[dtype];
  }
  return bytes;
}

const unwritable = (tensor: NamedTensor, reason: string) =>
  new SottoError('input', reason, {
    place: { tensor: tensor.name.slice(0, 200) },
    remedy: 'correct the tensor before writing it',
  });

function checkWritable(tensor: NamedTensor, dtype: WritableDtype): void {
  if (tensor.name === '__metadata__' || tensor.name === '__proto__') throw unwritable(tensor, 'this name is reserved');
  const count = tensor.shape.reduce((product, extent) => product * extent, 1);
  if (!tensor.shape.every(isCount) || count !== tensor.values.length) {
    throw unwritable(tensor, `the shape [${tensor.shape.join(', ')}] does not fit its ${tensor.values.length} values`);
  }
  const limit = dtype === 'F16' ? 65519.996 : dtype === 'BF16' ? 3.3961e38 : Number.MAX_VALUE;
  for (let i = 0; i < tensor.values.length; i++) {
    if (!(Math.abs(tensor.values[i]!) <= limit)) throw unwritable(tensor, `element ${i} is not a finite number of type ${dtype}`);
  }
}

/** One file of a set: its path and bytes. */
export interface WrittenFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

/**
 * Writes tensors as `model.safetensors`, or above `shardBytes` of data as numbered shards with their index. Yields one file at
 * a time, so that only one is held in memory; the index comes last.
 */
export function* writeShards(
  tensors: readonly NamedTensor[],
  shardBytes: number,
  options: WriteOptions = {},
): Generator<WrittenFile> {
  const elementBytes = writableBytes[options.dtype ?? 'F32'];
  const shards: NamedTensor[][] = [[]];
  let filled = 0;
  let total = 0;
  for (const tensor of tensors) {
    const bytes = tensor.values.length * elementBytes;
    if (filled > 0 && filled + bytes > shardBytes) {
      shards.push([]);
      filled = 0;
    }
    shards.at(-1)!.push(tensor);
    filled += bytes;
    total += bytes;
  }
  if (shards.length === 1) {
    yield { path: 'model.safetensors', bytes: writeSafetensors(tensors, options) };
    return;
  }
  const names = new Set(tensors.map((tensor) => tensor.name));
  if (names.size !== tensors.length) throw unwritable(tensors[0]!, 'two tensors of the checkpoint have the same name');
  const number = (index: number) => String(index).padStart(5, '0');
  const places: [string, string][] = [];
  for (const [index, shard] of shards.entries()) {
    const path = `model-${number(index + 1)}-of-${number(shards.length)}.safetensors`;
    for (const tensor of shard) places.push([tensor.name, path]);
    yield { path, bytes: writeSafetensors(shard, options) };
  }
  const index = { metadata: { total_size: total }, weight_map: Object.fromEntries(places) };
  yield { path: 'model.safetensors.index.json', bytes: new TextEncoder().encode(`${JSON.stringify(index, null, 2)}\n`) };
}
