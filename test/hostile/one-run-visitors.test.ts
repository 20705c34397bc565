import { mkdirSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Setting } from '../../src/backends/cost/index.ts';
import { makeCertificates, writeCertificates } from '../../src/node/certificates.ts';
import { connect } from '../../src/node/sockets.ts';
import { type Control, protocolVersion, receiveControl, sendControl } from '../../src/party/control.ts';
import { runClient, runDealer, runServer } from '../../src/party/index.ts';
import { expected, temporary, writeLlama } from '../party/models.ts';
import { say } from './visitor.ts';

/** Who comes by mistake or to do harm to a party that serves one run, before its peer does: it is refused, and the party waits on. */
vi.setConfig({ testTimeout: 60_000 });
const { path: root, remove } = temporary();
const model = join(root, 'model');
const ring = { bits: 64, fraction: 16 };
const files = join(root, 'certificates');
let right: readonly number[];
beforeAll(async () => {
  mkdirSync(model);
  await writeLlama(model);
  writeCertificates(files, await makeCertificates({ now: new Date(), days: 1 }));
  right = (await expected(model, { task: 'generate', newTokens: 2, ring }, [5])).ids;
});
afterAll(remove);

const certified = (role: string) => ({
  authority: join(files, 'authority.pem'),
  certificate: join(files, `${role}.pem`),
  key: join(files, `${role}-key.pem`),
});

async function waiting<T>(start: (onListening: (address: string) => void) => Promise<T>) {
  let end: Promise<T>;
  const address = await new Promise<string>((resolve, reject) => {
    end = start(resolve);
    end.catch(reject);
  });
  const [tcp, tls] = address.split(',') as [string, string];
  return { tcp, tls, end: end! };
}

const sockets: Socket[] = [];
afterAll(() => sockets.forEach((socket) => void socket.destroy()));

/** A connection that is opened and says this much, for ever. */
async function opened(address: string, words: string | Uint8Array = ''): Promise<void> {
  const [host, port] = address.replace(/^[a-z]+:/, '').split(':') as [string, string];
  const socket = createConnection({ host, port: Number(port) });
  sockets.push(socket);
  socket.on('error', () => {}).resume();
  await new Promise((resolve) => socket.write(words, resolve));
}

/** What a visitor hears that says this in place of a hello. */
async function heard(address: string, peer: string, hello: Partial<Control<'hello'>>): Promise<unknown> {
  const channel = await connect({ address, peer, timeoutMilliseconds: 20_000 });
  await sendControl(channel, { type: 'hello', version: protocolVersion, role: 'client', ...hello });
  await receiveControl(channel, 'hello');
  const { code, reason } = await receiveControl(channel, 'stop').then(
    () => ({ code: 'none', reason: '' }),
    (error: { code?: string; reason: string }) => error,
  );
  await channel.close();
  return code ?? reason;
}

/** The first bytes of a ClientHello, and no more. */
const halfTls = Uint8Array.of(0x16, 3, 1, 2, 0, 1, 0, 1);

async function besiege({ tcp, tls }: { tcp: string; tls: string }, peer: string, stranger: Control<'hello'>['role']) {
  await opened(tcp);
  await opened(tls, halfTls);
  await say(tcp, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n', 500);
  await say(tcp, new Uint8Array(400).fill(0xff), 500);
  expect(await heard(tcp, peer, { role: stranger })).toBe('role');
  expect(await heard(tcp, peer, { version: 'sotto/3' })).toBe('version');
  // Says who it is, as it should, and then nothing.
  const channel = await connect({ address: tcp, peer, timeoutMilliseconds: 20_000 });
  await sendControl(channel, { type: 'hello', version: protocolVersion, role: 'client' });
  return () => channel.close();
}

describe.each(['dealer', 'helper'] as const)('parties of one run with a %s', (setting: Setting) => {
  it('serve it though garbage, another role, another version, silence and half a handshake come before their peers', async () => {
    const patience = { timeoutMilliseconds: 20_000, setting, linkToken: new Uint8Array(32).fill(3) };
    const listen = 'tcp:127.0.0.1:0,tls:127.0.0.1:0';
    const dealer = await waiting((onListening) => runDealer({ ...patience, listen, tls: certified(setting), onListening }));
    const leave = [await besiege(dealer, setting, 'dealer')];
    const server = await waiting((onListening) =>
      runServer({
        ...{ ...patience, model, listen, dealer: dealer.tcp, tls: certified('server') },
        ...{ state: join(root, setting, 'server'), onListening },
      }),
    );
    leave.push(await besiege(server, 'server', 'dealer'));
    const { newIds, ...report } = await runClient({
      ...{ ...patience, server: server.tcp, dealer: dealer.tcp, state: join(root, setting, 'client') },
      ...{ ring, task: { kind: 'generate', prompt: { ids: [5] }, newTokens: 2 } },
    });
    expect(newIds).toEqual(right);
    const [served, dealt] = await Promise.all([server.end, dealer.end]);
    // The run's bytes and no visitor's.
    expect(served.sentBytes.setup).toBe(report.forecast.setup.serverSentBytes);
    expect(served.sentBytes.online).toBe(report.forecast.online.serverToClientBytes);
    expect(dealt.sentBytes.offline).toBe(report.forecast.offline.dealerSentBytes);
    await Promise.all(leave.map((close) => close()));
  });
});

it('a party of one run to which nobody else comes says at its end what the last visitor was', async () => {
  const common = { timeoutMilliseconds: 1200, linkToken: new Uint8Array(32).fill(4) };
  const listen = 'tcp:127.0.0.1:0';
  const dealer = await waiting((onListening) => runDealer({ ...common, listen, startMilliseconds: 30_000, onListening }));
  const server = await waiting((onListening) =>
    runServer({ ...common, model, listen, dealer: dealer.tcp, state: join(root, 'alone'), onListening }),
  );
  await heard(server.tcp, 'server', { version: 'sotto/3' });
  const said = 'did not connect within 1500 ms; the last connection that was refused: ';
  await expect(server.end).rejects.toMatchObject({
    ...{ kind: 'peer', place: { party: 'client' } },
    reason: expect.stringContaining(`${said}speaks sotto/3, this party ${protocolVersion}`),
  });
  // A dealer hears from its server which party it was.
  await expect(dealer.end).rejects.toMatchObject({ kind: 'peer', reason: 'refused: it was let down by party client' });
});
