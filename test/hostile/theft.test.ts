import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { clientSetup, encodeWeight, sendMasked } from '../../src/backends/mpc/index.ts';
import type { Channel } from '../../src/net/contract.ts';
import { makeCertificates, writeCertificates } from '../../src/node/certificates.ts';
import { loadCredentials, type TlsCredentials } from '../../src/node/tls.ts';
import { controlFrame, receiveControl, sendControl } from '../../src/party/control.ts';
import { freshCopy } from '../../src/party/copies.ts';
import { runClient } from '../../src/party/index.ts';
import { type TracedRun, traceRun } from '../../src/party/manifest.ts';
import { loadModel } from '../../src/party/model.ts';
import { nodePlatform } from '../../src/party/platform.ts';
import { freshTicket, sessionOf } from '../../src/party/session.ts';
import { type LinkRight, openLink, sendOrder } from '../../src/party/vouchers.ts';
import { temporary, writeLlama } from '../party/models.ts';
import { answerOf, as, bothStreams, fresh } from './peers.ts';
import { type Honest, honest } from './place.ts';
import { type BothStreams, readWeight, solveWeight } from './weights.ts';

/**
 * The weights of an honest server, which a client of protocol sotto/2 had within seconds: leave one session, order as a server by the
 * copy's name that it was told, join as the client, hold both masters, solve x_c · V, add A. Each step that was open is tried here, also
 * with more than a stranger has.
 */
vi.setConfig({ testTimeout: 120_000 });
const { path: root, remove } = temporary();
const model = join(root, 'model');
const linkToken = join(root, 'token');
const run = { task: 'generate', promptTokens: 6, newTokens: 1, ring: { bits: 64, fraction: 16 } } as const;
const platform = nodePlatform(64);
beforeAll(async () => {
  mkdirSync(model);
  await writeLlama(model);
  writeFileSync(linkToken, `${fresh(32)}\n`, { mode: 0o600 });
});
afterAll(remove);

let places = 0;
const place = (options: Parameters<typeof honest>[2] = {}): Promise<Honest> =>
  honest(join(root, `place${places++}`), model, {
    server: { linkToken, ...options.server },
    dealer: { linkToken, ...options.dealer },
  });

/** What any client is told: everything before the run, the seed of A too. */
async function visit(at: Honest, credentials?: TlsCredentials) {
  const client = await as('client', at.server.addresses[0]!, 'server', credentials);
  const manifest = await receiveControl(client, 'manifest');
  const traced = traceRun(manifest.config, run);
  await sendControl(client, { type: 'request', run, program: traced.hash, nonce: freshTicket().nonce });
  const told = await receiveControl(client, 'session');
  const maskSeed = await clientSetup(platform, sessionOf(traced.ringProgram, told), { server: client });
  await client.close();
  return { config: manifest.config, traced, told, maskSeed };
}

const orderOf = (config: Record<string, unknown>, traced: TracedRun, copy: string, nonce = freshTicket().nonce) =>
  ({
    type: 'order',
    ahead: false,
    ...{ config, run, program: traced.hash, copy },
    nonces: { client: nonce, server: fresh() },
  }) as const;

/** Words of a true weight of the model. */
async function trueWords(traced: TracedRun): Promise<BigUint64Array> {
  const node = readWeight(traced.ringProgram);
  const { weight } = await loadModel(model);
  const block = encodeWeight(platform, traced.ringProgram, node, await weight(node.parameters.name));
  return new BigUint64Array(new Uint8Array(platform.kernels.pack(block, 64)).buffer);
}

