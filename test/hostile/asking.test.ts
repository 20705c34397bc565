import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Channel } from '../../src/net/contract.ts';
import { makeCertificates, writeCertificates } from '../../src/node/certificates.ts';
import { Asking, placeOf } from '../../src/party/asking.ts';
import { runClient, type ServeOptions } from '../../src/party/index.ts';
import { temporary, writeLlama } from '../party/models.ts';
import { type Honest, honest } from './place.ts';

/** A client that asks for more than the operator's policy lets it have. */
vi.setConfig({ testTimeout: 60_000 });
const { path: root, remove } = temporary();
const model = join(root, 'model');
const ring = { bits: 64, fraction: 16 };
beforeAll(async () => {
  mkdirSync(model);
  await writeLlama(model);
});
afterAll(remove);
const standing: Honest[] = [];
afterEach(async () => {
  for (const each of standing.splice(0)) await each.end();
});

let places = 0;
async function place(server: Partial<ServeOptions>, dealer = {}): Promise<Honest> {
  const at = await honest(join(root, `place${places++}`), model, { server, dealer });
  standing.push(at);
  return at;
}
const ask = (at: Honest, newTokens: number, more: object = {}, reveal: 'logits' | 'token' = 'logits') =>
  runClient({
    rangeFlags: false,
    ...{ server: at.server.addresses[0]!, dealer: at.dealer.addresses[0]!, state: join(root, `client${places++}`), ring },
    ...{ timeoutMilliseconds: 8000, task: { kind: 'generate', prompt: { ids: [5] }, newTokens, reveal }, ...more },
  }).then(
    ({ newIds }) => newIds.length,
    (error: { code?: string; kind: string; retrySeconds?: number }) => error,
  );

describe('an operator’s policy', () => {
  it('says what is revealed, and is told at the start with what it costs', async () => {
    const at = await place({ policy: { reveal: ['token'] } });
    expect(await ask(at, 1)).toMatchObject({ code: 'reveal', kind: 'resource' });
    expect(await ask(at, 1, {}, 'token')).toBe(1);
    expect(at.lines.find(({ event }) => event === 'policy')).toMatchObject({ level: 'warn', reveal: 'token' });
    const open = await place({});
    const costs = open.lines
      .filter(({ event }) => event === 'forecast')
      .map(({ reveal, offlineBytes }) => [reveal, offlineBytes]);
    expect(costs.map(([reveal]) => reveal)).toEqual(['logits', 'token']);
    expect(costs[1]![1]).toBeGreaterThan(costs[0]![1] as number);
  });

  it('bounds the tokens of everybody from one address, also of who goes in the middle of a run', async () => {
    const at = await place({ policy: { reveal: ['logits', 'token'], anonymousTokensPerHour: 4 } });
    expect(await ask(at, 5)).toMatchObject({ code: 'limit', limit: { of: 'newTokens', most: 4 } });
    expect(await ask(at, 3)).toBe(3);
    const refused = (await ask(at, 2)) as { code?: string; retrySeconds?: number };
    expect(refused).toMatchObject({ code: 'budget', kind: 'resource' });
    expect(refused.retrySeconds).toBeGreaterThan(700);
    expect(refused.retrySeconds).toBeLessThanOrEqual(900);
    expect(await ask(at, 1)).toBe(1);
  });

  it('serves nobody without a certificate where it asks for one, at the dealer either', async () => {
    const files = join(root, 'certificates');
    writeCertificates(files, await makeCertificates({ now: new Date(), days: 1 }));
    const of = (role: string) => ({
      authority: join(files, 'authority.pem'),
      certificate: join(files, `${role}.pem`),
      key: join(files, `${role}-key.pem`),
    });
    const listen = ['tls:127.0.0.1:0'];
    const at = await place(
      { listen, tls: of('server'), policy: { reveal: ['logits'], tokensPerHour: 2, clientCertificates: true } },
      { listen, tls: of('dealer'), clientCertificates: true },
    );
    expect(at.lines.find(({ event }) => event === 'policy')).toMatchObject({
      level: 'info',
      tokensPerHour: 2,
      clientCertificates: true,
    });
    expect(await ask(at, 1, { tls: { authority: join(files, 'authority.pem') } })).toMatchObject({ code: 'role', kind: 'peer' });
    expect(await ask(at, 2, { tls: of('client') })).toBe(2);
    expect(await ask(at, 1, { tls: of('client') })).toMatchObject({ code: 'budget' });
  });
});

