import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { createConnection, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { connect as tlsConnect, createServer as tlsServer } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { main } from '../../src/cli/main.ts';
import type { Channel } from '../../src/net/contract.ts';
import { type CertificateSet, makeCertificates, writeCertificates } from '../../src/node/certificates.ts';
import { connect, type Listener, listen } from '../../src/node/sockets.ts';
import { loadCredentials, type TlsCredentials, type TlsFiles, type TlsRole } from '../../src/node/tls.ts';
import { classifyTextsFixed } from '../../src/package/encoders.ts';
import { openModel } from '../../src/package/model.ts';
import { runClient, runDealer, runServer } from '../../src/party/index.ts';
import { expected, temporary, writeBert, writeLlama } from './models.ts';

const { path: root, remove } = temporary();
const model = join(root, 'model');
const folder = join(root, 'certificates');
const now = new Date();
const patience = { timeoutMilliseconds: 5000 };
let good: CertificateSet;
let foreign: CertificateSet;
let expired: CertificateSet;

beforeAll(async () => {
  await writeLlama(model);
  good = await makeCertificates({ now, days: 2 });
  foreign = await makeCertificates({ now, days: 2 });
  expired = await makeCertificates({ now: new Date('2020-01-01'), days: 1 });
  writeCertificates(folder, good);
});
afterAll(remove);

const filesOf = (role: TlsRole): TlsFiles => ({
  authority: join(folder, 'authority.pem'),
  certificate: join(folder, `${role}.pem`),
  key: join(folder, `${role}-key.pem`),
});
/** What a party shows, and whom it trusts: in these tests not always what is right. */
const credentials = (trusted: CertificateSet, own?: CertificateSet, role: TlsRole = 'server'): TlsCredentials => ({
  authority: trusted.authority.certificate,
  ...(own === undefined ? {} : { own: own[role] }),
});

async function waitingOn(start: (announce: (address: string) => void) => Promise<unknown>) {
  let done: Promise<unknown> = Promise.resolve();
  const address = await new Promise<string>((resolve, reject) => {
    done = start(resolve);
    done.catch(reject);
  });
  return { address, done };
}

describe('a private run over TLS', () => {
  it.each([
    ['with a certificate for every party, and a dealer', 'dealer', true],
    ['without a certificate of the client, and a helper', 'helper', false],
  ] as const)('%s gives the text and the bytes of the forecast', async (_, setting, mutual) => {
    const run = { task: 'generate', newTokens: 2, ring: { bits: 64, fraction: 16 } } as const;
    const ids = [1, 5, 270];
    const right = await expected(model, run, ids);
    const listenOn = { listen: 'tls:127.0.0.1:0', setting, ...patience };
    const dealer = await waitingOn((onListening) => runDealer({ ...listenOn, tls: filesOf(setting), onListening }));
    expect(dealer.address).toMatch(/^tls:127\.0\.0\.1:\d+$/);
    const state = (name: string) => join(root, `${setting}-${name}`);
    const server = await waitingOn((onListening) =>
      runServer({
        ...listenOn,
        dealer: dealer.address,
        model,
        state: state('server'),
        tls: filesOf('server'),
        onListening,
      }),
    );
    const report = await runClient({
      rangeFlags: false,
      server: server.address,
      dealer: dealer.address,
      setting,
      state: state('client'),
      ring: run.ring,
      ...patience,
      tls: mutual ? filesOf('client') : { authority: join(folder, 'authority.pem') },
      task: { kind: 'generate', prompt: { ids }, newTokens: 2 },
    });
    expect(report.newIds).toEqual(right.ids);
    const served = (await server.done) as typeof report;
    await dealer.done;
    if (setting === 'dealer') {
      expect(report.sentBytes.online).toBe(report.forecast.online.clientToServerBytes);
      expect(served.sentBytes.online).toBe(report.forecast.online.serverToClientBytes);
    }
    expect(report.hops).toBe(report.forecast.online.hops);
  });
});

it('classifies a pair of texts over TLS for a client that has its manifest of the server alone', async () => {
  const encoder = join(root, 'encoder');
  mkdirSync(encoder);
  await writeBert(encoder);
  const listenOn = { listen: 'tls:127.0.0.1:0', ...patience };
  const dealer = await waitingOn((onListening) => runDealer({ ...listenOn, tls: filesOf('dealer'), onListening }));
  const state = join(root, 'encoder-server');
  const served = { model: encoder, dealer: dealer.address, state, tls: filesOf('server') };
  const server = await waitingOn((onListening) => runServer({ ...listenOn, ...served, onListening }));
  const [text, pair] = ['a small bird ?', 'the tree is bad'];
  const report = await runClient({
    ...{ server: server.address, dealer: dealer.address, state: join(root, 'encoder-client'), ...patience },
    tls: { authority: join(folder, 'authority.pem') },
    task: { kind: 'classify', text, pair },
  });
  const model = await openModel(encoder);
  const [right] = await classifyTextsFixed(model, [[text, pair]], { bits: 64, fraction: 16 });
  // Of secret length: the positions are those of the bytes.
  expect(report.class).toEqual({ id: right!.id, label: right!.label });
  expect(report.sentBytes.online).toBe(report.forecast.online.clientToServerBytes);
  expect(((await server.done) as typeof report).sentBytes.online).toBe(report.forecast.online.serverToClientBytes);
  await dealer.done;
});

interface Meeting {
  readonly accepted: Channel | Error;
  readonly connected: Channel | Error;
}

/** One side waits for `expects`, the other connects to `peer`. */
async function meet(
  waiting: { readonly credentials: TlsCredentials; readonly expects?: TlsRole },
  coming: { readonly credentials: TlsCredentials; readonly expects?: TlsRole },
): Promise<Meeting> {
  const address = 'tls:127.0.0.1:0';
  const peer = waiting.expects ?? 'client';
  const listener = await listen({ address, peer, ...patience, credentials: waiting.credentials });
  const connecting = connect({
    address: listener.address,
    peer: coming.expects ?? 'server',
    ...patience,
    credentials: coming.credentials,
  });
  const [accepted, connected] = await Promise.all(
    [listener.accept(), connecting].map((side) => side.catch((error: Error) => error)),
  );
  await listener.close();
  return { accepted: accepted!, connected: connected! };
}

/** What the other side finds after its peer has refused it. */
const afterwards = async (side: Channel | Error): Promise<Error> => {
  if (side instanceof Error) return side;
  const error = await side.receive().then(
    () => new Error('nothing was wrong'),
    (error: Error) => error,
  );
  await side.close();
  return error;
};
const peerError = (party: string, reason: string) => ({
  name: 'SottoError',
  kind: 'peer',
  place: { party },
  reason: expect.stringContaining(reason),
});

describe('a certificate that is wrong', () => {
  it.each([
    ['has expired', () => [credentials(expired), credentials(good, expired)], 'server', 'has expired'],
    ['is of another authority', () => [credentials(good), credentials(good, foreign)], 'server', 'not signed by the authority'],
    ['is for another role', () => [credentials(good), credentials(good, good, 'dealer')], 'server', 'another role'],
    ['is for another role, of a dealer', () => [credentials(good), credentials(good, good)], 'dealer', 'another role'],
  ] as const)('because it %s is found by who connects', async (_, sides, peer, reason) => {
    const [coming, waiting] = sides();
    const { accepted, connected } = await meet({ credentials: waiting! }, { credentials: coming!, expects: peer });
    expect(connected).toMatchObject(peerError(peer, reason));
    expect(await afterwards(accepted)).toMatchObject(peerError('client', ''));
  });

  it.each([
    ['has expired', () => [credentials(expired, good), credentials(good, expired)], 'server', 'has expired'],
    [
      'is of another authority',
      () => [credentials(good, good), credentials(good, foreign)],
      'server',
      'not signed by the authority',
    ],
    ['is for another role', () => [credentials(good, good), credentials(good, good, 'client')], 'server', 'another role'],
    ['is missing', () => [credentials(good, good, 'dealer'), credentials(good)], 'server', 'shows no certificate'],
    [
      "is a client's and of another authority",
      () => [credentials(good, good), credentials(good, foreign, 'client')],
      'client',
      'not signed',
    ],
  ] as const)('because it %s is found by who waits', async (_, sides, peer, reason) => {
    const [waiting, coming] = sides();
    // Who comes believes in the other side here, so that only one certificate is wrong.
    const trusting = { ...coming!, authority: good.authority.certificate };
    const expects = _ === 'is missing' ? 'dealer' : 'server';
    const { accepted, connected } = await meet({ credentials: waiting!, expects: peer }, { credentials: trusting, expects });
    expect(accepted).toMatchObject(peerError(peer, reason));
    expect(await afterwards(connected)).toMatchObject(peerError(expects, ''));
  });

  it('is refused whatever the environment says of it', async () => {
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
    try {
      const { accepted, connected } = await meet({ credentials: credentials(good, foreign) }, { credentials: credentials(good) });
      expect(connected).toMatchObject(peerError('server', 'not signed by the authority'));
      await afterwards(accepted);
    } finally {
      vi.unstubAllEnvs();
    }
  });

  it('stays out where right ones pass frames both ways, larger than a record of TLS', async () => {
    const { accepted, connected } = await meet(
      { credentials: credentials(good, good), expects: 'client' },
      { credentials: credentials(good) },
    );
    const [here, there] = [accepted as Channel, connected as Channel];
    const payload = Uint8Array.from({ length: 300_000 }, (_, at) => at % 251);
    const [, , forth, back] = await Promise.all([there.send(1, payload), here.send(2, payload), here.receive(), there.receive()]);
    expect([forth.kind, back.kind]).toEqual([1, 2]);
    expect(Buffer.compare(forth.payload, payload) + Buffer.compare(back.payload, payload)).toBe(0);
    expect(here.counters).toEqual({ sentBytes: 300_016, sentFrames: 1, receivedBytes: 300_016, receivedFrames: 1 });
    await Promise.all([here.close(), there.close()]);
  });
});

const limits = () => ({ peer: 'server', ...patience, credentials: credentials(good) });
const listening = async (server: Server): Promise<string> => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `tls:127.0.0.1:${(server.address() as { port: number }).port}`;
};
const listenTls = (timeoutMilliseconds = 5000): Promise<Listener> =>
  listen({ address: 'tls:127.0.0.1:0', peer: 'client', timeoutMilliseconds, credentials: credentials(good, good) });
