import { afterAll, expect, it } from 'vitest';
import { main } from '../../src/cli/main.ts';
import { runDealer } from '../../src/party/index.ts';
import { say } from './visitor.ts';

/** Parties that serve one run are reached by the same pages, and over the same networks, as those that stand. */
const origin = 'https://elsewhere.example';
const running: Promise<unknown>[] = [];
afterAll(() => Promise.allSettled(running));

async function answerToPage(origins?: readonly string[]): Promise<string> {
  const address = await new Promise<string>((onListening) => {
    const linkToken = new Uint8Array(32).fill(7);
    running.push(runDealer({ listen: 'ws:127.0.0.1:0', timeoutMilliseconds: 500, linkToken, origins, onListening }));
  });
  for (const each of running) each.catch(() => undefined);
  const key = 'dGhlIHNhbXBsZSBub25jZQ==';
  const upgrade = `Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ${key}\r\nSec-WebSocket-Version: 13`;
  return (await say(address, `GET / HTTP/1.1\r\nHost: a\r\nOrigin: ${origin}\r\n${upgrade}\r\n\r\n`)).slice(0, 12);
}

it('a page comes to a party of one run where its origin is named, and nowhere else', async () => {
  expect(await answerToPage()).toBe('HTTP/1.1 403');
  expect(await answerToPage([origin])).toBe('HTTP/1.1 101');
});

it('an address that others can listen to is warned of, also where a party only goes there', async () => {
  const said = { error: '' };
  const addresses = ['--server', 'tcp:198.51.100.1:1', '--dealer', 'ws:198.51.100.2:1/d'];
  const words = ['party', 'client', ...addresses, '--prompt-ids', '5', '--timeout', '0.1'];
  await main(words, {
    out: () => undefined,
    error: (text) => void (said.error += text),
    outIsTerminal: false,
    errorIsTerminal: false,
    columns: 100,
    now: () => performance.now(),
    environment: {},
    onInterrupt: () => () => undefined,
    packageFolder: '.',
    workingFolder: () => process.cwd(),
  });
  for (const address of ['tcp:198.51.100.1:1', 'ws:198.51.100.2:1/d'])
    expect(said.error).toContain(`${address} is neither encrypted nor authenticated`);
});
