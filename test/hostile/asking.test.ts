import { appendFileSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Channel } from '../../src/net/contract.ts';
import { makeCertificates, writeCertificates } from '../../src/node/certificates.ts';
import { Asking, placeOf } from '../../src/party/asking.ts';
import { BudgetFile } from '../../src/party/budgets.ts';
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
    // What an operator gets who says nothing.
    const at = await place({ policy: undefined });
    expect(await ask(at, 1)).toMatchObject({ code: 'reveal', kind: 'resource' });
    expect(await ask(at, 1, {}, 'token')).toBe(1);
    expect(at.lines.find(({ event }) => event === 'policy')).toMatchObject({ level: 'warn', reveal: 'token' });
    const open = await place({});
    const costs = open.lines
      .filter(({ event }) => event === 'forecast')
      .map(({ reveal, offlineBytes }) => [reveal, offlineBytes]);
    expect(costs.map(([reveal]) => reveal)).toEqual(['logits', 'token']);
    expect(costs[1]![1]).toBeGreaterThan(costs[0]![1] as number);
    // Width 16, 280 words: all logits are 280 equations, 16 bits each; a word of 280 is 8.1 bits.
    const read = open.lines.filter(({ event }) => event === 'forecast').map((line) => [line.bitsPerToken, line.tokensToRead]);
    expect(read).toEqual([
      [4480, 16],
      [9, Math.ceil((16 * 16 * 280) / Math.log2(280))],
    ]);
  });

  it('makes nothing ahead that it would not serve', async () => {
    const shapes = [{ task: 'generate', promptTokens: 1, newTokens: 1, ring } as const];
    await expect(place({ policy: undefined, prepare: { count: 1, shapes } })).rejects.toMatchObject({
      ...{ kind: 'usage', place: { field: '--prepare-tokens' } },
    });
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

  it('fill again by the hour, by certificate wherever it comes from, and by address otherwise', async () => {
    let now = 0;
    const asking = new Asking({ reveal: ['logits'], tokensPerHour: 10, anonymousTokensPerHour: 2 }, () => now);
    await asking.take(from('10.0.0.1', 'aa'), run(10));
    await expect(asking.take(from('10.0.0.2', 'aa'), run(1))).rejects.toThrow(/used up/);
    await asking.take(from('10.0.0.1', 'bb'), run(10));
    await asking.take(from('10.0.0.1'), run(2));
    await expect(asking.take(from('::ffff:10.0.0.1'), run(1))).rejects.toThrow(/used up/);
    await asking.take(from('10.0.0.2'), run(2));
    now = 3_600_000 / 2;
    await asking.take(from('10.0.0.1', 'aa'), run(5));
    await expect(asking.take(from('10.0.0.1', 'aa'), run(1))).rejects.toThrow(/used up/);
    await asking.take(from('10.0.0.1'), run(1));
    await expect(asking.take(from('10.0.0.1'), run(1))).rejects.toThrow(/used up/);
  });

  it('are bounded in memory: a flood of addresses shares one', async () => {
    const asking = new Asking({ reveal: ['logits'], anonymousTokensPerHour: 1 }, () => 0);
    for (let k = 0; k < 2 ** 16; k++) await asking.take(from(`10.${k >> 8}.${k & 255}.1`), run(1));
    await asking.take(from('11.0.0.1'), run(1));
    await expect(asking.take(from('11.0.0.2'), run(1))).rejects.toThrow(/used up/);
  });

  it('bound what range flags tell, in bits, and who is refused for them has spent no token', async () => {
    let now = 0;
    const policy = { reveal: ['logits'], anonymousTokensPerHour: 100, flagBitsPerHour: 4 } as const;
    const asking = new Asking(policy, () => now);
    const flagged = (newTokens: number) => ({ ...run(newTokens), rangeFlags: true }) as const;
    // Sixteen things need more than four bits, fifteen do not.
    await expect(asking.take(from('10.0.0.1'), flagged(16))).rejects.toThrow(/were asked for/);
    await asking.take(from('10.0.0.1'), flagged(7));
    await asking.take(from('10.0.0.1'), flagged(1));
    await expect(asking.take(from('10.0.0.1'), flagged(1))).rejects.toThrow(/used up/);
    await asking.take(from('10.0.0.2'), flagged(1));
    await asking.take(from('10.0.0.1'), run(92));
    await expect(asking.take(from('10.0.0.1'), run(1))).rejects.toThrow(/used up/);
    now = 3_600_000 / 4;
    await asking.take(from('10.0.0.1'), flagged(1));
    const none = new Asking({ reveal: ['logits'], flagBitsPerHour: 0 }, () => 0);
    await none.take(from('10.0.0.1'), run(1000));
    await expect(none.take(from('10.0.0.1'), flagged(1))).rejects.toThrow(/not told here/);
  });

  it('of certificates outlive the process, however it ended; those of addresses do not', async () => {
    const folder = join(root, 'budgets');
    mkdirSync(folder, { mode: 0o700 });
    const policy = { reveal: ['logits'], tokensPerHour: 10, anonymousTokensPerHour: 10, flagBitsPerHour: 10 } as const;
    let wall = 1_700_000_000_000;
    /** A process of its own clock, which nobody closes. */
    const started = async (): Promise<Asking> => {
      const file = await BudgetFile.open(folder, () => wall);
      return new Asking(policy, () => wall - 1_690_000_000_000, { file, wall: () => wall });
    };
    const [one, two] = ['aa', 'bb'].map((byte) => byte.repeat(32)) as [string, string];
    const first = await started();
    await first.take(from('10.0.0.1', one), run(10));
    await first.take(from('10.0.0.1'), run(10));
    await first.take(from('10.0.0.1', two), { ...run(3), rangeFlags: true });
    const second = await started();
    await expect(second.take(from('10.0.0.9', one), run(1))).rejects.toThrow(/used up/);
    await expect(second.take(from('10.0.0.9', two), run(8))).rejects.toThrow(/used up/);
    await second.take(from('10.0.0.1'), run(10));
    // A crash in the middle of a line: that run was never given.
    appendFileSync(join(folder, 'budgets'), `{"of":"tokens","certificate":"${two}","left":-1`);
    // A clock that goes back gives nothing; one that goes on gives what it would have.
    wall -= 86_400_000;
    await expect((await started()).take(from('10.0.0.9', one), run(1))).rejects.toThrow(/used up/);
    wall += 86_400_000 + 3_600_000 / 2;
    const third = await started();
    await third.take(from('10.0.0.9', one), run(5));
    await expect(third.take(from('10.0.0.9', one), run(1))).rejects.toThrow(/used up/);
    await third.take(from('10.0.0.9', two), run(10));
    writeFileSync(join(folder, 'budgets'), 'no budget\n');
    await expect(started()).rejects.toMatchObject({ kind: 'input', reason: 'line 1 is no budget' });
  });

  it('of certificates lie in a file that does not grow for ever', async () => {
    const folder = join(root, 'long');
    mkdirSync(folder, { mode: 0o700 });
    let wall = 1_700_000_000_000;
    const file = await BudgetFile.open(folder, () => wall);
    const at = (certificate: string, left: number) =>
      ({ of: 'tokens', certificate: certificate.repeat(32), left, at: wall }) as const;
    await file.keep([at('cc', 1)]);
    wall += 3_600_001;
    // Many at once, as one line each, to be quick.
    for (let k = 0; k < 10; k++) await file.keep(Array.from({ length: 1000 }, (_, n) => at('aa', n)));
    await file.keep([at('bb', 5)]);
    expect(statSync(join(folder, 'budgets')).size).toBeLessThan(5000 * 150);
    await file.close();
    const again = await BudgetFile.open(folder, () => wall);
    expect(again.find('tokens', 'aa'.repeat(32))?.left).toBe(999);
    expect(again.find('tokens', 'bb'.repeat(32))?.left).toBe(5);
    // Who has everything back again is forgotten.
    expect(again.find('tokens', 'cc'.repeat(32))).toBeUndefined();
    await again.close();
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
