import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { link, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { readRows } from '../../src/evaluate/rows.ts';
import { readJson } from '../../src/models/json.ts';
import { openSafetensors } from '../../src/models/safetensors.ts';
import { makeCertificates } from '../../src/node/certificates.ts';
import { folderFiles } from '../../src/node/files.ts';
import { type PullOptions, pull } from '../../src/node/hub.ts';
import { proxyOf } from '../../src/node/proxy.ts';
import { builtFile } from '../built.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});
async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'sotto-ways-'));
  closing.push(() => rm(path, { recursive: true, force: true }));
  return path;
}
async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

const files: Record<string, string> = { 'config.json': '{}', 'model.safetensors': 'bytes' };
const commit = 'a'.repeat(40);
const siblings = Object.entries(files).map(([rfilename, text]) => ({
  rfilename,
  size: text.length,
  blobId: createHash('sha1').update(`blob ${text.length}\0${text}`).digest('hex'),
}));
/** A hub of one repository, whatever host it is asked for. */
function hub(request: IncomingMessage, response: ServerResponse): void {
  const { pathname } = new URL(request.url!, 'http://hub');
  const name = pathname.split('/').at(-1)!;
  response.end(pathname.startsWith('/api/') ? JSON.stringify({ sha: commit, siblings }) : files[name]);
}

const patience = { attempts: 3, firstDelayMilliseconds: 1, silenceMilliseconds: 5000 };
const pulling = async (endpoint: string, more: Partial<PullOptions> = {}) =>
  await pull({ repository: 'owner/name', endpoint, destination: join(await folder(), 'model'), patience, ...more });
const refusal = (work: Promise<unknown>) =>
  work.then(
    () => expect.fail('was taken'),
    (error) => error,
  );

describe('the environment’s proxy', () => {
  it('is found as curl and the hub’s own tools find it', () => {
    const proxies = { https_proxy: 'http://secure:1', HTTP_PROXY: 'plain:2', all_proxy: 'socks5://any:3' };
    const of = (url: string, no_proxy = '', environment: Record<string, string> = proxies) =>
      proxyOf(new URL(url), { ...environment, no_proxy })?.host ?? null;
    expect(of('https://hub.example')).toBe('secure:1');
    expect(of('http://hub.example')).toBe('plain:2');
    expect(of('http://hub.example', '', { ALL_PROXY: 'socks5://any:3' })).toBe('any:3');
    expect(of('https://hub.example', '', { https_proxy: '', HTTPS_PROXY: 'http://upper:4' })).toBe(null);
    expect(of('https://hub.example', '', {})).toBe(null);
    const direct: [string, string][] = [
      ['https://hub.example', '*'],
      ['https://hub.example', 'other, hub.example'],
      ['https://a.hub.example', 'hub.example'],
      ['https://a.hub.example', '.hub.example'],
      ['https://a.hub.example', '*.hub.example'],
      ['https://HUB.example:8443', 'hub.example:8443'],
      ['https://10.1.2.3', '10.0.0.0/8'],
      ['https://10.1.2.3', '10.1.2.3'],
      ['https://[::1]:5', '::1'],
      ['https://[fd00::7]', 'fd00::/8'],
    ];
    for (const [url, list] of direct) expect(of(url, list), `${url} ${list}`).toBe(null);
    const proxied: [string, string][] = [
      ['https://myhub.example', 'hub.example'],
      ['https://hub.example:8443', 'hub.example:443'],
      ['https://11.1.2.3', '10.0.0.0/8'],
      ['https://110.1.2.3', '10.1.2.3'],
      ['https://10.1.2.3', '10.0.0.0/99'],
      ['https://hub.example', ','],
    ];
    for (const [url, list] of proxied) expect(of(url, list), `${url} ${list}`).toBe('secure:1');
    expect(() => of('https://hub.example', '', { https_proxy: 'ftp://user:secret@x' })).toThrow(/^(?!.*secret).*HTTPS_PROXY/);
  });

  it('gets requests for plain addresses, with its user and password, and is passed by where NO_PROXY says so', async () => {
    const asked: [string, string | undefined][] = [];
    const port = await listening(
      createServer((request, response) => {
        asked.push([request.url!, request.headers['proxy-authorization']]);
        hub(request, response);
      }),
    );
    const environment = { HTTP_PROXY: `http://me:p%40ss@127.0.0.1:${port}` };
    const pulled = await pulling('http://hub.invalid:7801', { environment });
    expect(pulled.files).toHaveLength(2);
    expect(asked[0]).toEqual([
      'http://hub.invalid:7801/api/models/owner/name/revision/main?blobs=true',
      `Basic ${Buffer.from('me:p@ss').toString('base64')}`,
    ]);
    const direct = await listening(createServer(hub));
    asked.length = 0;
    await pulling(`http://127.0.0.1:${direct}`, { environment: { ...environment, NO_PROXY: '127.0.0.0/8' } });
    expect(asked).toEqual([]);
  });

  it('makes a tunnel for addresses with TLS, and its refusal is named', async () => {
    const tunnels: string[] = [];
    const target = await listening(createServer(hub));
    const proxy = createServer().on('connect', (request, socket) => {
      tunnels.push(request.url!);
      if (request.url === 'refused.invalid:443') return socket.end('HTTP/1.1 407 no\r\n\r\n');
      const onward = connect(target, '127.0.0.1', () => socket.write('HTTP/1.1 200 yes\r\n\r\n'));
      onward
        .on('error', () => socket.destroy())
        .pipe(socket)
        .pipe(onward);
    });
    const environment = { https_proxy: `http://me:secret@127.0.0.1:${await listening(proxy)}` };
    const error = await refusal(pulling('https://refused.invalid', { environment }));
    expect(error).toMatchObject({
      kind: 'peer',
      reason: expect.stringMatching(/the proxy 127\.0\.0\.1:\d+ refuses the way to refused\.invalid with status 407/),
      remedy: expect.stringContaining('HTTPS_PROXY'),
    });
    expect(error.message).not.toContain('secret');
    // Behind the tunnel is a server without TLS.
    const plain = await refusal(pulling('https://plain.invalid', { environment }));
    expect(plain.reason).toMatch(/plain\.invalid does not speak TLS.*through the proxy/);
    expect(tunnels).toContain('plain.invalid:443');
  });
});

