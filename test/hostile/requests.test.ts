import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { type Page, servePage } from '../../src/cli/page.ts';
import { temporary } from '../party/models.ts';
import { health, type StandingParty, startStanding } from './standing.ts';
import { requests, say } from './visitor.ts';

vi.setConfig({ testTimeout: 60_000 });
const { path: root, remove } = temporary();
const packageFolder = join(import.meta.dirname, '../..');
let page: Page;
let party: StandingParty;
beforeAll(async () => {
  page = await servePage(packageFolder, 0, () => ({ server: 'ws:127.0.0.1:1' }));
  party = await startStanding(['dealer', '--listen', 'ws:127.0.0.1:0', '--state', join(root, 'dealer')]);
});
afterAll(async () => {
  page.close();
  await party.end();
  remove();
});

// An unhandled error of a handler fails this test's process, and ends that of a command.
for (const [name, address] of [
  ['the page of the demo', () => page.origin],
  ["a party's health", () => `http://${party.metrics}`],
  ["a party's WebSocket", () => party.addresses[0]!],
] as const)
  it(`${name} answers or closes, whatever the request, and goes on`, async () => {
    for (const request of requests(7, 150)) {
      const answer = await say(address(), request);
      // Anything is an answer of HTTP, and nothing of the request comes back.
      expect(answer === '' || /^HTTP\/1\.1 [1-5]\d\d /.test(answer), JSON.stringify([request, answer])).toBe(true);
    }
    expect((await fetch(`${page.origin}/settings.json`)).status).toBe(200);
    expect((await health(party, '/healthz')).status).toBe(200);
    expect(party.child.exitCode).toBe(null);
  });

it('the page is found with a query behind it, and nothing beside its files', async () => {
  expect((await fetch(`${page.origin}/?a=//`)).status).toBe(200);
  for (const path of ['/package.json', '/../package.json', '/%2e%2e/package.json', '/settings.json/'])
    expect((await say(page.origin, `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`)).slice(0, 12), path).toBe('HTTP/1.1 404');
});
