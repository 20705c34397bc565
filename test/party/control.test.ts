import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { memoryPair } from '../../src/net/memory.ts';
import {
  type Control,
  type ControlType,
  controlFrame,
  heedingRefusals,
  parseControl,
  refuse,
  sendControl,
} from '../../src/party/control.ts';
import { openManifest, traceRun } from '../../src/party/manifest.ts';
import { Objection, Refused, refusalOf, TurnedAway } from '../../src/party/refusals.ts';
import { temporary, writeLlama } from './models.ts';

const hex = (bytes: number) => '0a'.repeat(bytes);
const run = { task: 'generate', promptTokens: 3, newTokens: 2, ring: { bits: 64, fraction: 16 } } as const;
const nonces = { client: hex(16), server: hex(16), dealer: hex(16) };
const messages: { [T in ControlType]: Control<T> } = {
  hello: { type: 'hello', version: 'sotto/6', role: 'client', beside: hex(16) },
  waiting: { type: 'waiting', ahead: 2 },
  manifest: { type: 'manifest', config: { model_type: 'llama' }, files: { 'tokenizer.json': '{}' } },
  request: { type: 'request', run, program: hex(32), nonce: hex(16) },
  challenge: { type: 'challenge', nonce: hex(32) },
  link: { type: 'link', nonce: hex(32), proof: hex(32) },
  linked: { type: 'linked', link: hex(16), secret: hex(32), proof: hex(32) },
  copy: { type: 'copy', config: {}, run, program: hex(32), copy: hex(32) },
  copied: { type: 'copied', copy: hex(32) },
  voucher: { type: 'voucher', link: hex(16), mac: hex(32) },
  order: {
    ...{ type: 'order', ahead: false, config: {}, run, program: hex(32), copy: hex(32) },
    nonces: { client: hex(16), server: hex(16) },
  },
  agreed: { type: 'agreed', ahead: false, bundle: hex(16), program: hex(32), nonces },
  session: { type: 'session', ahead: false, bundle: hex(16), program: hex(32), nonces },
  join: { type: 'join', bundle: hex(16), program: hex(32), ticket: hex(32) },
  claimed: { type: 'claimed', bundle: hex(16) },
  stored: { type: 'stored', bundle: hex(16) },
  beside: { type: 'beside', token: hex(16) },
  stop: { type: 'stop', tokens: 4 },
  refusal: { type: 'refusal', code: 'failed', party: 'dealer', retrySeconds: 7, limit: { of: 'newTokens', most: 4 } },
};
const types = Object.keys(messages) as ControlType[];
const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const typed = (work: () => unknown): void => {
  try {
    work();
  } catch (error) {
    if (!(error instanceof SottoError)) throw error;
  }
};