describe('a client of an honest server', () => {
  it('is told no name of the copy: what it hears is the run, its own nonce and a session', async () => {
    const at = await place();
    try {
      const { told } = await visit(at);
      expect(Object.keys(told).sort()).toEqual(['ahead', 'bundle', 'nonces', 'program', 'type']);
    } finally {
      await at.end();
    }
  });

  it('has no server role, on loopback too: not by saying so, not with a proof of its own, not with orders of any kind', async () => {
    const at = await place();
    try {
      const { config, traced, told } = await visit(at);
      const order = orderOf(config, traced, fresh(32));
      const tries: ((channel: Channel, challenge: string) => Promise<void>)[] = [
        (channel) => sendControl(channel, { type: 'link', nonce: fresh(32) }),
        (channel) => sendControl(channel, { type: 'link', nonce: fresh(32), proof: fresh(32) }),
        // The messages of sotto/2.
        (channel) => channel.send(controlFrame, new TextEncoder().encode(JSON.stringify({ type: 'link' }))),
        (channel) => sendControl(channel, order),
        (channel) => sendControl(channel, { type: 'voucher', link: fresh(), mac: fresh(32) }),
        // What a client knows of the session is no name of a link either.
        (channel, challenge) => sendOrder(channel, { link: told.bundle, key: new Uint8Array(32) }, challenge, order),
      ];
      for (const attempt of tries) {
        const channel = await as('server', at.dealer.addresses[0]!, 'dealer');
        const { nonce } = await receiveControl(channel, 'challenge');
        await attempt(channel, nonce);
        expect(await answerOf(channel)).toMatch(/^(role|order|failed)$/);
        await channel.close();
      }
      // Nor does it make a dealer keep more than a short frame of it.
      const flood = await as('server', at.dealer.addresses[0]!, 'dealer');
      await receiveControl(flood, 'challenge');
      await flood.send(controlFrame, new Uint8Array(4097)).catch(() => undefined);
      await expect(flood.receive()).rejects.toMatchObject({ kind: 'peer' });
      await flood.close();
      expect(at.lines.filter(({ event }) => event === 'link-opened')).toHaveLength(2);
    } finally {
      await at.end();
    }
  });

  it('does not get the half of a session by its name: not before its client, and not after', async () => {
    const at = await place();
    try {
      const client = await as('client', at.server.addresses[0]!, 'server');
      const { config } = await receiveControl(client, 'manifest');
      const traced = traceRun(config, run);
      const { ticket, nonce } = freshTicket();
      await sendControl(client, { type: 'request', run, program: traced.hash, nonce });
      const { bundle, program } = await receiveControl(client, 'session');
      for (const wrong of [fresh(32), `${nonce}${nonce}`, bundle + bundle]) {
        const thief = await as('client', at.dealer.addresses[0]!, 'dealer');
        await sendControl(thief, { type: 'join', bundle, program, ticket: wrong });
        expect(await answerOf(thief)).toBe('session');
        await thief.close();
      }
      // The one that holds the ticket still gets it, once.
      const own = await as('client', at.dealer.addresses[0]!, 'dealer');
      await sendControl(own, { type: 'join', bundle, program, ticket });
      expect((await own.receive()).kind).toBe(3);
      const late = await as('client', at.dealer.addresses[0]!, 'dealer');
      await sendControl(late, { type: 'join', bundle, program, ticket });
      expect(await answerOf(late)).toBe('session');
      await Promise.all([late.close(), own.close(), client.close()]);
    } finally {
      await at.end();
    }
  });
});

/** A link of the thief's own, with a copy that is the honest server's seed and weights of zero: it may order by that, and by nothing else. */
async function thiefLink(at: Honest, traced: TracedRun, config: Record<string, unknown>, credentials?: TlsCredentials) {
  const channel = await as('server', at.dealer.addresses[0]!, 'dealer', credentials);
  const token = credentials === undefined ? new TextEncoder().encode(readFileSync(linkToken, 'utf8').trim()) : undefined;
  const right = await openLink(channel, token);
  const own = freshCopy();
  await sendControl(channel, { type: 'copy', config, run, program: traced.hash, copy: own.id });
  const zeros = new Map(
    traced.ringProgram.nodes.flatMap((node) =>
      node.operation === 'serverInput'
        ? [
            [
              node.parameters.name,
              { shape: node.shape, values: new Float32Array(node.shape.reduce((a, b) => a * b, 1)) },
            ] as const,
          ]
        : [],
    ),
  );
  await sendMasked(platform, { program: traced.ringProgram, context: [] }, channel, own.seed, async (name) => zeros.get(name)!);
  await receiveControl(channel, 'copied');
  return { channel, right, own };
}

