import { appendFileSync, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { storedManifests } from '../../src/browser/manifests.ts';
import { openCheckpoint } from '../../src/models/checkpoint.ts';
import { parseModelConfig } from '../../src/models/config.ts';
import { loadTokenizer } from '../../src/models/tokenizer.ts';
import { folderFiles } from '../../src/node/files.ts';
import { listen } from '../../src/node/sockets.ts';
import { type Control, greet, sendControl } from '../../src/party/control.ts';
import { acceptManifest, type KnownManifests, parseManifestHash } from '../../src/party/known-manifests.ts';
import { knownManifests } from '../../src/party/known-manifests-node.ts';
import { checkManifest, checkSize, manifestHash, openManifest, readManifest, traceRun } from '../../src/party/manifest.ts';
import { root as checkout } from '../cli/command.ts';
import { llamaFields, temporary } from '../party/models.ts';
import { type Json, run, watchedClient, writeHostile } from './parties.ts';

vi.setConfig({ testTimeout: 60_000 });
const { path: root, remove } = temporary();
afterAll(remove);

const manifestOf = async (folder: string): Promise<Control<'manifest'>> => {
  const files = folderFiles(folder);
  return await readManifest(files, (await openCheckpoint(files)).config);
};

describe('a manifest', () => {
  const folder = join(root, 'model');
  const notes = { _name_or_path: '/home/operator/secret-project', torch_dtype: 'float32', transformers_version: '4.1' };
  beforeAll(() => writeHostile(folder, { config: notes }));

  it('holds what a client needs and nothing else', async () => {
    const manifest = await manifestOf(folder);
    const said = JSON.stringify(manifest);
    for (const word of ['secret-project', 'torch_dtype', 'transformers_version', 'ranges', '12.25', 'full-p4'])
      expect(said).not.toContain(word);
    expect(Object.keys(manifest.files).sort()).toEqual(['tokenizer.json', 'tokenizer_config.json']);
    checkManifest(manifest);
  });

  it.each(['stories-polynomial', 'stories-teacher'])('of %s has the program and the ids of the whole folder', async (name) => {
    const path = join(checkout, 'artefacts', name);
    const manifest = await manifestOf(path);
    const { config } = await openCheckpoint(folderFiles(path));
    const asked = { task: 'generate', promptTokens: 3, newTokens: 2, ring: { bits: 64, fraction: 16 } } as const;
    expect(traceRun(manifest.config, asked).hash).toBe(traceRun(config, asked).hash);
    const [own, published] = [await openManifest(manifest).tokenizer(), await loadTokenizer(folderFiles(path))];
    for (const text of ['One day, a dog named Max', '  two\n\nlines ', 'ünïcode 日本 👩‍👩‍👧', '</s><s>'])
      expect(own.encode(text)).toEqual(published.encode(text));
  });

  it.each<Json>([
    { rope_theta: 5e5 },
    { rope_scaling: { type: 'linear', factor: 2 } },
    { rope_parameters: { rope_theta: 1e6, rope_type: 'linear', factor: 4 } },
    { eos_token_id: [2, 3], bos_token_id: null, attention_bias: true, tie_word_embeddings: true, head_dim: 8 },
  ])('keeps the fields that a definition reads: %j', async (fields) => {
    const raw: Json = { ...llamaFields, ...fields };
    const { config } = await readManifest({ ...folderFiles(root), exists: async () => false }, raw);
    expect(parseModelConfig(config)).toEqual(parseModelConfig(raw));
  });

  it('is named by a hash of all that it holds, in any order of keys', async () => {
    const { config, files } = await manifestOf(folder);
    const hash = manifestHash({ config, files });
    expect(hash).toMatch(/^[0-9a-f]{64}$/);
    expect(manifestHash({ files, config: Object.fromEntries(Object.entries(config).reverse()) })).toBe(hash);
    for (const [key, value] of Object.entries(config)) {
      const { [key]: _, ...without } = config;
      expect(manifestHash({ files, config: without })).not.toBe(hash);
      expect(manifestHash({ files, config: { ...config, [key]: [value] } })).not.toBe(hash);
    }
    for (const [name, text] of Object.entries(files))
      expect(manifestHash({ config, files: { ...files, [name]: `${text} ` } })).not.toBe(hash);
  });

  it('with other files, other fields or nesting without an end is refused', async () => {
    const manifest = await manifestOf(folder);
    const refused = { name: 'SottoError', kind: 'peer', place: { party: 'server' } };
    const deep = JSON.parse(`${'['.repeat(5000)}${']'.repeat(5000)}`) as unknown;
    for (const wrong of [
      { ...manifest, files: { ...manifest.files, 'modeling.py': '' } },
      { ...manifest, config: { ...manifest.config, _name_or_path: 'x' } },
      { ...manifest, config: { ...manifest.config, hidden_act: deep } },
    ])
      expect(() => checkManifest(wrong)).toThrow(expect.objectContaining(refused));
  });
});

describe('a manifest that changes', () => {
  const [first, second] = ['first', 'second'].map((name) => join(root, name)) as [string, string];
  const task = { prompt: { ids: [5] }, newTokens: 1 };
  beforeAll(async () => {
    await writeHostile(first, {});
    await writeHostile(second, { config: { eos_token_id: [7] } });
  });

  it('is refused at the address that showed another one, before anything is asked for, until its hash is given', async () => {
    const here = { place: 'changing', state: 'client' };
    const hash = manifestHash(await manifestOf(second));
    expect((await run(root, first, task, here)).report).not.toBeInstanceOf(Error);
    expect((await run(root, first, task, here)).report).not.toBeInstanceOf(Error);
    const changed = await run(root, second, task, here);
    expect(changed.report).toMatchObject({ kind: 'peer', place: { party: 'server' }, reason: expect.stringContaining(hash) });
    // A hello each way, the manifest, and that it goes.
    expect(Object.values(changed.transcript)).toHaveLength(1);
    expect(changed.transcript['0 server']!.map((frame) => frame[0]).join('')).toBe('><<>');
    expect((await run(root, second, task, here)).report).toBeInstanceOf(Error);
    expect((await run(root, second, task, { ...here, manifestHash: hash })).report).not.toBeInstanceOf(Error);
    expect((await run(root, second, task, here)).report).not.toBeInstanceOf(Error);
    expect((await run(root, first, task, here)).report).toBeInstanceOf(Error);
    // Another client meets it for the first time.
    expect((await run(root, first, task, { ...here, state: 'other' })).report).not.toBeInstanceOf(Error);
  });

  it('is refused where it is not the one that was given', async () => {
    const wrong = await run(root, first, task, { manifestHash: '0'.repeat(64) });
    expect(wrong.report).toMatchObject({ kind: 'peer', place: { party: 'server' } });
    expect(Object.values(wrong.transcript)).toHaveLength(1);
  });
});

describe.each(['a file', 'a page'])('what is remembered in %s', (kind) => {
  let places = 0;
  const memory = (): Map<string, string> & {
    getItem: (key: string) => string | null;
    setItem: (key: string, value: string) => void;
  } => {
    const kept = new Map<string, string>();
    return Object.assign(kept, {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, value: string) => void kept.set(key, value),
    });
  };
  const fresh = (): (() => KnownManifests) => {
    const [storage, state] = [memory(), join(root, `known-${places++}`)];
    return () => (kind === 'a file' ? knownManifests(state) : storedManifests(storage));
  };

  it('is the last hash of each address, whatever addresses look like', async () => {
    const hash = fc.stringMatching(/^[0-9a-f]{64}$/);
    const steps = fc.array(fc.tuple(fc.oneof(fc.string(), fc.constantFrom('tls:a:1', 'a"b', 'a\nb', '\\')), hash), {
      maxLength: 8,
    });
    await fc.assert(
      fc.asyncProperty(steps, async (all) => {
        const open = fresh();
        for (const [server, value] of all) await open().remember(server, value);
        for (const [server] of all) expect(await open().find(server)).toBe(all.findLast(([name]) => name === server)![1]);
        expect(await open().find('nobody')).toBeUndefined();
      }),
      { numRuns: 25 },
    );
  });

  it('decides what is accepted', async () => {
    const open = fresh();
    const [a, b] = ['a', 'b'].map((digit) => digit.repeat(64)) as [string, string];
    const meet = (hash: string, given?: string) => acceptManifest({ server: 's', given }, hash, open());
    await meet(a);
    await meet(a);
    await expect(meet(b)).rejects.toMatchObject({ kind: 'peer' });
    await expect(meet(b, a)).rejects.toMatchObject({ kind: 'peer' });
    await meet(a);
    await meet(b, b);
    await expect(meet(a)).rejects.toMatchObject({ kind: 'peer' });
  });
});

