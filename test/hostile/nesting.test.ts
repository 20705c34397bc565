import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { memoryPair } from '../../src/net/memory.ts';
import { folderFiles } from '../../src/node/files.ts';
import { beginTask, type ClientTask } from '../../src/party/client-task.ts';
import { type Control, controlFrame, parseControl, receiveControl } from '../../src/party/control.ts';
import { checkManifest, manifestHash, openManifest, readManifest } from '../../src/party/manifest.ts';
import { llamaFields, temporary, writeLlama } from '../party/models.ts';

/** Manifests whose JSON is nested 100,000 deep, or has arrays and names of millions of bytes: what a client, in a process or a page, makes of them. */
vi.setConfig({ testTimeout: 30_000 });
const { path: root, remove } = temporary();
afterAll(remove);
let manifest: Control<'manifest'>;
beforeAll(async () => {
  const folder = join(root, 'model');
  mkdirSync(folder);
  await writeLlama(folder);
  manifest = await readManifest(folderFiles(folder), llamaFields);
});

const depth = 100_000;
const arrays = `${'['.repeat(depth)}${']'.repeat(depth)}`;
const objects = `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
const sequences = (of: string, leaf: string): string =>
  `${`{"type":"Sequence","${of}":[`.repeat(depth)}${leaf}${']}'.repeat(depth)}`;

const task: ClientTask = { kind: 'generate', prompt: { text: 'the bird' }, newTokens: 1 };

/** What a client does with a manifest, from its bytes to the request that it would make. */
async function client(bytes: Uint8Array<ArrayBuffer>, asked: ClientTask): Promise<number> {
  const [server, channel] = memoryPair({ names: ['server', 'client'] });
  const sent = server.send(controlFrame, bytes);
  const came = await receiveControl(channel, 'manifest');
  await sent;
  checkManifest(came);
  expect(manifestHash(came)).toMatch(/^[0-9a-f]{64}$/);
  const job = await beginTask(asked, openManifest(came), { trusted: false });
  job.read();
  return job.asked.promptTokens;
}

const mark = '"HERE"';
/** The manifest with this JSON in place of a field of its configuration, or of one of its files. */
function bytesWith(place: 'config' | string, field: string, json: string): Uint8Array<ArrayBuffer> {
  const { config, files } = manifest;
  const whole = (of: Record<string, unknown>) => JSON.stringify({ ...of, [field]: 'HERE' }).replace(mark, () => json);
  const said =
    place === 'config'
      ? `{"type":"manifest","config":${whole(config)},"files":${JSON.stringify(files)}}`
      : JSON.stringify({ ...manifest, files: { ...files, [place]: whole(JSON.parse(files[place] ?? '{}')) } });
  return new TextEncoder().encode(said);
}

const places: readonly (readonly [string, string])[] = [
  ...['model_type', 'hidden_size', 'hidden_act', 'rope_scaling', 'rope_parameters', 'eos_token_id', 'sotto', 'other'].map(
    (field) => ['config', field] as const,
  ),
  ...['version', 'added_tokens', 'normalizer', 'pre_tokenizer', 'model', 'post_processor', 'decoder', 'truncation', 'other'].map(
    (field) => ['tokenizer.json', field] as const,
  ),
  ...['tokenizer_class', 'bos_token', 'added_tokens_decoder', 'additional_special_tokens', 'legacy'].map(
    (field) => ['tokenizer_config.json', field] as const,
  ),
];
const nested = { name: 'SottoError', reason: expect.stringContaining('nested deeper than 64 levels') };
const typed = { name: 'SottoError', kind: expect.stringMatching(/^(peer|input|model)$/) };

describe.each([
  ['arrays', arrays],
  ['objects', objects],
])('%s in each other without an end', (_, json) => {
  it.each(places)('are a typed error in %s, field %s', async (place, field) => {
    await expect(client(bytesWith(place, field, json), task)).rejects.toMatchObject(nested);
  });
});

it.each([
  ['normalizer', sequences('normalizers', '{"type":"Lowercase"}')],
  ['pre_tokenizer', sequences('pretokenizers', '{"type":"WhitespaceSplit"}')],
  ['decoder', sequences('decoders', '{"type":"Fuse"}')],
  ['post_processor', sequences('processors', '{"type":"ByteLevel"}')],
])('steps of steps without an end are a typed error: %s', async (field, json) => {
  await expect(client(bytesWith('tokenizer.json', field, json), task)).rejects.toMatchObject(nested);
});

it.each([
  ['[', '['.repeat(depth * 10)],
  ['{"a":', '{"a":'.repeat(depth)],
  ['arrays', arrays],
])('a whole file, and a whole message, of %s', async (_, text) => {
  await expect(client(new TextEncoder().encode(text), task)).rejects.toMatchObject(typed);
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    const said = JSON.stringify({ ...manifest, files: { ...manifest.files, [name]: text } });
    await expect(client(new TextEncoder().encode(said), task)).rejects.toMatchObject(typed);
  }
});

const many = 100_000;
const list = (each: (at: number) => string, count = many): string =>
  `[${Array.from({ length: count }, (_, at) => each(at)).join(',')}]`;
const names = `{${Array.from({ length: many }, (_, at) => `"n${at}":${at}`).join(',')}}`;
const long = `{"${'k'.repeat(8 * 2 ** 20)}":1}`;

it("is a typed error in the configuration of a server's order, at its dealer", () => {
  const said = new TextEncoder().encode(`{"type":"order","config":{"hidden_act":${arrays}}}`);
  expect(() => parseControl(said, 'server', 'order')).toThrow(expect.objectContaining({ ...nested, kind: 'peer' }));
});

describe('what is long within the bytes of a manifest', () => {
  it.each([
    ['config', 'hidden_act', 'a long name', long] as const,
    ['config', 'sotto', 'names', names] as const,
    ['tokenizer.json', 'version', 'names', names] as const,
    ['tokenizer_config.json', 'added_tokens_decoder', 'names', names] as const,
    ['tokenizer_config.json', 'additional_special_tokens', 'a list', list(() => '1')] as const,
    ['tokenizer_config.json', 'bos_token', 'a long name', long] as const,
    ['tokenizer.json', 'added_tokens', 'tokens', list((at) => `{"id":${at},"content":"t${at}"}`, 100_000)] as const,
    [
      'tokenizer.json',
      'normalizer',
      'steps',
      `{"type":"Sequence","normalizers":${list(() => '{"type":"Lowercase"}', 100_000)}}`,
    ] as const,
    ['tokenizer.json', 'decoder', 'steps', `{"type":"Sequence","decoders":${list(() => '{"type":"Fuse"}', 100_000)}}`] as const,
    [
      'tokenizer.json',
      'post_processor',
      'tokens',
      `{"type":"TemplateProcessing","single":${list(() => '{"SpecialToken":{"id":"<s>","type_id":0}}', 100_000)},"pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[1],"tokens":["<s>"]}}}`,
    ] as const,
    ['config', 'eos_token_id', 'tokens', list(() => '2')] as const,
  ])('%s, field %s, %s: a typed error, or the tokens of the prompt', async (place, field, _, json) => {
    const said = await client(bytesWith(place, field, json), task).catch((error: unknown) => error);
    if (typeof said !== 'number') expect(said).toMatchObject(typed);
  });
});