describe('budgets', () => {
  const from = (source: string | undefined, certificate?: string): Channel =>
    ({ source, ...(certificate === undefined ? {} : { security: { certificate } }) }) as Channel;
  const run = (newTokens: number) => ({ task: 'generate', promptTokens: 1, newTokens, ring }) as const;

  it('fill again by the hour, by certificate wherever it comes from, and by address otherwise', () => {
    let now = 0;
    const asking = new Asking({ reveal: ['logits'], tokensPerHour: 10, anonymousTokensPerHour: 2 }, () => now);
    asking.take(from('10.0.0.1', 'aa'), run(10));
    expect(() => asking.take(from('10.0.0.2', 'aa'), run(1))).toThrow(/used up/);
    asking.take(from('10.0.0.1', 'bb'), run(10));
    asking.take(from('10.0.0.1'), run(2));
    expect(() => asking.take(from('::ffff:10.0.0.1'), run(1))).toThrow(/used up/);
    asking.take(from('10.0.0.2'), run(2));
    now = 3_600_000 / 2;
    asking.take(from('10.0.0.1', 'aa'), run(5));
    expect(() => asking.take(from('10.0.0.1', 'aa'), run(1))).toThrow(/used up/);
    asking.take(from('10.0.0.1'), run(1));
    expect(() => asking.take(from('10.0.0.1'), run(1))).toThrow(/used up/);
  });

  it('are bounded in memory: a flood of addresses shares one', () => {
    const asking = new Asking({ reveal: ['logits'], anonymousTokensPerHour: 1 }, () => 0);
    for (let k = 0; k < 2 ** 16; k++) asking.take(from(`10.${k >> 8}.${k & 255}.1`), run(1));
    asking.take(from('11.0.0.1'), run(1));
    expect(() => asking.take(from('11.0.0.2'), run(1))).toThrow(/used up/);
  });

  it('bound what range flags tell, in bits, and who is refused for them has spent no token', () => {
    let now = 0;
    const policy = { reveal: ['logits'], anonymousTokensPerHour: 100, flagBitsPerHour: 4 } as const;
    const asking = new Asking(policy, () => now);
    const flagged = (newTokens: number) => ({ ...run(newTokens), rangeFlags: true }) as const;
    // Sixteen things need more than four bits, fifteen do not.
    expect(() => asking.take(from('10.0.0.1'), flagged(16))).toThrow(/were asked for/);
    asking.take(from('10.0.0.1'), flagged(7));
    asking.take(from('10.0.0.1'), flagged(1));
    expect(() => asking.take(from('10.0.0.1'), flagged(1))).toThrow(/used up/);
    asking.take(from('10.0.0.2'), flagged(1));
    asking.take(from('10.0.0.1'), run(92));
    expect(() => asking.take(from('10.0.0.1'), run(1))).toThrow(/used up/);
    now = 3_600_000 / 4;
    asking.take(from('10.0.0.1'), flagged(1));
    const none = new Asking({ reveal: ['logits'], flagBitsPerHour: 0 }, () => 0);
    none.take(from('10.0.0.1'), run(1000));
    expect(() => none.take(from('10.0.0.1'), flagged(1))).toThrow(/not told here/);
  });

  it('take a network of IPv6 for one place', () => {
    expect(placeOf('2001:db8:1:2:3:4:5:6')).toBe(placeOf('2001:db8:1:2::9'));
    expect(placeOf('2001:db8:1:2::9')).not.toBe(placeOf('2001:db8:1:3::9'));
    expect(placeOf('::1')).toBe('0:0:0:0::/64');
    expect(placeOf('fe80::1%eth0')).toBe('fe80:0:0:0::/64');
    // Its zeros stand in the first half, words behind them too.
    expect(placeOf('1::2:3:4:5:6:7')).toBe('1:0:2:3::/64');
    expect(placeOf(undefined)).toBe('this machine');
  });
});
