import { existsSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { openCheckpoint, writeCheckpoint } from '../../src/models/checkpoint.ts';
import { type Dtype, decodeValues, dtypeBits, floatToBfloat, floatToHalf, halfToFloat } from '../../src/models/dtypes.ts';
import { memoryFiles } from '../../src/models/files.ts';
import { type NamedTensor, openSafetensors, readTensor, writeSafetensors } from '../../src/models/safetensors.ts';
import { folderFiles } from '../../src/node/files.ts';

const shared = join(process.env.SOTTO_SHARED ?? join(import.meta.dirname, '../../../shared'), 'models');
const folders: string[] = [];
const folder = () => {
  const path = mkdtempSync(join(tmpdir(), 'sotto-formats-'));
  folders.push(path);
  return path;
};
afterEach(() => {
  for (const path of folders.splice(0)) rmSync(path, { recursive: true, force: true });
});

const refusal = async (work: Promise<unknown>): Promise<SottoError> => {
  const error = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(SottoError);
  return error as SottoError;
};

/** A safetensors file from a header and data, however wrong. */
function rawFile(header: unknown, dataBytes: number, claimedBytes?: bigint): Uint8Array {
  const text = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, claimedBytes ?? BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}
const openRaw = (bytes: Uint8Array) => openSafetensors(memoryFiles({ 'a.safetensors': bytes }, 'folder'), 'a.safetensors');
const f32 = (shape: number[], start: number, end: number) => ({ dtype: 'F32', shape, data_offsets: [start, end] });

const tensorsArbitrary = fc.uniqueArray(
  fc.record({
    name: fc.string({ minLength: 1, maxLength: 12 }).filter((name) => name !== '__metadata__' && name !== '__proto__'),
    values: fc.float32Array({ noNaN: true, noDefaultInfinity: true, maxLength: 24 }),
  }),
  { selector: (tensor) => tensor.name, maxLength: 6 },
);

describe('safetensors', () => {
  it('returns every bit of F32 tensors that were written', async () => {
    await fc.assert(
      fc.asyncProperty(tensorsArbitrary, async (list) => {
        const tensors = list.map(({ name, values }) => ({ name, shape: [values.length], values }));
        const files = memoryFiles({ a: writeSafetensors(tensors, { metadata: { by: 'test' } }) });
        const opened = await openSafetensors(files, 'a');
        expect(opened.metadata).toEqual({ format: 'pt', by: 'test' });
        expect(opened.tensors.size).toBe(tensors.length);
        for (const tensor of tensors) {
          const values = await readTensor(files, opened.tensors.get(tensor.name)!);
          expect(new Uint8Array(values.buffer)).toEqual(new Uint8Array(tensor.values.slice().buffer));
        }
      }),
      { numRuns: 100 },
    );
  });

  it('converts all 65536 half-precision patterns there and back', () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = halfToFloat(bits);
      if (!Number.isNaN(value)) expect(floatToHalf(value) === bits, `pattern ${bits}`).toBe(true);
    }
  });

  it('reads every half and bfloat to the bit, wherever the bytes lie', () => {
    const bytes = new Uint8Array(2 * 65536 + 1);
    for (let bits = 0; bits < 65536; bits++) new DataView(bytes.buffer).setUint16(1 + 2 * bits, bits, true);
    for (const part of [bytes.subarray(1), bytes.slice(1)]) {
      expect(decodeValues('F16', part)).toEqual(Float32Array.from({ length: 65536 }, (_, bits) => halfToFloat(bits)));
      const patterns = new Uint32Array(decodeValues('BF16', part).buffer);
      expect(patterns.every((pattern, bits) => pattern === bits * 65536)).toBe(true);
    }
  });

  it('rounds to the nearest half and bfloat, ties to even', () => {
    expect(halfToFloat(floatToHalf(1 + 2 ** -11))).toBe(1);
    expect(halfToFloat(floatToHalf(1 + 3 * 2 ** -11))).toBe(1 + 2 ** -9);
    expect(halfToFloat(floatToHalf(2 ** -25))).toBe(0);
    expect(halfToFloat(floatToHalf(3 * 2 ** -26))).toBe(2 ** -24);
    expect(halfToFloat(floatToHalf(65504))).toBe(65504);
    expect(floatToHalf(65520)).toBe(0x7c00);
    expect(floatToBfloat(1 + 2 ** -8)).toBe(0x3f80);
    expect(floatToBfloat(1 + 3 * 2 ** -8)).toBe(0x3f82);
    fc.assert(
      fc.property(fc.float({ min: -65000, max: 65000, noNaN: true }), (value) => {
        const half = halfToFloat(floatToHalf(value));
        expect(Math.abs(half - value)).toBeLessThanOrEqual(Math.max(2 ** -25, Math.abs(value) * 2 ** -11));
      }),
    );
  });

  it('stores F16 and BF16 within half a unit of their last place', async () => {
    const values = Float32Array.from([0, -1.5, 3.2, 1e-3, 60000]);
    for (const [dtype, relative] of [
      ['F16', 2 ** -11],
      ['BF16', 2 ** -8],
    ] as const) {
      const files = memoryFiles({ a: writeSafetensors([{ name: 'x', shape: [5], values }], { dtype }) });
      const entry = (await openSafetensors(files, 'a')).tensors.get('x')!;
      expect(entry.dtype).toBe(dtype);
      const read = await readTensor(files, entry);
      for (let i = 0; i < 5; i++) expect(Math.abs(read[i]! - values[i]!)).toBeLessThanOrEqual(Math.abs(values[i]!) * relative);
    }
    expect(() => writeSafetensors([{ name: 'x', shape: [1], values: Float32Array.of(70000) }], { dtype: 'F16' })).toThrow(
      /element 0/,
    );
  });

  it('reads doubles where a 32-bit float holds them, and no codes: whole numbers and eight-bit floats are refused', async () => {
    const cases: [Dtype, (view: DataView) => void, number | null][] = [
      ['F64', (view) => view.setFloat64(0, 0.25, true), 0.25],
      ['F64', (view) => view.setFloat64(0, 1e300, true), null],
      ['F32', (view) => view.setFloat32(0, Number.NaN, true), null],
      ['F16', (view) => view.setUint16(0, 0x7c00, true), null],
      ['BF16', (view) => view.setUint16(0, 0xff80, true), null],
      ['F64', (view) => view.setFloat64(0, -0, true), -0],
      ...(['I64', 'U64', 'I32', 'U32', 'I16', 'U16', 'I8', 'U8', 'BOOL', 'F8_E4M3', 'F8_E5M2', 'F8_E8M0', 'C64'] as const).map(
        (dtype): [Dtype, (view: DataView) => void, null] => [dtype, (view) => view.setUint8(0, 1), null],
      ),
    ];
    for (const [dtype, fill, expected] of cases) {
      const size = dtypeBits[dtype] / 8;
      const bytes = rawFile({ x: { dtype, shape: [1], data_offsets: [0, size] } }, size);
      fill(new DataView(bytes.buffer, bytes.length - size));
      const files = memoryFiles({ a: bytes }, 'folder');
      const entry = (await openSafetensors(files, 'a')).tensors.get('x')!;
      if (expected !== null) expect((await readTensor(files, entry))[0]).toBe(expected);
      else expect((await refusal(readTensor(files, entry))).place).toEqual({ file: 'folder/a', tensor: 'x' });
    }
  });

  it.each<[string, Uint8Array, RegExp]>([
    ['an empty file', new Uint8Array(0), /fewer than the 8/],
    ['a header longer than the file', rawFile({}, 0, 500n), /claims 500 bytes/],
    ['a header of 2^63 bytes', rawFile({}, 0, 1n << 63n), /above the format/],
    ['a header that is not JSON', rawFile('{"a":', 0), /not valid JSON/],
    ['a header that is not UTF-8', rawFile({}, 0).fill(0xff, 8), /not valid UTF-8/],
    ['a header that is a list', rawFile([], 0), /not a JSON object/],
    ['a tensor named twice', rawFile('{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"\\u0061":{}}', 4), /"a" twice/],
    ['metadata that is not text', rawFile({ __metadata__: { a: 1 } }, 0), /other than text/],
    ['an entry that is a number', rawFile({ a: 3 }, 0), /entry is not an object/],
    ['a type the format does not know', rawFile({ a: { dtype: 'F31', shape: [1], data_offsets: [0, 4] } }, 4), /dtype "F31"/],
    [
      'a type named like a method',
      rawFile({ a: { dtype: 'toString', shape: [1], data_offsets: [0, 4] } }, 4),
      /dtype "toString"/,
    ],
    ['a negative extent', rawFile({ a: f32([-1, -1], 0, 4) }, 4), /whole numbers/],
    ['a fractional extent', rawFile({ a: f32([0.5, 2], 0, 4) }, 4), /whole numbers/],
    ['a product beyond every integer', rawFile({ a: f32([2 ** 52, 2 ** 52, 2 ** 52], 0, 4) }, 4), /does not fill/],
    ['a shape that does not fill its bytes', rawFile({ a: f32([2], 0, 4) }, 4), /does not fill/],
    ['offsets beyond the file', rawFile({ a: f32([2], 0, 8) }, 4), /outside the 4 bytes/],
    ['offsets in reverse', rawFile({ a: f32([1], 4, 0) }, 4), /outside the 4 bytes/],
    ['overlapping tensors', rawFile({ a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12), /tensor b: its bytes overlap/],
    ['a gap between tensors', rawFile({ a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12), /4 bytes before it/],
    ['data after the last tensor', rawFile({ a: f32([1], 0, 4) }, 9), /5 bytes at the end/],
  ])('refuses %s', async (_name, bytes, reason) => {
    const error = await refusal(openRaw(bytes));
    expect(error.kind).toBe('input');
    expect(error.place.file).toBe('folder/a.safetensors');
    expect(error.message).toMatch(reason);
  });
});

const config = { model_type: 'llama', hidden_size: 4, torch_dtype: 'float32', sotto: { any: ['thing', 1e-5] } };
const someTensors = (count: number): NamedTensor[] =>
  Array.from({ length: count }, (_, index) => ({
    name: `layers.${index}.weight`,
    shape: [2, 3],
    values: Float32Array.from({ length: 6 }, (_, i) => Math.fround(Math.sin(index * 6 + i))),
  }));

describe('checkpoint', () => {
  it('returns config, tensors, companions and extra files as written, in one file or in shards', async () => {
    for (const shardBytes of [2 ** 20, 50]) {
      const files = memoryFiles();
      const companions = memoryFiles({ 'tokenizer.json': '{}', 'unrelated.bin': 'x' });
      await writeCheckpoint(files, { config, tensors: someTensors(5), shardBytes, companions, extra: { 'README.md': 'hello' } });
      const paths = files.paths();
      expect(paths.filter((path) => path.endsWith('.safetensors')).length).toBe(shardBytes === 50 ? 3 : 1);
      expect(paths).toContain('tokenizer.json');
      expect(paths).not.toContain('unrelated.bin');
      expect(paths.at(-1)).toBe('config.json');
      const checkpoint = await openCheckpoint(files);
      expect(checkpoint.config).toEqual(config);
      const all = await checkpoint.readAll();
      expect([...all].map(([name, { shape, values }]) => ({ name, shape, values }))).toEqual(someTensors(5));
      expect(checkpoint.shape('layers.2.weight')).toEqual([2, 3]);
    }
  });

  it('names the type of the weights truly in config.json', async () => {
    const files = memoryFiles();
    await writeCheckpoint(files, { config, tensors: someTensors(1), dtype: 'BF16' });
    expect((await openCheckpoint(files)).config.torch_dtype).toBe('bfloat16');
  });

  it('names folder, file, field and tensor of what is wrong', async () => {
    const index = (map: unknown) => ({
      'config.json': '{}',
      'model.safetensors.index.json': JSON.stringify({ weight_map: map }),
    });
    expect((await refusal(openCheckpoint(memoryFiles({}, 'here')))).place.file).toBe('here/config.json');
    expect((await refusal(openCheckpoint(memoryFiles({ 'config.json': '{}' }, 'here')))).message).toMatch(
      /neither model.safetensors/,
    );
    expect((await refusal(openCheckpoint(memoryFiles({ 'config.json': '[]' })))).message).toMatch(/not hold a JSON object/);
    expect((await refusal(openCheckpoint(memoryFiles(index({ a: '../secret' }))))).message).toMatch(/\.\. part/);
    expect((await refusal(openCheckpoint(memoryFiles(index({ a: 3 }))))).place).toMatchObject({
      field: 'weight_map',
      tensor: 'a',
    });
    const shard = { 'x.safetensors': writeSafetensors(someTensors(1)) };
    expect((await refusal(openCheckpoint(memoryFiles({ ...index({ a: 'x.safetensors' }), ...shard })))).place.tensor).toBe('a');
    const whole = await openCheckpoint(memoryFiles({ 'config.json': '{}', 'model.safetensors': shard['x.safetensors'] }));
    expect((await refusal(whole.read('absent'))).place.tensor).toBe('absent');
  });

  it('refuses shards beside a whole file, which would win over them', async () => {
    const files = memoryFiles();
    await writeCheckpoint(files, { config, tensors: someTensors(2) });
    expect((await refusal(writeCheckpoint(files, { config, tensors: someTensors(2), shardBytes: 8 }))).kind).toBe('usage');
  });

  it('goes to disk and back, and leaves no temporary file', async () => {
    const directory = folder();
    const files = folderFiles(join(directory, 'new'));
    await writeCheckpoint(files, { config, tensors: someTensors(3) });
    expect(readdirSync(join(directory, 'new')).sort()).toEqual(['config.json', 'model.safetensors']);
    expect((await openCheckpoint(files)).names().length).toBe(3);
  });

  it('keeps paths and writes inside the folder', async () => {
    const directory = folder();
    writeFileSync(join(directory, 'secret'), 'x');
    const files = folderFiles(join(directory, 'inner'));
    await files.write('a/b.txt', new Uint8Array(3));
    for (const path of ['../secret', '/etc/passwd', 'a/../../secret', 'a\\..\\b', '', 'a//b', 'nul\0', 'C:/x']) {
      expect(await files.exists(path)).toBe(false);
      await refusal(files.read(path));
      await refusal(files.size(path));
      await refusal(files.write(path, new Uint8Array(1)));
    }
    symlinkSync(directory, join(directory, 'inner', 'out'));
    expect((await refusal(files.write('out/planted', new Uint8Array(1)))).message).toMatch(/outside the folder/);
    expect(readdirSync(directory).sort()).toEqual(['inner', 'secret']);
    expect((await refusal(files.read('a/b.txt', { start: 0, end: 4 }))).message).toMatch(/outside the file of 3 bytes/);
    await refusal(files.read('a'));
  });
});

describe.skipIf(!existsSync(shared))('published checkpoints', () => {
  it.each(['stories260K', 'babyllama-105', 'tiny-vit'])('%s survives a round trip bit for bit', async (name) => {
    const source = folderFiles(join(shared, name));
    const checkpoint = await openCheckpoint(source);
    const all = await checkpoint.readAll();
    const copy = memoryFiles();
    const tensors = [...all].map(([tensorName, { shape, values }]) => ({ name: tensorName, shape, values }));
    await writeCheckpoint(copy, { config: checkpoint.config, tensors, companions: source, shardBytes: 200_000 });
    const again = await openCheckpoint(copy);
    expect(again.config).toEqual(checkpoint.config);
    expect(again.names()).toEqual(checkpoint.names());
    for (const [tensorName, { values }] of all) {
      const same = Buffer.compare(Buffer.from(values.buffer), Buffer.from((await again.read(tensorName)).buffer)) === 0;
      expect(same, tensorName).toBe(true);
    }
  });
});