describe('control messages', () => {
  it('come back as they were sent; a refusal is an error in place of any', () => {
    for (const type of types) {
      if (type !== 'refusal') expect(parseControl(encode(messages[type]), 'server', type)).toEqual(messages[type]);
      expect(() => parseControl(encode(messages.refusal), 'server', type)).toThrow(
        /server: refused: it was let down by party dealer/,
      );
    }
  });

  it('give a value of the type that was due or a typed error, for any JSON and any bytes', () => {
    const damaged = fc
      .tuple(fc.constantFrom(...types), fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }))
      .map(([type, changes]) => {
        const bytes = encode(messages[type]);
        for (const [place, value] of changes) bytes[place % bytes.length] = value;
        return bytes;
      });
    const altered = fc
      .tuple(fc.constantFrom(...types), fc.string(), fc.jsonValue({ maxDepth: 4 }))
      .map(([type, key, value]) => encode({ ...messages[type], [key]: value, run: value }));
    const anything = fc.oneof(fc.jsonValue().map(encode), fc.uint8Array({ maxLength: 200 }), damaged, altered);
    fc.assert(
      fc.property(anything, fc.constantFrom(...types), (bytes, type) => {
        try {
          expect(parseControl(bytes, 'client', type).type).toBe(type);
        } catch (error) {
          expect(error).toMatchObject({ name: 'SottoError', kind: 'peer', place: { party: 'client' } });
        }
      }),
      { numRuns: 3000 },
    );
  });

  it('are looked at only within their bounds, and survive any depth', () => {
    for (const type of types) {
      const limit = type === 'manifest' ? 32 * 2 ** 20 : type === 'order' || type === 'copy' ? 2 ** 20 : 4096;
      // Valid but for its length: spaces are JSON.
      const padded = new Uint8Array(limit + 1).fill(0x20);
      padded.set(encode(messages[type]));
      expect(() => parseControl(padded, 'server', type), type).toThrow(`${limit + 1} bytes`);
      if (type !== 'refusal') expect(parseControl(padded.subarray(0, limit), 'server', type).type).toBe(type);
    }
    const deep = `${'['.repeat(2 ** 20)}${']'.repeat(2 ** 20)}`;
    const hostile = new TextEncoder().encode(`{"type":"manifest","config":{"model_type":${deep}},"files":{}}`);
    typed(() => parseControl(hostile, 'server', 'manifest'));
  });

  it('that are too long are not sent', async () => {
    const [client, server] = memoryPair({ names: ['client', 'server'] });
    const long = { ...messages.manifest, files: { 'tokenizer.json': 'x'.repeat(32 * 2 ** 20) } };
    await expect(sendControl(client, long)).rejects.toMatchObject({ kind: 'input' });
    await Promise.all([client.close(), server.close()]);
  });

  it('of refusal carry a code and numbers from lists, and nothing else that a peer wrote', () => {
    const refusals = [
      { code: 'failed', reason: 'token 17' },
      { code: 'failed', reason: '' },
      { code: 'token 17' },
      { code: 'failed', party: 'token 17' },
      { code: 'limit', limit: { of: 'token 17', most: 3 } },
      { code: 'limit', limit: { of: 'newTokens', most: -251 } },
      { code: 'full', retrySeconds: 0 },
      { code: 'failed', bundle: hex(16) },
    ];
    for (const refusal of refusals) {
      const read = () => parseControl(encode({ type: 'refusal', ...refusal }), 'client', 'hello');
      expect(read, JSON.stringify(refusal)).toThrow(/^party client: sent something that is no hello/);
      expect(read).not.toThrow(/17|251/);
    }
  });

  it('that are wrong are refused without a word that the peer wrote', () => {
    const secret = '\u001b[31msecret';
    for (const [type, change] of [
      ['hello', { version: secret }],
      ['hello', { [secret]: 1 }],
      ['manifest', { files: { [secret]: 1 } }],
      ['request', { run: { ...run, task: secret } }],
    ] as const)
      try {
        parseControl(encode({ ...messages[type], ...change }), 'client', type);
        expect.unreachable();
      } catch (error) {
        expect(`${(error as SottoError).message}${(error as SottoError).cause}`).not.toContain('secret');
      }
  });

  it('of refusal are heard in the middle of a phase', async () => {
    const [client, server] = memoryPair({ names: ['client', 'server'] });
    const heeding = heedingRefusals(server);
    await client.send(3, new Uint8Array(5));
    await client.send(controlFrame, encode({ type: 'stop', tokens: 1 }));
    await refuse(client, { code: 'failed', party: 'dealer' });
    expect((await heeding.receive()).kind).toBe(3);
    expect((await heeding.receive()).kind).toBe(controlFrame);
    await expect(heeding.receive()).rejects.toMatchObject({
      kind: 'peer',
      reason: 'refused: it was let down by party dealer',
      place: { party: 'client' },
    });
    await Promise.all([client.close(), server.close()]);
  });

  it('of refusal say of an error one of the known reasons, and of peers which one it was', () => {
    const error = (kind: 'input' | 'peer') =>
      new SottoError(kind, 'token 17 at position 3', { place: { file: '/home/me/model', party: 'dealer' }, remedy: 'none' });
    expect(refusalOf(error('input'))).toEqual({ code: 'failed' });
    expect(refusalOf(error('peer'))).toEqual({ code: 'failed', party: 'dealer' });
    expect(refusalOf(new TypeError('secret'))).toEqual({ code: 'failed' });
    expect(refusalOf(new Objection('program', 'runs the program 17', { party: 'client', remedy: 'none' }))).toEqual({
      code: 'program',
    });
    const limit = { of: 'newTokens', most: 4 } as const;
    expect(refusalOf(new TurnedAway('limit', 'token 17', { limit }))).toEqual({ code: 'limit', limit });
    expect(refusalOf(new Refused('dealer', { code: 'full', retrySeconds: 3 }))).toEqual({
      code: 'full',
      retrySeconds: 3,
      party: 'dealer',
    });
  });
});

