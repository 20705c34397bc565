import { createConnection } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CertificateSet, makeCertificates } from '../../src/node/certificates.ts';
import { connect, listen } from '../../src/node/sockets.ts';
import { acceptPeer } from '../../src/party/accept.ts';
import { temporary } from './models.ts';

const { path: root, remove } = temporary();
afterAll(remove);
let good: CertificateSet;
let foreign: CertificateSet;
beforeAll(async () => {
  good = await makeCertificates({ now: new Date(), days: 1 });
  foreign = await makeCertificates({ now: new Date(), days: 1 });
});
const trusting = { timeoutMilliseconds: 20_000 };
const listening = () =>
  listen({
    address: 'tls:127.0.0.1:0',
    peer: 'client',
    ...trusting,
    credentials: { authority: good.authority.certificate, own: good.server },
  });
const come = (address: string, set: CertificateSet) =>
  connect({
    address,
    peer: 'server',
    ...trusting,
    credentials: { authority: good.authority.certificate, own: set.client },
  });

describe('a party that waits for one peer', () => {
  it('gets it although strangers came before, in another language and with a foreign certificate', async () => {
    const listener = await listening();
    const accepting = acceptPeer(listener, { peer: 'client', timeoutMilliseconds: 20_000 });
    const stray = createConnection(Number(listener.address.split(':').at(-1)), '127.0.0.1', () =>
      stray.write('GET / HTTP/1.1\r\n\r\n'),
    );
    stray.on('error', () => {}).resume();
    await new Promise((resolve) => stray.once('close', resolve));
    // The one who comes may be told only when it first reads.
    const stranger = await come(listener.address, foreign).catch(() => undefined);
    await stranger?.receive().catch(() => undefined);
    const [channel, own] = await Promise.all([accepting, come(listener.address, good)]);
    await own.send(1, Uint8Array.of(7));
    expect((await channel.receive()).payload).toEqual(Uint8Array.of(7));
    await Promise.all([channel.close(), own.close(), stranger?.close()]);
    await listener.close();
  });

  it('says why the last one was refused where nobody else came in time', async () => {
    const listener = await listening();
    const accepting = acceptPeer(listener, { peer: 'client', timeoutMilliseconds: 2500 });
    const stranger = come(listener.address, foreign).then(
      (channel) => channel.close(),
      () => undefined,
    );
    await expect(accepting).rejects.toMatchObject({
      kind: 'peer',
      place: { party: 'client' },
      reason: expect.stringMatching(/did not connect within 2500 ms; .*not signed by the authority/),
    });
    await stranger;
    await listener.close();
  });

  it('says that nobody came where nobody came', async () => {
    const listener = await listen({ address: `unix:${join(root, 's')}`, peer: 'client', ...trusting });
    await expect(acceptPeer(listener, { peer: 'client', timeoutMilliseconds: 50 })).rejects.toThrow(/did not connect/);
    await listener.close();
  });
});