const portOf = ({ address }: Listener): number => Number(address.split(':').at(-1));

describe('two sides that do not agree on TLS', () => {
  it('end with an error on both where only who waits speaks it', async () => {
    const listener = await listenTls();
    const plain = await connect({ address: listener.address.replace('tls:', 'tcp:'), peer: 'server', ...patience });
    const accepting = listener.accept().catch((error: Error) => error);
    await plain.send(0, new Uint8Array(40));
    expect(await accepting).toMatchObject(peerError('client', 'speaks no TLS'));
    expect(await afterwards(plain)).toMatchObject(peerError('server', ''));
    await listener.close();
  });

  it('end with an error on both where only who comes speaks it', async () => {
    const listener = await listen({ address: 'tcp:127.0.0.1:0', peer: 'client', ...patience });
    const connecting = connect({ address: listener.address.replace('tcp:', 'tls:'), ...limits() }).catch((error: Error) => error);
    const accepted = await listener.accept();
    await accepted.send(0, new Uint8Array(40)).catch(() => undefined);
    expect(await afterwards(accepted)).toMatchObject(peerError('client', 'speaks TLS on a plain connection'));
    expect(await connecting).toMatchObject(peerError('server', ''));
    await listener.close();
  });

  it('do not wait for ever for a side that says nothing', async () => {
    const silent = createServer(() => undefined);
    const address = await listening(silent);
    await expect(connect({ address, ...limits(), timeoutMilliseconds: 100 })).rejects.toMatchObject(
      peerError('server', 'did not finish the TLS handshake'),
    );
    silent.close();
    const listener = await listenTls(100);
    const socket = createConnection(portOf(listener), '127.0.0.1');
    await expect(listener.accept()).rejects.toMatchObject(peerError('client', 'did not finish the TLS handshake'));
    socket.destroy();
    await listener.close();
  });

  it('refuse every protocol below TLS 1.3', async () => {
    const { certificate: cert, key } = good.server;
    const old = tlsServer({ cert, key, ca: good.authority.certificate, maxVersion: 'TLSv1.2' });
    const address = await listening(old);
    await expect(connect({ address, ...limits() })).rejects.toMatchObject(peerError('server', 'speaks no TLS 1.3'));
    old.close();
    const listener = await listenTls();
    const socket = tlsConnect({
      port: portOf(listener),
      host: '127.0.0.1',
      maxVersion: 'TLSv1.2',
      ca: good.authority.certificate,
      checkServerIdentity: () => undefined,
    });
    const ended = new Promise((resolve) => socket.once('error', resolve).once('close', resolve));
    await expect(listener.accept()).rejects.toMatchObject(peerError('client', 'speaks no TLS 1.3'));
    await ended;
    await listener.close();
  });

  it('are told at the start where an address needs certificates, or certificates an address', async () => {
    await expect(connect({ address: 'tls:127.0.0.1:1', peer: 'server', ...patience })).rejects.toMatchObject({ kind: 'usage' });
    const dealer = runDealer({ listen: 'tcp:127.0.0.1:0', ...patience, tls: filesOf('dealer') });
    await expect(dealer).rejects.toMatchObject({ kind: 'usage', place: { party: 'dealer' } });
  });
});