/** Orders on a connection of its own, and says what came of it. */
async function ordered(
  at: Honest,
  right: LinkRight,
  order: ReturnType<typeof orderOf>,
  credentials?: TlsCredentials,
): Promise<{ channel: Channel; said: string }> {
  const channel = await as('server', at.dealer.addresses[0]!, 'dealer', credentials);
  const { nonce } = await receiveControl(channel, 'challenge');
  await sendOrder(channel, right, nonce, order);
  return { channel, said: await answerOf(channel) };
}

describe('a server of the same dealer', () => {
  it('that joins its own sessions as the client solves for the weights that it brought, and for nobody else’s', async () => {
    const at = await place();
    try {
      const { config, traced } = await visit(at);
      const { channel: link, right, own } = await thiefLink(at, traced, config);
      const sessions: BothStreams[] = [];
      for (let k = 0; k < 4; k++) {
        const { ticket, nonce } = freshTicket();
        const asServer = await as('server', at.dealer.addresses[0]!, 'dealer');
        const challenge = await receiveControl(asServer, 'challenge');
        await sendOrder(asServer, right, challenge.nonce, orderOf(config, traced, own.id, nonce));
        const agreed = await receiveControl(asServer, 'agreed');
        const where = { address: at.dealer.addresses[0]! };
        sessions.push(await bothStreams(asServer, where, { agreed, ticket, program: traced.ringProgram }));
      }
      // The algebra is as good as it was: it opens the copy that was ordered by. That one is zeros under the thief's own seed.
      const words = await solveWeight(platform, traced.ringProgram, readWeight(traced.ringProgram), sessions, own.seed);
      expect(words.every((word) => word === 0n)).toBe(true);
      expect(words).not.toEqual(await trueWords(traced));
      await link.close();
    } finally {
      await at.end();
    }
  });

  it.each([false, true])(
    'does not order by the copy of another one although it knows its name, its link and its order (over TLS: %s)',
    async (tls) => {
      const files = join(root, `certificates${places}`);
      writeCertificates(files, await makeCertificates({ now: new Date(), days: 1 }));
      const of = (role: 'server' | 'dealer', folder = files) => ({
        authority: join(files, 'authority.pem'),
        certificate: join(folder, `${role}.pem`),
        key: join(folder, `${role}-key.pem`),
      });
      const secure = { listen: ['tls:127.0.0.1:0'] };
      const at = await place(tls ? { server: { ...secure, tls: of('server') }, dealer: { ...secure, tls: of('dealer') } } : {});
      // The thief's certificate names a server, and is signed by the same authority.
      const thief = tls ? loadCredentials(of('server'), 'server', new Date()) : undefined;
      const stolen: { link?: string; copy?: string; right?: LinkRight } = {};
      try {
        const client = tls ? { authority: thief!.authority } : undefined;
        const { config, traced } = await visit(at, client);
        const { channel: link, right, own } = await thiefLink(at, traced, config, thief);
        // More than a thief has: another link's right and copy, as its server knows them.
        const other = await thiefLink(at, traced, config, thief);
        Object.assign(stolen, { right: other.right, copy: other.own.id });
        const order = (copy: string) => orderOf(config, traced, copy);
        const outcomes: Record<string, string> = {};
        const attempt = async (name: string, by: LinkRight, copy: string, credentials = thief): Promise<void> => {
          const { channel, said } = await ordered(at, by, order(copy), credentials);
          outcomes[name] = said;
          await channel.close();
        };
        await attempt('its own copy', right, own.id);
        await attempt('the name of another copy', right, stolen.copy!);
        await attempt('the name of another link', { link: stolen.right!.link, key: right.key }, stolen.copy!);
        expect(outcomes).toEqual({
          'its own copy': 'agreed',
          'the name of another copy': 'order',
          'the name of another link': 'order',
        });
        // A voucher is for one order on one connection: the same bytes again, there or elsewhere, are refused.
        const first = await as('server', at.dealer.addresses[0]!, 'dealer', thief);
        const { nonce } = await receiveControl(first, 'challenge');
        const second = await as('server', at.dealer.addresses[0]!, 'dealer', thief);
        await receiveControl(second, 'challenge');
        await sendOrder(second, right, nonce, order(own.id));
        expect(await answerOf(second)).toBe('order');
        await Promise.all([first.close(), second.close(), other.channel.close(), link.close()]);
        // With its link the right ends.
        const late = await ordered(at, right, order(own.id), thief);
        expect(late.said).toBe('order');
        await late.channel.close();
      } finally {
        await at.end();
      }
    },
  );

  it('with another certificate does not order by a link’s secret, even if it knows that', async () => {
    const [mine, theirs] = [
      await makeCertificates({ now: new Date(), days: 1 }),
      await makeCertificates({ now: new Date(), days: 1 }),
    ];
    const files = join(root, 'two');
    writeCertificates(files, mine);
    const authority = join(files, 'both.pem');
    writeFileSync(authority, mine.authority.certificate + theirs.authority.certificate);
    const of = (role: 'server' | 'dealer') => ({
      authority,
      certificate: join(files, `${role}.pem`),
      key: join(files, `${role}-key.pem`),
    });
    const secure = { listen: ['tls:127.0.0.1:0'] };
    const at = await place({ server: { ...secure, tls: of('server') }, dealer: { ...secure, tls: of('dealer') } });
    try {
      const trusted = mine.authority.certificate;
      const { config, traced } = await visit(at, { authority: trusted });
      const { channel: link, right, own } = await thiefLink(at, traced, config, { authority: trusted, own: mine.server });
      const other = { authority: trusted, own: theirs.server };
      const { channel, said } = await ordered(at, right, orderOf(config, traced, own.id), other);
      expect(said).toBe('order');
      await Promise.all([channel.close(), link.close()]);
    } finally {
      await at.end();
    }
  });
});