describe('what is traced from a peer’s words', () => {
  const { path: root, remove } = temporary();
  afterAll(remove);
  let config: Record<string, unknown>;
  beforeAll(async () => {
    mkdirSync(join(root, 'm'));
    await writeLlama(join(root, 'm'));
    config = JSON.parse(readFileSync(join(root, 'm', 'config.json'), 'utf8'));
  });

  it('is a program or a typed error for every ring and length', () => {
    const rings = fc.record({ bits: fc.integer({ min: 4, max: 64 }), fraction: fc.integer({ min: 1, max: 40 }) });
    const lengths = fc.constantFrom(1, 2, 63, 64, 65, 1_000_000);
    const task = fc.constantFrom('generate' as const, 'classify' as const);
    fc.assert(
      fc.property(rings, lengths, fc.constantFrom(1, 2, 1_000_000), task, (ring, promptTokens, newTokens, task) =>
        typed(() => traceRun(config, { task, promptTokens, newTokens, ring })),
      ),
      { numRuns: 150 },
    );
  });

  it('is a program or a typed error for every configuration', () => {
    const plan = (config: Record<string, unknown>) => structuredClone(config.sotto) as { layers: Record<string, unknown>[] };
    const places = ['hidden_size', 'num_attention_heads', 'head_dim', 'rope_scaling', 'rms_norm_eps', 'hidden_act', 'model_type'];
    const value = fc.oneof(fc.jsonValue({ maxDepth: 3 }), fc.constantFrom<unknown>(0, 1, 2, 3, -1, 1e300, 2 ** 17, null, []));
    fc.assert(
      fc.property(
        fc.constantFrom(...places),
        value,
        fc.constantFrom('norm', 'attention', 'activation', ''),
        (place, made, part) => {
          const changed = { ...config, num_hidden_layers: 1, sotto: plan(config) };
          changed.sotto.layers = [{ ...changed.sotto.layers[0]!, ...(part === '' ? {} : { [part]: made }) }];
          if (part === '') Object.assign(changed, { [place]: made });
          typed(() => traceRun(changed, { ...run, promptTokens: 2, newTokens: 1 }));
        },
      ),
      { numRuns: 300 },
    );
    let deep: unknown = 1;
    for (let level = 0; level < 20_000; level++) deep = [deep];
    typed(() => traceRun({ ...config, model_type: deep }, run));
    typed(() => traceRun({ ...config, sotto: deep }, run));
  });

  it('is a tokenizer or a typed error for every file', async () => {
    const contents = fc.oneof(
      fc.string(),
      fc.jsonValue().map((value) => JSON.stringify(value)),
    );
    await fc.assert(
      fc.asyncProperty(contents, fc.constantFrom('tokenizer.json', '../x', 'y'), async (text, name) => {
        const manifest = openManifest({ config, files: { [name]: text } });
        await manifest.tokenizer().catch((error: unknown) => {
          if (!(error instanceof SottoError)) throw error;
        });
      }),
      { numRuns: 100 },
    );
  });
});
