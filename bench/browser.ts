// The same texts by Node's client and by a page in Chromium, in turns, over WebSockets between processes of this machine.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { chromium as driver } from 'playwright-core';
import { pagePrg } from '../src/browser/randomness.ts';
import { servePage } from '../src/cli/page.ts';
import type { PrgFactory } from '../src/math/random.ts';
import { aesPrg } from '../src/node/randomness.ts';
import { runClient } from '../src/party/index.ts';
import { chromium, type Party, root, startParty } from '../test/browser/parties.ts';
import { type Measurement, summarise } from './measure.ts';

const model = join(root, 'artefacts/stories-polynomial');
const prompt = 'One day, a dog named Max';
const newTokens = 24;
const rounds = 5;

interface Took {
  readonly offline: number;
  readonly online: number;
}

function gigabytesPerSecond(prg: PrgFactory): number[] {
  const generator = prg(new Uint8Array(32));
  const out = new Uint8Array(2 ** 24);
  // Of processor time, which other work on the machine does not count into.
  return Array.from({ length: rounds }, (_, stream) => {
    const before = process.cpuUsage();
    generator.fill(stream, out);
    const { user, system } = process.cpuUsage(before);
    return out.length / 1000 / (user + system);
  });
}

export async function browser(): Promise<{ measurements: Measurement[]; newTokens: number; sameIds: boolean }> {
  const executablePath = chromium();
  if (executablePath === undefined) throw new Error('there is no Chromium: set CHROMIUM, or apt-get install chromium');
  const state = mkdtempSync(join(tmpdir(), 'sotto-bench-'));
  const opened = await driver.launch({ executablePath, args: ['--no-sandbox'] });
  const site = await servePage(root, 0, () => ({}));
  const page = await opened.newPage();
  await page.goto(site.origin);
  await page.locator('summary').click();
  await page.fill('#prompt', prompt);
  await page.fill('#tokens', String(newTokens));
  const parties = async (): Promise<[Party, Party]> => {
    const dealer = await startParty(['dealer', '--listen', 'ws:127.0.0.1:0']);
    const words = ['--listen', 'ws:127.0.0.1:0', '--dealer', dealer.address, '--model', model, '--state', join(state, 'server')];
    return [await startParty(['server', ...words]), dealer];
  };
  const ids: (readonly number[])[] = [];
  const node = async (server: Party, dealer: Party): Promise<Took> => {
    const { seconds, newIds } = await runClient({
      rangeFlags: false,
      server: server.address,
      dealer: dealer.address,
      state: join(state, 'client'),
      ring: { bits: 64, fraction: 16 },
      timeoutMilliseconds: 60_000,
      task: { kind: 'generate', prompt: { text: prompt }, newTokens },
    });
    ids.push(newIds);
    return seconds;
  };
  const inPage = async (server: Party, dealer: Party): Promise<Took> => {
    await page.fill('#server', server.address);
    await page.fill('#dealer', dealer.address);
    await page.click('#start');
    const result = (await page.evaluate('window.outcome')) as { newIds: number[]; seconds: Took; reason?: string };
    if (result.reason !== undefined) throw new Error(result.reason);
    ids.push(result.newIds);
    return result.seconds;
  };
  try {
    const took = { "Node's client": [] as Took[], 'a page in Chromium': [] as Took[] };
    for (let round = 0; round < rounds; round++)
      for (const [name, run] of [
        ["Node's client", node],
        ['a page in Chromium', inPage],
      ] as const) {
        const [server, dealer] = await parties();
        took[name].push(await run(server, dealer));
        await Promise.all([server.ended, dealer.ended]);
      }
    const generators = Object.entries({ "Node's AES": aesPrg, "a page's AES, in Node": pagePrg }).map(([name, prg]) =>
      summarise(`${name}: pads`, 'GB/s', gigabytesPerSecond(prg)),
    );
    const runs = Object.entries(took).flatMap(([name, each]) => [
      summarise(
        `${name}: online, a token`,
        's',
        each.map(({ online }) => online / newTokens),
      ),
      summarise(
        `${name}: offline, a text`,
        's',
        each.map(({ offline }) => offline),
      ),
    ]);
    return { measurements: [...runs, ...generators], newTokens, sameIds: ids.every((these) => String(these) === String(ids[0])) };
  } finally {
    await opened.close();
    site.close();
    rmSync(state, { recursive: true, force: true });
  }
}