describe('why a connection fails', () => {
  it('is said: an unknown name, a closed port, a proxy that is not there', async () => {
    const unknown = await refusal(pulling('http://hub.invalid'));
    expect(unknown).toMatchObject({
      kind: 'peer',
      reason: expect.stringMatching(/the name hub\.invalid (is not known \(ENOTFOUND\)|cannot be looked up \(EAI_AGAIN\))/),
    });
    const port = await listening(createServer(hub));
    await closing.pop()!();
    const closed = await refusal(pulling(`http://127.0.0.1:${port}`));
    expect(closed).toMatchObject({
      kind: 'peer',
      reason: expect.stringContaining(`127.0.0.1:${port} refuses connections (ECONNREFUSED), 2 times`),
    });
    const environment = { HTTP_PROXY: `http://127.0.0.1:${port}` };
    const proxy = await refusal(pulling('http://hub.invalid', { environment }));
    expect(proxy.reason).toMatch(/refuses connections \(ECONNREFUSED\) through the proxy 127\.0\.0\.1/);
  });

  it('is said: a certificate that nobody vouches for', async () => {
    const { server } = await makeCertificates({ now: new Date(), days: 2 });
    const port = await listening(createTlsServer({ cert: server.certificate, key: server.key }, hub) as unknown as Server);
    expect(await refusal(pulling(`https://127.0.0.1:${port}`))).toMatchObject({
      kind: 'peer',
      reason: expect.stringMatching(/the certificate of 127\.0\.0\.1 is not trusted \([A-Z_]+\)/),
      remedy: expect.stringContaining('NODE_EXTRA_CA_CERTS'),
    });
  });
});

describe('where a download goes', () => {
  it.each(['symbolic link', 'hard link', 'folder', 'dangling link'])(
    'a planted %s is refused, and what it leads to is left alone',
    async (kind) => {
      const port = await listening(createServer(hub));
      const root = await folder();
      const [destination, victim] = [join(root, 'model'), join(root, 'victim')];
      await mkdir(destination);
      const part = join(destination, 'model.safetensors.part');
      if (kind !== 'dangling link') await writeFile(victim, 'mine');
      if (kind === 'hard link') await link(victim, part);
      else if (kind === 'folder') await mkdir(part);
      else await symlink(victim, part);
      const error = await refusal(pulling(`http://127.0.0.1:${port}`, { destination }));
      expect(error).toMatchObject({
        kind: 'input',
        place: { file: part },
        reason: expect.stringContaining('a link or folder stands'),
      });
      if (kind === 'dangling link') await expect(readFile(victim)).rejects.toThrow(/ENOENT/);
      else expect(await readFile(victim, 'utf8')).toBe('mine');
    },
  );
});

describe('a file that is being written', () => {
  it.each(['SIGINT', 'SIGTERM'] as const)(
    'leaves nothing under its passing name where %s ends the process',
    { timeout: 60_000 },
    async (signal) => {
      const root = await folder();
      const source = `
      import { folderFiles } from ${JSON.stringify(builtFile(join(import.meta.dirname, '../../src/node/files.ts')))};
      const bytes = new Uint8Array(2 ** 26);
      for (;;) await folderFiles(${JSON.stringify(root)}).write('weights.bin', bytes);`;
      await writeFile(join(root, 'writer.mjs'), source);
      const child = spawn(process.execPath, [join(root, 'writer.mjs')], {
        stdio: 'ignore',
      });
      const passing = async () => (await readdir(root)).filter((name) => name.endsWith('.tmp'));
      await expect.poll(passing, { interval: 1, timeout: 40_000 }).not.toEqual([]);
      child.kill(signal);
      await new Promise((resolve) => child.once('exit', resolve));
      expect(await passing()).toEqual([]);
    },
  );
});

describe('a pointer of Git LFS', () => {
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'4'.repeat(64)}\nsize 12345\n`;

  it('is named wherever a file is due, with what to do', async () => {
    const root = await folder();
    for (const name of ['model.safetensors', 'config.json', 'rows.jsonl']) await writeFile(join(root, name), pointer);
    const refused = {
      kind: 'input',
      reason: expect.stringContaining('Git LFS pointer'),
      remedy: expect.stringContaining('git lfs pull'),
    };
    await expect(openSafetensors(folderFiles(root), 'model.safetensors')).rejects.toMatchObject(refused);
    await expect(readJson(folderFiles(root), 'config.json', 1000)).rejects.toMatchObject(refused);
    await expect(readRows(join(root, 'rows.jsonl'))).rejects.toMatchObject(refused);
  });
});
