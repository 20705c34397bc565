import { spawn } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Browser, chromium as driver, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, it, vi } from 'vitest';
import { type Page as Site, servePage } from '../../src/cli/page.ts';
import { parsePreprocessor, preprocess } from '../../src/models/preprocess.ts';
import { type CertificateSet, makeCertificates, writeCertificates } from '../../src/node/certificates.ts';
import { classifyTextsFixed } from '../../src/package/encoders.ts';
import { openModel } from '../../src/package/model.ts';
import { runClient } from '../../src/party/index.ts';
import { loadImage } from '../../src/pictures/index.ts';
import { golden, hashOf, unread } from '../formats/golden-pictures.ts';
import { expected, farthest, temporary, writeBert, writeVit } from '../party/models.ts';
import { chromium, type Party, root as packageFolder, startParty } from './parties.ts';

const executablePath = chromium();
if (executablePath === undefined)
  console.warn('test/browser/page.test.ts is skipped: there is no Chromium (set CHROMIUM, or apt-get install chromium)');

const model = join(import.meta.dirname, '../../artefacts/stories-polynomial');
const prompt = 'One day, a dog named Max';
const newTokens = 12;
const { path: root, remove } = temporary();
const started: Party[] = [];
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

describe.skipIf(executablePath === undefined)('a page in Chromium', () => {
  let browser: Browser;
  let site: Site;
  let certificates: CertificateSet;
  let expectedIds: readonly number[];

  beforeAll(async () => {
    expect(inject('buildFailure')).toBe('');
    certificates = await makeCertificates({ now: new Date(), days: 2 });
    mkdirSync(root, { recursive: true });
    writeCertificates(join(root, 'certificates'), certificates);
    const keys = [certificates.server, certificates.dealer].map(({ certificate }) => keyHash(certificate)).join(',');
    browser = await driver.launch({
      executablePath: executablePath!,
      // A test's authority is not installed in the browser: it is told the keys that it may trust.
      args: ['--no-sandbox', `--ignore-certificate-errors-spki-list=${keys}`],
    });
    site = await servePage(packageFolder, 0, () => ({}));
    expectedIds = await withNode();
  });
  afterAll(async () => {
    await browser?.close();
    site?.close();
    for (const party of started) party.process.kill('SIGKILL');
    remove();
  });

  let runs = 0;
  async function parties(
    listen: { dealer: string; server: string },
    more: { dealer?: string[]; server?: string[] } = {},
    folder = model,
  ) {
    const dealer = await startParty(['dealer', '--listen', listen.dealer, ...(more.dealer ?? [])]);
    started.push(dealer);
    const [forServer] = dealer.address.split(',');
    const state = join(root, `state${runs++}`);
    const words = [
      '--listen',
      listen.server,
      '--dealer',
      forServer!,
      '--model',
      folder,
      '--state',
      state,
      ...(more.server ?? []),
    ];
    const server = await startParty(['server', ...words]);
    started.push(server);
    return { dealer, server };
  }

  /** What Node's client gets, over the same WebSockets. */
  async function withNode(): Promise<readonly number[]> {
    const { dealer, server } = await parties({ dealer: 'ws:127.0.0.1:0', server: 'ws:127.0.0.1:0' });
    const report = await runClient({
      rangeFlags: false,
      server: server.address,
      dealer: dealer.address,
      state: join(root, 'client'),
      ring: { bits: 64, fraction: 16 },
      timeoutMilliseconds: 20_000,
      task: { kind: 'generate', prompt: { text: prompt }, newTokens },
    });
    expect(await server.ended).toBe(0);
    return report.newIds;
  }

  async function openPage(addresses: { server: string; dealer: string }): Promise<{ page: Page; said: string[] }> {
    const page = await browser.newPage({ viewport: { width: 1100, height: 1250 } });
    const said: string[] = [];
    page.on('console', (message) => void (message.type() === 'error' && said.push(message.text())));
    page.on('pageerror', (error) => void said.push(String(error)));
    await page.goto(site.origin);
    await page.locator('summary').click();
    await page.fill('#server', addresses.server);
    await page.fill('#dealer', addresses.dealer);
    await page.fill('#prompt', prompt);
    await page.fill('#tokens', String(newTokens));
    return { page, said };
  }
  const press = (page: Page) => page.click('#start');
  const outcome = (page: Page) =>
    page.evaluate('window.outcome') as Promise<{
      text?: string;
      newIds?: number[];
      name?: string;
      logits?: number[];
      seconds?: Record<string, number>;
      party?: string;
      reason?: string;
    }>;

  it('writes the tokens that Node writes, and shows what it cost and what the others saw', async () => {
    const { dealer, server } = await parties({ dealer: 'ws:127.0.0.1:0/d', server: 'ws:127.0.0.1:0/s' });
    const { page, said } = await openPage({ server: server.address, dealer: dealer.address });
    await press(page);
    const result = await outcome(page);
    expect(result).toMatchObject({ newIds: expectedIds });
    expect(await page.textContent('#text')).toBe(result.text);
    expect(result.text!.startsWith(prompt)).toBe(true);
    expect(await page.textContent('#done')).toBe(String(newTokens));
    expect(await page.textContent('#server-saw')).toMatch(/^[0-9a-f]{16} [0-9a-f]{16} [0-9a-f]{16}$/);
    expect(await page.textContent('#material')).toMatch(/ [kM]B$/);
    expect(Number(await page.textContent('#hops'))).toBeGreaterThan(100);
    // The page's icon is what it asks for beside.
    expect(said.filter((line) => !line.includes('404'))).toEqual([]);
    expect([await server.ended, await dealer.ended]).toEqual([0, 0]);
    const folder = process.env.SOTTO_SCREENSHOTS;
    if (folder) await page.screenshot({ path: join(folder, 'page.png'), fullPage: true });
    if (folder) writeFileSync(join(folder, 'seconds.json'), JSON.stringify(result.seconds));
    await page.close();
  });

  it('does so over TLS, where server and dealer know each other by certificates', async () => {
    const files = (role: string) => {
      const of = (name: string) => join(root, 'certificates', name);
      return ['--authority', of('authority.pem'), '--certificate', of(`${role}.pem`), '--key', of(`${role}-key.pem`)];
    };
    const { dealer, server } = await parties(
      { dealer: 'tls:127.0.0.1:0,wss:127.0.0.1:0', server: 'wss:127.0.0.1:0' },
      { dealer: files('dealer'), server: files('server') },
    );
    const { page } = await openPage({ server: server.address, dealer: dealer.address.split(',')[1]! });
    await page.fill('#tokens', '3');
    await press(page);
    expect(await outcome(page)).toMatchObject({ newIds: expectedIds.slice(0, 3) });
    expect([await server.ended, await dealer.ended]).toEqual([0, 0]);
    await page.close();
  });

  it('names a picture that it decodes itself, like the simulation', async () => {
    const vision = join(root, 'vit/model');
    mkdirSync(vision, { recursive: true });
    const picture = await writeVit(vision);
    const { dealer, server } = await parties({ dealer: 'ws:127.0.0.1:0', server: 'ws:127.0.0.1:0' }, {}, vision);
    const page = await browser.newPage();
    await page.goto(site.origin);
    const addresses = JSON.stringify({ server: server.address, dealer: dealer.address });
    const file = `new Blob([Uint8Array.from(${JSON.stringify([...readFileSync(picture)])})])`;
    const classify = `({ connectClient }) => connectClient(${addresses}).classify({ image: ${file} })`;
    // As text: the test runner would change an import in a function.
    const { logits } = await page.evaluate<{ logits: number[] }>(`import('/sotto-client.js').then(${classify})`);
    const preprocessor = parsePreprocessor(JSON.parse(readFileSync(join(vision, 'preprocessor_config.json'), 'utf8')));
    const pixels = preprocess(await loadImage(readFileSync(picture), picture), preprocessor);
    const right = await expected(vision, { task: 'classify', newTokens: 1, ring: { bits: 64, fraction: 16 } }, pixels);
    expect(farthest([Float64Array.from(logits)], right.logits)).toBeLessThan(0.05);
    await page.close();
  });

  it('classifies a text, and a pair of texts, like the simulation', async () => {
    const folder = join(root, 'bert');
    mkdirSync(folder);
    await writeBert(folder);
    const model = await openModel(folder);
    for (const [text, pair] of [
      ['the film is greatly bad !', ''],
      ['a small bird ?', 'the tree is bad'],
    ] as const) {
      const { dealer, server } = await parties({ dealer: 'ws:127.0.0.1:0', server: 'ws:127.0.0.1:0' }, {}, folder);
      const { page, said } = await openPage({ server: server.address, dealer: dealer.address });
      await page.selectOption('#task', 'classify');
      await page.fill('#prompt', text);
      await page.fill('#pair', pair);
      await press(page);
      const texts = pair === '' ? ([text] as const) : ([text, pair] as const);
      const [right] = await classifyTextsFixed(model, [texts], { bits: 64, fraction: 16 });
      const result = await outcome(page);
      expect(result).toMatchObject({ name: right!.label });
      expect(farthest([Float64Array.from(result.logits!)], [right!.logits])).toBeLessThan(0.05);
      expect(await page.textContent('#text')).toBe(`${[...texts, right!.label].join(' ')}`);
      expect(said.filter((line) => !line.includes('404'))).toEqual([]);
      expect([await server.ended, await dealer.ended]).toEqual([0, 0]);
      await page.close();
    }
  });

  it('reads pictures to the bytes that Pillow gives, by the same decoder as Node', async () => {
    const page = await browser.newPage();
    await page.goto(site.origin);
    const files = Object.fromEntries(Object.entries(golden.pictures).map(([name, [file]]) => [name, file]));
    const read = `async ({ loadImage }) => {
      const found = {};
      for (const [name, file] of Object.entries(${JSON.stringify(files)})) {
        const bytes = Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0));
        found[name] = await loadImage(bytes, name).then(({ width, height, data }) => ({ width, height, data: [...data] }), ({ kind }) => kind);
      }
      return found;
    }`;
    const found = await page.evaluate<Record<string, string | { width: number; height: number; data: number[] }>>(
      `import('/sotto-client.js').then(${read})`,
    );
    for (const [name, [, hash]] of Object.entries(golden.pictures)) {
      const image = found[name]!;
      if (typeof image === 'string') expect([image, hash === null || unread.test(name)], name).toEqual(['input', true]);
      else expect(hashOf({ ...image, data: Uint8Array.from(image.data) }), name).toBe(hash);
    }
    await page.close();
  });

  it('names the server where it is killed in the middle of a run', async () => {
    const { dealer, server } = await parties({ dealer: 'ws:127.0.0.1:0', server: 'ws:127.0.0.1:0' });
    const { page } = await openPage({ server: server.address, dealer: dealer.address });
    await page.fill('#tokens', '6');
    await press(page);
    // The page's own policy forbids what is given as text to be looked at again and again.
    while ((await page.textContent('#done')) === '0' && (await page.textContent('#problem')) === '')
      await new Promise((resolve) => setTimeout(resolve, 10));
    server.process.kill('SIGKILL');
    expect(await outcome(page)).toMatchObject({ party: 'server', reason: expect.stringContaining('closed') });
    expect(await page.textContent('#problem')).toContain('server');
    await page.close();
  });

  it('is what `sotto demo --browser` serves, with parties that stand: one text after the other, until it is interrupted', async () => {
    const demo = spawn(process.execPath, [join(packageFolder, 'bin/sotto.js'), 'demo', '--browser', '--port', '0']);
    const ended = new Promise<number | null>((resolve) => demo.once('exit', resolve));
    const origin = await new Promise<string>((resolve, reject) => {
      let said = '';
      demo.stdout.on('data', (chunk) => {
        said += chunk;
        const found = /http:\/\/127\.0\.0\.1:\d+/.exec(said);
        if (found && said.includes('Ctrl-C')) resolve(found[0]);
      });
      demo.stderr.on('data', (chunk) => void (said += chunk));
      demo.once('exit', () => reject(new Error(said)));
    });
    const page = await browser.newPage({ viewport: { width: 1100, height: 1100 } });
    await page.goto(origin);
    await page.waitForSelector('#start:enabled');
    await page.fill('#tokens', '2');
    for (const words of [prompt, 'Once upon a time']) {
      await page.fill('#prompt', words);
      await press(page);
      const result = await outcome(page);
      expect(result.newIds).toHaveLength(2);
      if (words === prompt) expect(result.newIds).toEqual(expectedIds.slice(0, 2));
    }
    await page.close();
    demo.kill('SIGINT');
    expect(await ended).toBe(0);
  });

  it('names who is not there', async () => {
    const { page } = await openPage({ server: 'ws:127.0.0.1:9', dealer: 'ws:127.0.0.1:9' });
    await press(page);
    expect(await outcome(page)).toMatchObject({ party: 'server', reason: expect.stringContaining('cannot be reached') });
    await page.close();
  });
});

/** The SHA-256 of a certificate's public key, as Chromium takes it. */
const keyHash = (pem: string): string =>
  createHash('sha256')
    .update(new X509Certificate(pem).publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64');
