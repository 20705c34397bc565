import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { makeCertificates, writeCertificates } from '../../src/node/certificates.ts';
import { runClient } from '../../src/party/index.ts';
import { expected, temporary, writeLlama } from '../party/models.ts';
import { health, type StandingParty, startStanding } from './standing.ts';
import { idle } from './visitor.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });
const { path: root, remove } = temporary();
const ring = { bits: 64, fraction: 16 };
const model = join(root, 'model');
const certificates = join(root, 'certificates');
const files = (role: string) => ({
  authority: join(certificates, 'authority.pem'),
  certificate: join(certificates, `${role}.pem`),
  key: join(certificates, `${role}-key.pem`),
});
const words = (role: string): string[] => Object.entries(files(role)).flatMap(([name, file]) => [`--${name}`, file]);
let dealer: StandingParty;
let server: StandingParty;
let right: readonly number[];
beforeAll(async () => {
  mkdirSync(model);
  await writeLlama(model);
  writeCertificates(certificates, await makeCertificates({ now: new Date(), days: 2 }));
  right = (await expected(model, { task: 'generate', newTokens: 2, ring }, [5])).ids;
  // No stranger is closed by a timeout within this test.
  const patience = ['--handshake-timeout', '600'];
  dealer = await startStanding([
    'dealer',
    '--listen',
    'tls:127.0.0.1:0',
    ...words('dealer'),
    '--state',
    join(root, 'd'),
    ...patience,
  ]);
  server = await startStanding([
    ...['serve', '--model', model, '--listen', 'tls:127.0.0.1:0', '--listen', 'ws:127.0.0.1:0', '--dealer', dealer.addresses[0]!],
    ...[...words('server'), '--state', join(root, 's'), '--reveal', 'both', ...patience],
  ]);
});
afterAll(async () => {
  await server.end();
  await dealer.end();
  remove();
});

let clients = 0;
async function served(address: string): Promise<void> {
  const { newIds } = await runClient({
    rangeFlags: false,
    ...{ server: address, dealer: dealer.addresses[0]!, state: join(root, `c${clients++}`), ring, timeoutMilliseconds: 60_000 },
    tls: { authority: files('client').authority },
    task: { kind: 'generate', prompt: { ids: [5] }, newTokens: 2 },
  });
  expect(newIds).toEqual(right);
}

describe('connections that say nothing', () => {
  for (const count of [60, 300])
    it(`${count} of them at every door of both parties keep nobody out`, async () => {
      const crowds = [];
      for (const address of [...server.addresses, ...dealer.addresses, server.metrics, dealer.metrics])
        crowds.push(await idle(address, count));
      expect((await health(server, '/healthz')).status).toBe(200);
      expect((await health(dealer, '/readyz')).status).toBe(200);
      for (const address of server.addresses) await served(address);
      for (const crowd of crowds) crowd.close();
    });
});