it('refuses a file of known manifests that is damaged, instead of meeting everybody for the first time', async () => {
  for (const tail of ['garbage\n', '"torn', '"s" sha256:00\n']) {
    const state = join(root, `damaged-${tail.length}`);
    await knownManifests(state).remember('s', '0'.repeat(64));
    appendFileSync(join(state, 'known-manifests'), tail);
    await expect(knownManifests(state).find('s')).rejects.toMatchObject({ kind: 'input' });
  }
});

it('takes a hash with its algorithm or without, and nothing else', () => {
  const hex = 'ab'.repeat(32);
  expect([hex, `sha256:${hex}`].map((text) => parseManifestHash(text, 'f'))).toEqual([hex, hex]);
  for (const text of ['', 'sha256:', hex.slice(1), hex.toUpperCase(), `md5:${hex}`])
    expect(() => parseManifestHash(text, 'f')).toThrow(expect.objectContaining({ kind: 'usage' }));
});

describe('a configuration that asks for gigantic shapes', () => {
  const gigantic: Json[] = [
    { vocab_size: 2 ** 22 },
    { hidden_size: 2 ** 17, num_attention_heads: 2, num_key_value_heads: 2, intermediate_size: 2 ** 20 },
    { num_hidden_layers: 1024 },
    { num_attention_heads: 4096, num_key_value_heads: 1, head_dim: 8192 },
  ];

  it.each(gigantic)('is refused by a client, which asks for nothing: %j', async (fields) => {
    const place = join(root, `gigantic-${gigantic.indexOf(fields)}`);
    mkdirSync(place, { mode: 0o700 });
    const listener = await listen({ address: `unix:${place}/server`, peer: 'client', timeoutMilliseconds: 10_000 });
    const folder = join(root, 'any');
    if (!existsSync(folder)) await writeHostile(folder, {});
    const { files } = await manifestOf(folder);
    const serving = (async () => {
      const channel = await listener.accept();
      await greet(channel, 'server', ['client']);
      const config: Json = { ...llamaFields, ...fields, max_position_embeddings: 2 ** 20 };
      await sendControl(channel, { type: 'manifest', config: (await readManifest(folderFiles(place), config)).config, files });
      return await channel.receive().catch((error: Error) => error);
    })();
    const options = { server: `unix:${place}/server`, dealer: 'unix:/nowhere', ring: { bits: 64, fraction: 16 } };
    const before = process.memoryUsage().rss;
    const outcome = await watchedClient(join(place, 'client'), {
      ...options,
      task: { kind: 'generate', prompt: { text: 'the bird '.repeat(30) }, newTokens: 64 },
    });
    await serving;
    await listener.close();
    expect(outcome.report).toMatchObject({
      kind: 'peer',
      place: { party: 'server' },
      reason: expect.stringContaining('no client'),
    });
    expect(process.memoryUsage().rss - before).toBeLessThan(2 ** 28);
  });

  it('is not what real models are', () => {
    const shapes: [Json, number, number][] = [
      [
        {
          hidden_size: 4096,
          intermediate_size: 11008,
          num_hidden_layers: 32,
          num_attention_heads: 32,
          num_key_value_heads: 32,
          vocab_size: 32000,
          max_position_embeddings: 4096,
        },
        512,
        256,
      ],
      [
        {
          hidden_size: 2048,
          intermediate_size: 5632,
          num_hidden_layers: 22,
          num_attention_heads: 32,
          num_key_value_heads: 4,
          vocab_size: 32000,
          max_position_embeddings: 2048,
        },
        1024,
        256,
      ],
    ];
    for (const [fields, promptTokens, newTokens] of shapes)
      checkSize(parseModelConfig({ model_type: 'llama', ...fields }), {
        task: 'generate',
        promptTokens,
        newTokens,
        ring: { bits: 64, fraction: 16 },
      });
  });
});

it('keeps one plain line a server, for its user alone', async () => {
  const state = join(root, 'quiet');
  await knownManifests(state).remember('tls:server.example:7002', '1'.repeat(64));
  const path = join(state, 'known-manifests');
  expect(readFileSync(path, 'utf8')).toBe(`"tls:server.example:7002" sha256:${'1'.repeat(64)}\n`);
  expect(statSync(path).mode & 0o777).toBe(0o600);
});
