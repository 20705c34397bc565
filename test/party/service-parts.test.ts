import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { memoryPair } from '../../src/net/memory.ts';
import { Admission, type Ticket } from '../../src/party/admission.ts';
import { checkBundleHeader } from '../../src/party/bundle-header.ts';
import { CopyRecords, freshCopy } from '../../src/party/copies.ts';
import { linkTokenFor } from '../../src/party/link-token.ts';
import { errorFields, logger } from '../../src/party/log.ts';
import { Rendezvous } from '../../src/party/rendezvous.ts';
import { temporary } from './models.ts';

const { path: root, remove } = temporary();
afterAll(remove);

const memory = (residentBytes: () => number, reclaim = (): void => {}) => ({ residentBytes, reclaim });

describe('admission', () => {
  const limits = { maximumSessions: 2, maximumWaiting: 2, maximumPromptTokens: 8, maximumNewTokens: 4 };

  it('never serves or queues more than it may, and serves in the order of coming, whoever leaves when', async () => {
    const steps = fc.array(fc.record({ enter: fc.boolean(), who: fc.nat(20) }), { maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(steps, async (list) => {
        const admission = new Admission(
          limits,
          () => 0,
          memory(() => 0),
        );
        const there: { ticket: Ticket; served: boolean }[] = [];
        for (const { enter, who } of list) {
          if (enter) {
            const full = there.length >= 4;
            try {
              const entry = { ticket: admission.enter(), served: false };
              expect(full).toBe(false);
              void entry.ticket.seat.then(() => {
                entry.served = true;
              });
              there.push(entry);
            } catch (error) {
              expect(full).toBe(true);
              expect(error).toMatchObject({ code: 'full', kind: 'resource' });
            }
          } else if (there.length > 0) {
            const [gone] = there.splice(who % there.length, 1);
            gone!.ticket.leave();
            gone!.ticket.leave();
          }
          await new Promise<void>((resolve) => queueMicrotask(resolve));
          await new Promise<void>((resolve) => setImmediate(resolve));
          expect(there.map(({ served }) => served)).toEqual(there.map((_, at) => at < 2));
          expect([admission.active, admission.waiting]).toEqual([Math.min(2, there.length), Math.max(0, there.length - 2)]);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('gives each of several peers its turn: who takes every place gives one up, and the next seat is the other one’s', async () => {
    const admission = new Admission(
      limits,
      () => 0,
      memory(() => 0),
    );
    const order: string[] = [];
    const come = (who: string): Ticket => {
      const ticket = admission.enter(who);
      ticket.seat.then(
        () => order.push(who),
        () => order.push(`${who} turned away`),
      );
      return ticket;
    };
    const crowd = ['a', 'a', 'a', 'a'].map(come);
    expect(() => come('a')).toThrow('as many as may');
    const one = come('b');
    const other = come('c');
    // Of two places each nobody gives one up for a third.
    expect(() => come('a')).toThrow('as many as may');
    await new Promise<void>((resolve) => setImmediate(resolve));
    expect(order).toEqual(['a', 'a', 'a turned away', 'a turned away']);
    for (const gone of [crowd[3]!, crowd[2]!]) gone.leave();
    crowd[0]!.leave();
    const again = come('a');
    crowd[1]!.leave();
    await new Promise<void>((resolve) => setImmediate(resolve));
    expect(order.slice(4)).toEqual(['b', 'c']);
    one.leave();
    await again.seat;
    for (const each of [again, other]) each.leave();
    expect([admission.active, admission.waiting]).toEqual([0, 0]);
  });

  it('says beforehand what the next one hears: that all places are taken, that memory is short, that it drains', () => {
    let [resident, now, reclaimed] = [0, 0, 0];
    const reclaim = (): void => {
      reclaimed++;
      resident = Math.min(resident, 150);
    };
    const bounded = { ...limits, maximumSessions: 1, maximumWaiting: 0, maximumResidentBytes: 100 };
    const admission = new Admission(
      bounded,
      () => now,
      memory(() => resident, reclaim),
    );
    const agreed = (): string | undefined => {
      const reason = admission.refusal()?.reason;
      if (reason === undefined) admission.enter().leave();
      else expect(() => admission.enter()).toThrow(reason);
      return reason;
    };
    expect(agreed()).toBeUndefined();
    const ticket = admission.enter();
    expect(agreed()).toContain('as many as may');
    ticket.leave();
    resident = 1000;
    expect(agreed()).toContain('memory');
    // What can be given back is asked for, and not at every look.
    expect(reclaimed).toBe(1);
    [resident, now] = [90, 10_000];
    expect(agreed()).toBeUndefined();
    admission.drain();
    expect(agreed()).toContain('shutting down');
  });

  it('serves the rings and the shapes that it is told to, and no others', () => {
    const ring = { bits: 64, fraction: 16 };
    const text = { task: 'generate', promptTokens: 3, newTokens: 2 } as const;
    const checked = (more: object, run: object): void =>
      new Admission(
        { ...limits, ...more },
        () => 0,
        memory(() => 0),
      ).check({ ...text, ring, ...run });
    const turned = expect.objectContaining({ code: 'limit' });
    checked({}, { ring: { bits: 32, fraction: 7 } });
    checked({ rings: [ring] }, {});
    expect(() => checked({ rings: [ring] }, { ring: { bits: 32, fraction: 7 } })).toThrow(turned);
    expect(() => checked({ rings: [ring] }, { ring: { bits: 64, fraction: 15 } })).toThrow(turned);
    checked({ shapes: [text] }, { reveal: 'logits' });
    for (const run of [{ promptTokens: 2 }, { newTokens: 1 }, { reveal: 'token' }, { task: 'classify' }])
      expect(() => checked({ shapes: [text] }, run)).toThrow(turned);
  });

  it('turns away who waits once it drains, and says for how long to stay away from the sessions before', async () => {
    let now = 0;
    const admission = new Admission(
      { ...limits, maximumSessions: 1, maximumWaiting: 1 },
      () => now,
      memory(() => 0),
    );
    const first = admission.enter();
    const waiting = admission.enter();
    now = 100_000;
    const refused = (): SottoError & { retrySeconds?: number } => {
      try {
        admission.enter();
      } catch (error) {
        return error as SottoError;
      }
      return expect.unreachable();
    };
    const before = refused().retrySeconds!;
    first.leave();
    await waiting.seat;
    const next = admission.enter();
    expect(refused().retrySeconds).toBeGreaterThan(before);
    admission.drain();
    await expect(next.seat).rejects.toMatchObject({ code: 'draining', retrySeconds: 30 });
    expect(refused()).toMatchObject({ code: 'draining' });
  });
});

describe('records of masked copies', () => {
  it('come back for the same weights, and whatever else lies there is erased', async () => {
    const [weights, other] = ['ab'.repeat(32), 'cd'.repeat(32)];
    const state = join(root, 'state');
    mkdirSync(join(state, 'copies'), { recursive: true, mode: 0o700 });
    const records = await CopyRecords.open(state, weights);
    const [kept, retired, foreign] = [freshCopy(), freshCopy(), freshCopy()];
    await records.keep(kept, weights);
    await records.keep(retired, weights);
    await records.keep(foreign, other);
    const junk = fc.sample(fc.oneof(fc.string(), fc.json()), 20);
    for (const [at, text] of junk.entries()) writeFileSync(join(state, 'copies', `${at}.json`), text);
    writeFileSync(
      join(state, 'copies', `${'0'.repeat(64)}.json`),
      JSON.stringify({ version: 1, id: '0'.repeat(64), seed: kept.id, weights }),
    );
    const again = await CopyRecords.open(state, weights);
    expect(again.seed(kept.id)).toEqual(new Uint8Array(kept.seed));
    expect(again.seed(foreign.id)).toBeUndefined();
    expect(readdirSync(join(state, 'copies')).sort()).toEqual([`${kept.id}.json`, `${retired.id}.json`].sort());
    await again.retain(new Set([kept.id]));
    expect(readdirSync(join(state, 'copies'))).toEqual([`${kept.id}.json`]);
  });
});

describe('the header of material made ahead', () => {
  const hex = (bytes: number) => '0a'.repeat(bytes);
  const header = { id: hex(16), program: hex(32), ring: { bits: 64, fraction: 16 }, copy: hex(32), createdFor: 'server' };
  const nonces = { client: hex(16), server: hex(16), dealer: hex(16) };

  it('has the nonces of its seeds, all three and nothing else', () => {
    expect(checkBundleHeader({ ...header, nonces })).toEqual({ ...header, nonces });
    expect(checkBundleHeader(header)).toEqual(header);
    for (const wrong of [null, {}, { ...nonces, client: 'x' }, { ...nonces, more: hex(16) }, [nonces], 7])
      expect(() => checkBundleHeader({ ...header, nonces: wrong })).toThrow(SottoError);
  });
});

describe('a rendezvous', () => {
  const never = new Promise<never>(() => {});
  it('brings a connection to who expects it, whichever comes first, once', async () => {
    const [channel] = memoryPair({ names: ['client', 'server'] });
    const meeting = new Rendezvous();
    const expected = meeting.expect('a', 'client', 1000, never);
    expect(await meeting.meet('a', channel)).toBe(true);
    expect(await expected).toBe(channel);
    expect(await meeting.meet('a', channel)).toBe(false);
    const early = meeting.meet('b', channel, 1000);
    expect(await meeting.expect('b', 'client', 1000, never)).toBe(channel);
    expect(await early).toBe(true);
    expect(await meeting.meet('c', channel, 10)).toBe(false);
    await expect(meeting.expect('d', 'client', 10, never)).rejects.toMatchObject({ kind: 'peer', place: { party: 'client' } });
    await expect(meeting.expect('e', 'client', 1000, Promise.reject(new Error('enough')))).rejects.toThrow('enough');
  });
});

describe('a line of the log', () => {
  it('says of an unexpected error where it was thrown, and not what it quotes', () => {
    const lines: string[] = [];
    const log = logger(
      'text',
      (line) => lines.push(line),
      () => new Date(0),
    );
    try {
      JSON.parse('{"prompt": "a secret tale" oops');
    } catch (error) {
      log('error', 'session-failed', { session: 's', ...errorFields(error) });
    }
    expect(lines[0]).toMatch(/^1970-01-01T00:00:00.000Z error session-failed session=s kind=unexpected reason="SyntaxError: /);
    expect(lines[0]).not.toMatch(/secret|tale|oops/);
    log('warn', 'x', { reason: 'two\nlines' });
    expect(lines[1]!.split('\n')).toHaveLength(2);
  });
});

describe('the secret of a link', () => {
  it('is read from a file of this user alone, and is long enough', async () => {
    const file = join(root, 'link-token');
    const secret = '0123456789abcdef'.repeat(4);
    writeFileSync(file, `${secret}\n`, { mode: 0o600 });
    const plain = [`unix:${root}/dealer`];
    expect(await linkTokenFor(plain, file)).toEqual(new TextEncoder().encode(secret));
    for (const mode of [0o640, 0o604, 0o620]) {
      chmodSync(file, mode);
      await expect(linkTokenFor(plain, file)).rejects.toMatchObject({ name: 'SottoError', place: { file } });
    }
    chmodSync(file, 0o600);
    writeFileSync(file, secret.slice(0, 31));
    await expect(linkTokenFor(plain, file)).rejects.toMatchObject({ name: 'SottoError', place: { file } });
    expect(await linkTokenFor(['tls:127.0.0.1:1'], file)).toBeUndefined();
  });
});
