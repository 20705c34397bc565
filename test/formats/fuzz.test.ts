import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { trainBytePairTokenizer } from '../../src/lab/tokenizer.ts';
import { openCheckpoint, writeCheckpoint } from '../../src/models/checkpoint.ts';
import { parseModelConfig } from '../../src/models/config.ts';
import { type Files, memoryFiles } from '../../src/models/files.ts';
import { duplicateKey, parseJson } from '../../src/models/json.ts';
import { parsePreprocessor } from '../../src/models/preprocess.ts';
import { openSafetensors, readTensor, writeSafetensors } from '../../src/models/safetensors.ts';
import { loadTokenizer, streamingDecoder } from '../../src/models/tokenizer.ts';

const runs = { numRuns: 400 };
const encode = (value: unknown) => new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value));

/** Runs hostile input: it may be taken or refused with a typed error, nothing else. */
async function survives(work: () => unknown): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof SottoError)) throw error;
  }
}

/** Bytes damaged at some places, and perhaps cut or prolonged. */
const damage = (bytes: Uint8Array) =>
  fc
    .tuple(
      fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { maxLength: 4 }),
      fc.option(fc.nat(bytes.length), { freq: 3 }),
      fc.uint8Array({ maxLength: 3 }),
    )
    .map(([changes, cut, tail]) => {
      const changed = bytes.slice();
      for (const [position, value] of changes) changed[position] = value;
      return new Uint8Array([...changed.subarray(0, cut ?? changed.length), ...tail]);
    });

const oddValue = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom(0, -1, 1.5, 1e308, 2 ** 53, 2 ** 32, '', '__proto__', 'toString', null, [], {}, [[]], true),
);
type Path = (string | number)[];
function places(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, inner]) => places(inner, [...path, key]))];
}
/** A JSON value with one to three of its parts replaced, removed or joined by an unexpected one. */
const mutate = (value: object) => {
  const all = places(value).filter((path) => path.length > 0);
  const change = fc.record({ place: fc.nat(all.length - 1), to: oddValue, how: fc.constantFrom('replace', 'remove', 'join') });
  return fc.array(change, { minLength: 1, maxLength: 3 }).map((changes) => {
    const copy = structuredClone(value) as Record<string, unknown>;
    for (const { place, to: value, how } of changes) {
      const path = all[place]!;
      // Two changes may draw the very same object, and the second would put it into itself.
      const to = structuredClone(value);
      let parent: Record<string, unknown> | undefined = copy;
      for (const key of path.slice(0, -1)) parent = parent?.[key] as Record<string, unknown> | undefined;
      if (typeof parent !== 'object' || parent === null) continue;
      if (how === 'replace') parent[path.at(-1)!] = to;
      else if (how === 'remove') delete parent[path.at(-1)!];
      else parent[`${path.at(-1)}x`] = to;
    }
    return copy;
  });
};

/** Files that note the largest read: no parser may ask for more than there is. */
function watched(files: Files): { files: Files; largest: () => number } {
  let largest = 0;
  return {
    largest: () => largest,
    files: {
      ...files,
      read: async (path, range) => {
        const bytes = await files.read(path, range);
        largest = Math.max(largest, range ? range.end - range.start : bytes.length);
        return bytes;
      },
    },
  };
}

const tensors = [
  { name: 'a', shape: [2, 3], values: Float32Array.from({ length: 6 }, (_, i) => i) },
  { name: 'b', shape: [], values: Float32Array.of(4) },
  { name: 'c', shape: [0, 5], values: new Float32Array(0) },
];
async function readEverything(bytes: Uint8Array): Promise<void> {
  const { files, largest } = watched(memoryFiles({ a: bytes }));
  await survives(async () => {
    const opened = await openSafetensors(files, 'a');
    for (const entry of opened.tensors.values()) {
      const values = await readTensor(files, entry);
      expect(values.length).toBe(entry.shape.reduce((product, extent) => product * extent, 1));
      expect(values.every(Number.isFinite)).toBe(true);
    }
  });
  expect(largest()).toBeLessThanOrEqual(bytes.length);
}