describe('a client with a certificate of its own', () => {
  it('has no server role at a dealer that waits at a plain and at a TLS address, named in one word', async () => {
    const files = join(root, 'client-certificate');
    const set = await makeCertificates({ now: new Date(), days: 1 });
    writeCertificates(files, set);
    const tls = {
      authority: join(files, 'authority.pem'),
      certificate: join(files, 'dealer.pem'),
      key: join(files, 'dealer-key.pem'),
    };
    const at = await place({ dealer: { listen: ['tcp:127.0.0.1:0,tls:127.0.0.1:0'], tls } });
    try {
      const [, address] = at.dealer.addresses.join(',').split(/,(?=tls:)/);
      const credentials = { authority: set.authority.certificate, own: set.client };
      const opened = as('server', address!, 'dealer', credentials).then((channel) => openLink(channel, undefined));
      await expect(opened).rejects.toMatchObject({ code: 'role' });
    } finally {
      await at.end();
    }
  });
});

describe('a stranger at the dealer’s plain address', () => {
  it('is not sent the masked weights: a server asks its dealer for the same proof', async () => {
    const other = join(root, 'other-token');
    writeFileSync(other, `${fresh(32)}\n`, { mode: 0o600 });
    const at = await place({ server: { linkToken: other } });
    try {
      await vi.waitFor(() => expect(at.lines.some(({ event }) => event === 'link-failed')).toBe(true), 5000);
      const options = {
        ...{ server: at.server.addresses[0]!, dealer: at.dealer.addresses[0]!, state: join(root, 'client') },
        ...{ ring: run.ring, timeoutMilliseconds: 4000, task: { kind: 'generate', prompt: { ids: [5] }, newTokens: 1 } as const },
      };
      await expect(runClient(options)).rejects.toMatchObject({ name: 'SottoError', kind: 'peer' });
    } finally {
      await at.end();
    }
  });
});