describe('certificate files', () => {
  it('are refused with their name where they are wrong', () => {
    const files = filesOf('server');
    const garbage = join(root, 'garbage.pem');
    writeFileSync(garbage, 'nothing of the kind');
    const load = (changed: Partial<TlsFiles>, role: TlsRole = 'server', at = now) => {
      try {
        return loadCredentials({ ...files, ...changed }, role, at);
      } catch (error) {
        return error;
      }
    };
    const input = (file: string, reason: string) => ({ kind: 'input', place: { file }, reason: expect.stringContaining(reason) });
    expect(load({})).toMatchObject({ own: good.server });
    expect(load({ authority: join(root, 'nowhere') })).toMatchObject(input(join(root, 'nowhere'), 'ENOENT'));
    for (const field of ['authority', 'certificate'] as const)
      expect(load({ [field]: garbage })).toMatchObject(input(garbage, 'no certificate'));
    expect(load({ key: garbage })).toMatchObject(input(garbage, 'no private key'));
    expect(load({ key: filesOf('client').key })).toMatchObject(input(filesOf('client').key!, 'not that of the certificate'));
    expect(load({}, 'dealer')).toMatchObject(input(files.certificate!, 'not for dealer.sotto'));
    expect(load({}, 'server', new Date(now.getTime() + 3 * 86_400_000))).toMatchObject(input(files.certificate!, 'expired'));
    expect(load({}, 'server', new Date(0))).toMatchObject(input(files.certificate!, 'not valid before'));
    expect(load({ key: undefined })).toMatchObject({ kind: 'usage', place: { field: '--key' } });
    expect(load({ certificate: undefined, key: undefined })).toMatchObject({ kind: 'usage' });
    expect(load({ certificate: undefined, key: undefined }, 'client')).toEqual({ authority: good.authority.certificate });
  });

  it('are made by `sotto certificates`, keys for this user alone, and never replaced', async () => {
    const out = join(root, 'made');
    const said = { out: '', error: '' };
    const command = (...words: string[]) =>
      main(['certificates', out, '--days', '7', ...words], {
        out: (text) => void (said.out += text),
        error: (text) => void (said.error += text),
        outIsTerminal: false,
        errorIsTerminal: false,
        columns: 100,
        now: () => performance.now(),
        environment: {},
        onInterrupt: () => () => undefined,
        packageFolder: join(import.meta.dirname, '../..'),
        workingFolder: () => process.cwd(),
      });
    expect(await command('--json')).toBe(0);
    const { files, validUntil } = JSON.parse(said.out) as { files: string[]; validUntil: string };
    expect(files).toHaveLength(10);
    expect(Math.abs(Date.parse(validUntil) - now.getTime() - 7 * 86_400_000)).toBeLessThan(60_000);
    for (const file of files) expect(statSync(file).mode & 0o777).toBe(file.endsWith('-key.pem') ? 0o600 : 0o644);
    const own = { authority: join(out, 'authority.pem'), certificate: join(out, 'helper.pem'), key: join(out, 'helper-key.pem') };
    expect(loadCredentials(own, 'helper', new Date())).toMatchObject({ own: { key: expect.stringContaining('PRIVATE KEY') } });
    expect(await command()).toBe(2);
    expect(said.error).toContain('the file exists');
  });
});