describe('hostile files', () => {
  it('safetensors with damaged bytes are taken whole or refused', async () => {
    await fc.assert(fc.asyncProperty(damage(writeSafetensors(tensors)), readEverything), runs);
  });

  it('safetensors with odd headers are taken whole or refused, and never make a reader ask beyond the file', async () => {
    const header = {
      __metadata__: { format: 'pt' },
      a: { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
      b: { dtype: 'U8', shape: [4], data_offsets: [24, 28] },
    };
    const odd = fc.oneof(mutate(header), fc.jsonValue());
    await fc.assert(
      fc.asyncProperty(odd, fc.nat(40), async (value, dataBytes) => {
        const text = encode(value);
        const bytes = new Uint8Array(8 + text.length + dataBytes);
        new DataView(bytes.buffer).setUint32(0, text.length, true);
        bytes.set(text, 8);
        await readEverything(bytes);
      }),
      { numRuns: 1500 },
    );
  });

  it('deeply nested JSON is refused or taken, not a crash', async () => {
    for (const text of ['['.repeat(200_000), '{"a":'.repeat(100_000), `${'['.repeat(50_000)}${']'.repeat(50_000)}`]) {
      await survives(() => parseJson(encode(text), 'a'));
      await survives(() => openCheckpoint(memoryFiles({ 'config.json': text })));
    }
  });

  it('a key named twice is found, however it is spelt, and nowhere else', () => {
    expect(duplicateKey('{"a":1,"b":{"a":2,"c":"a"},"d":["a","a"]}')).toBe(null);
    expect(duplicateKey('{"a":1,"b":[{"x":1,"y":{},"x":2}]}')).toBe('x');
    expect(duplicateKey('{"a\\"":1, "a\\u0022" :2}')).toBe('a"');
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(duplicateKey(JSON.stringify(value))).toBe(null);
        expect(duplicateKey(JSON.stringify(value, null, 2))).toBe(null);
      }),
    );
  });

  it('checkpoint folders with a damaged index or config are refused or taken', async () => {
    const files = memoryFiles();
    await writeCheckpoint(files, { config: { model_type: 'llama' }, tensors, shardBytes: 20 });
    const stored = Object.fromEntries(
      await Promise.all(files.paths().map(async (path) => [path, await files.read(path)] as const)),
    );
    const index = JSON.parse(new TextDecoder().decode(stored['model.safetensors.index.json']));
    const open = (changed: Record<string, Uint8Array | string>) =>
      survives(async () => (await openCheckpoint(memoryFiles({ ...stored, ...changed }))).readAll());
    await fc.assert(
      fc.asyncProperty(fc.oneof(mutate(index), fc.jsonValue()), (value) =>
        open({ 'model.safetensors.index.json': JSON.stringify(value) }),
      ),
      runs,
    );
    await fc.assert(
      fc.asyncProperty(damage(stored['model.safetensors.index.json']!), (bytes) =>
        open({ 'model.safetensors.index.json': bytes }),
      ),
      runs,
    );
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 40 }), (bytes) => open({ 'config.json': bytes })),
      runs,
    );
  });

  it('odd settings are refused or lead to sizes within bounds', async () => {
    const scaling = {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    };
    const llama = {
      model_type: 'llama',
      hidden_size: 64,
      num_attention_heads: 8,
      num_key_value_heads: 4,
      head_dim: 8,
      eos_token_id: [1, 2],
      rope_scaling: scaling,
    };
    const vit = {
      model_type: 'vit',
      hidden_size: 48,
      image_size: 32,
      patch_size: 8,
      id2label: { 0: 'a', 1: 'b' },
      layer_norm_eps: 1e-12,
    };
    const pictures = {
      size: { height: 4, width: 4 },
      image_mean: [0, 0, 0],
      image_std: [1, 1, 1],
      resample: 2,
      rescale_factor: 0.1,
    };
    await fc.assert(
      fc.asyncProperty(fc.oneof(mutate(llama), mutate(vit), fc.jsonValue()), (raw) =>
        survives(() => {
          const config = parseModelConfig(raw);
          for (const value of Object.values(config))
            if (typeof value === 'number') expect(value >= 0 && value <= 1e12).toBe(true);
          expect(config.hiddenSize).toBeLessThanOrEqual(2 ** 17);
        }),
      ),
      { numRuns: 1500 },
    );
    await fc.assert(
      fc.asyncProperty(fc.oneof(mutate(pictures), fc.jsonValue()), (raw) => survives(() => parsePreprocessor(raw))),
      runs,
    );
  });

  it('tokenizers with odd or damaged files load, encode and decode or are refused', async () => {
    const trained = trainBytePairTokenizer(['the cat sat on the mat the cat'], { vocabularySize: 275 });
    const definition = trained['tokenizer.json'];
    const use = (changed: Record<string, Uint8Array | string>) =>
      survives(async () => {
        const tokenizer = await loadTokenizer(
          memoryFiles({
            'tokenizer.json': JSON.stringify(definition),
            'tokenizer_config.json': JSON.stringify(trained['tokenizer_config.json']),
            ...changed,
          }),
        );
        expect(tokenizer.vocabularySize).toBeLessThanOrEqual(2 ** 22);
        const ids = tokenizer.encode('the cat… <s> é');
        for (const id of ids) expect(Number.isInteger(id)).toBe(true);
        const decoder = streamingDecoder(tokenizer);
        for (const id of ids.slice(0, 5)) expect(typeof decoder.push(id)).toBe('string');
        expect(typeof tokenizer.decode(ids)).toBe('string');
      });
    // The vocabulary's many entries would otherwise draw nearly all changes.
    const { model, ...rest } = definition as { model: { vocab: object } };
    const { vocab, ...settings } = model;
    const odd = fc.oneof(
      mutate(rest).map((changed) => ({ ...changed, model })),
      mutate(settings).map((changed) => ({ ...rest, model: { ...changed, vocab } })),
      mutate(definition),
      fc.jsonValue(),
    );
    await fc.assert(
      fc.asyncProperty(odd, (value) => use({ 'tokenizer.json': JSON.stringify(value) })),
      { numRuns: 1200 },
    );
    await fc.assert(
      fc.asyncProperty(damage(encode(definition)), (bytes) => use({ 'tokenizer.json': bytes })),
      runs,
    );
    const config = mutate(trained['tokenizer_config.json']);
    await fc.assert(
      fc.asyncProperty(config, (value) => use({ 'tokenizer_config.json': JSON.stringify(value) })),
      runs,
    );
  });

  it('bytes that claim a huge header cost no memory', async () => {
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 64; i++) {
      const bytes = new Uint8Array(64);
      new DataView(bytes.buffer).setUint32(0, 99_999_999, true);
      await readEverything(bytes);
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 2 ** 20);
  });
});
