import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { openCheckpoint } from '../../src/models/checkpoint.ts';
import { writeSafetensors } from '../../src/models/safetensors.ts';
import { folderFiles } from '../../src/node/files.ts';
import { type PullOptions, pull } from '../../src/node/hub.ts';

const commit = 'a'.repeat(40);
const weights = writeSafetensors([{ name: 'w', shape: [50_000], values: Float32Array.from({ length: 50_000 }, (_, i) => i) }]);
const text = (value: string) => new TextEncoder().encode(value);
const contents: Record<string, Uint8Array> = {
  'config.json': text('{"model_type":"llama"}'),
  'generation_config.json': text('{}'),
  'tokenizer.json': text('{"a":1}'),
  'special_tokens_map.json': text(''),
  'model.safetensors': weights,
  'pytorch_model.bin': text('pickle'),
  'modeling_custom.py': text('print("no")'),
  'onnx/config.json': text('{}'),
};
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const gitBlob = (bytes: Uint8Array) => createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');

type Handler = (request: IncomingMessage, response: ServerResponse) => boolean | undefined;
const servers: Server[] = [];
const folders: string[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
  for (const path of folders.splice(0)) rmSync(path, { recursive: true, force: true });
});

async function listen(handler: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  const server = createServer(handler);
  servers.push(server);
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Uint8Array,
  headers: Record<string, string> = {},
): void {
  const start = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
  const range = start > 0 ? { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` } : {};
  response.writeHead(start > 0 ? 206 : 200, { 'content-length': String(bytes.length - start), ...range, ...headers });
  response.end(request.method === 'HEAD' ? undefined : bytes.subarray(start));
}

/** A hub that holds one repository; `special` may answer a request itself. Every request is noted. */
async function hub(special: Handler = () => false, list: unknown = undefined) {
  const seen: { url: string; range: string | undefined; authorization: string | undefined }[] = [];
  const siblings = Object.entries(contents).map(([rfilename, bytes]) => ({
    rfilename,
    size: bytes.length,
    blobId: gitBlob(bytes),
    ...(rfilename.endsWith('.safetensors') ? { lfs: { sha256: sha256(bytes), size: bytes.length, pointerSize: 130 } } : {}),
  }));
  const endpoint = await listen((request, response) => {
    const url = request.url!;
    seen.push({ url, range: request.headers.range, authorization: request.headers.authorization });
    if (special(request, response)) return;
    if (url === '/api/models/owner/name/revision/main?blobs=true')
      response.end(JSON.stringify(list ?? { sha: commit, siblings }));
    else {
      const path = new RegExp(`^/owner/name/resolve/${commit}/(.+)$`).exec(url)?.[1];
      const bytes = path === undefined ? undefined : contents[path];
      if (bytes) sendFile(request, response, bytes);
      else response.writeHead(404, { 'x-error-code': 'RepoNotFound' }).end();
    }
  });
  return { endpoint, seen };
}

const patience = { attempts: 3, firstDelayMilliseconds: 1, silenceMilliseconds: 1000 };
function destination(): string {
  const path = mkdtempSync(join(tmpdir(), 'sotto-hub-'));
  folders.push(path);
  return join(path, 'model');
}
const options = (endpoint: string, more: Partial<PullOptions> = {}): PullOptions => ({
  repository: 'owner/name',
  endpoint,
  destination: destination(),
  patience,
  ...more,
});
const refusal = async (work: Promise<unknown>): Promise<SottoError> => {
  const error = await work.then(
    () => new Error('was taken'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(SottoError);
  return error as SottoError;
};
const needed = ['config.json', 'generation_config.json', 'model.safetensors', 'special_tokens_map.json', 'tokenizer.json'];

describe('pull', () => {
  it('fetches the files of a checkpoint, verified, and nothing else', async () => {
    const { endpoint, seen } = await hub();
    const progress: number[] = [];
    const given = options(endpoint, { token: 'secret', progress: (state) => progress.push(state.bytes / state.totalBytes) });
    const pulled = await pull(given);
    expect(pulled.commit).toBe(commit);
    expect(readdirSync(given.destination).sort()).toEqual(needed);
    for (const path of needed) expect(Buffer.compare(readFileSync(join(given.destination, path)), contents[path]!)).toBe(0);
    expect(seen.every(({ authorization }) => authorization === 'Bearer secret')).toBe(true);
    expect(progress.at(-1)).toBe(1);
    expect((await (await openCheckpoint(folderFiles(given.destination))).read('w'))[7]).toBe(7);
  });

  it('does not fetch again what is there, and fetches what was damaged since', async () => {
    const { endpoint, seen } = await hub();
    const given = options(endpoint);
    await pull(given);
    seen.length = 0;
    await pull(given);
    expect(seen.length).toBe(1);
    writeFileSync(join(given.destination, 'config.json'), '{"model_type":"LLAMA"}');
    await pull(given);
    expect(seen.slice(2).map(({ url }) => url)).toEqual([`/owner/name/resolve/${commit}/config.json`]);
    expect(readFileSync(join(given.destination, 'config.json'), 'utf8')).toBe('{"model_type":"llama"}');
  });

  it('goes on where a broken connection stopped', async () => {
    let breaks = 2;
    const { endpoint, seen } = await hub((request, response) => {
      if (!request.url!.endsWith('model.safetensors') || breaks-- <= 0) return false;
      const start = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      const range = start > 0 ? { 'content-range': `bytes ${start}-${weights.length - 1}/${weights.length}` } : {};
      response.writeHead(start > 0 ? 206 : 200, { 'content-length': String(weights.length - start), ...range });
      response.write(weights.subarray(start, start + 60_000), () => setTimeout(() => response.destroy(), 20));
      return true;
    });
    const given = options(endpoint);
    await pull(given);
    expect(Buffer.compare(readFileSync(join(given.destination, 'model.safetensors')), weights)).toBe(0);
    const ranges = seen.filter(({ url }) => url.endsWith('model.safetensors')).map(({ range }) => range);
    expect(ranges).toEqual([undefined, 'bytes=60000-', 'bytes=120000-']);
  });

  it('keeps what has arrived when it gives up, and a later call goes on from there', async () => {
    let broken = true;
    const { endpoint, seen } = await hub((request, response) => {
      if (!request.url!.endsWith('model.safetensors') || !broken) return false;
      if (request.headers.range) response.writeHead(503).end();
      else {
        response.writeHead(200, { 'content-length': String(weights.length) });
        response.write(weights.subarray(0, 1000), () => setTimeout(() => response.destroy(), 20));
      }
      return true;
    });
    const given = options(endpoint);
    const error = await refusal(pull(given));
    expect(error.kind).toBe('peer');
    expect(error.message).toMatch(/status 503, 3 times in a row/);
    expect(existsSync(join(given.destination, 'model.safetensors'))).toBe(false);
    broken = false;
    await pull(given);
    expect(seen.at(-1)!.range).toBe('bytes=1000-');
  });

  it('refuses a file with wrong bytes and leaves nothing of it', async () => {
    const damaged = weights.slice();
    damaged[damaged.length >> 1]! ^= 1;
    for (const [path, bytes] of [
      ['model.safetensors', damaged],
      ['tokenizer.json', text('{"a":2}')],
    ] as const) {
      const { endpoint } = await hub((request, response) => {
        if (!request.url!.endsWith(path)) return false;
        sendFile(request, response, bytes);
        return true;
      });
      const given = options(endpoint);
      const error = await refusal(pull(given));
      expect(error.kind).toBe('input');
      expect(error.message).toMatch(/checksum/);
      expect(readdirSync(given.destination).filter((name) => name.startsWith(path))).toEqual([]);
    }
  });

  it('starts afresh where an old part belongs to other bytes', async () => {
    const { endpoint } = await hub();
    const given = options(endpoint);
    mkdirSync(given.destination);
    writeFileSync(join(given.destination, 'model.safetensors.part'), new Uint8Array(5000).fill(7));
    writeFileSync(join(given.destination, 'config.json.part'), new Uint8Array(5000).fill(7));
    await pull(given);
    expect(Buffer.compare(readFileSync(join(given.destination, 'model.safetensors')), weights)).toBe(0);
  });

  it('takes the whole file where the server ignores ranges or denies them', async () => {
    for (const status of [200, 416]) {
      const { endpoint } = await hub((request, response) => {
        if (!request.headers.range) return false;
        if (status === 416) response.writeHead(416).end('no such range');
        else response.writeHead(200, { 'content-length': String(weights.length) }).end(weights);
        return true;
      });
      const given = options(endpoint);
      mkdirSync(given.destination);
      writeFileSync(join(given.destination, 'model.safetensors.part'), weights.subarray(0, 70_000));
      await pull(given);
      expect(Buffer.compare(readFileSync(join(given.destination, 'model.safetensors')), weights)).toBe(0);
    }
  });

  it('follows redirects, takes checksum and size of the first answer, and keeps the token from other servers', async () => {
    const tokens: unknown[] = [];
    const storage = await listen((request, response) => {
      tokens.push(request.headers.authorization);
      sendFile(request, response, weights, { etag: '"of-the-storage"' });
    });
    const list = { sha: commit, siblings: ['config.json', 'model.safetensors'].map((rfilename) => ({ rfilename })) };
    const { endpoint } = await hub((request, response) => {
      if (request.url!.endsWith('config.json')) {
        sendFile(request, response, contents['config.json']!, { etag: `W/"${gitBlob(contents['config.json']!)}"` });
      } else if (request.url!.endsWith('.safetensors')) {
        const linked = { 'x-linked-etag': `"${sha256(weights)}"`, 'x-linked-size': String(weights.length) };
        response.writeHead(302, { location: `${storage}/blob?signature=1`, ...linked }).end();
      } else return false;
      return true;
    }, list);
    const given = options(endpoint, { token: 'secret' });
    const pulled = await pull(given);
    expect(pulled.files.map(({ path, checksum }) => [path, checksum.length])).toEqual([
      ['config.json', 40],
      ['model.safetensors', 64],
    ]);
    expect(tokens.length).toBe(2);
    expect(tokens.every((token) => token === undefined)).toBe(true);
  });

  it('tells an unknown repository, a gated one and a wrong token apart', async () => {
    const answer = async (status: number, code: string | null, more: Partial<PullOptions> = {}) => {
      const { endpoint } = await hub((_request, response) => {
        response.writeHead(status, code ? { 'x-error-code': code } : {}).end();
        return true;
      });
      return refusal(pull(options(endpoint, more)));
    };
    expect((await answer(404, 'RepoNotFound')).message).toMatch(/no such repository/);
    expect((await answer(401, 'RepoNotFound')).message).toMatch(/no such repository/);
    expect((await answer(403, 'GatedRepo')).message).toMatch(/accept its terms/);
    expect((await answer(401, null)).message).toMatch(/give a token/);
    const wrong = await answer(401, null, { token: 'secret' });
    expect(wrong.kind).toBe('usage');
    expect(wrong.message).toMatch(/token given is not valid/);
    expect(wrong.message).not.toMatch(/secret/);
  });

  it('mends passing failures, and gives up on a silent server', async () => {
    let failures = 2;
    const flaky = await hub((_request, response) => {
      if (failures-- <= 0) return false;
      response.writeHead(503).end();
      return true;
    });
    await pull(options(flaky.endpoint));
    const silent = await hub(() => true);
    const hasty = { ...patience, attempts: 2, silenceMilliseconds: 50 };
    const error = await refusal(pull(options(silent.endpoint, { patience: hasty })));
    expect(error.message).toMatch(/fell silent, 2 times/);
    expect(silent.seen.length).toBe(2);
    expect((await refusal(pull(options('http://127.0.0.1:1')))).kind).toBe('peer');
  });

  it('refuses paths, redirects and lengths by which a server would harm', async () => {
    const siblings = (rfilename: string) => ({ sha: commit, siblings: [{ rfilename: 'config.json' }, { rfilename }] });
    for (const path of ['../config.json', '/etc/passwd', 'a/../../x', 'a\\b', '']) {
      const error = await refusal(pull(options((await hub(undefined, siblings(path))).endpoint)));
      expect(error.kind).toBe('peer');
      expect(error.message).toMatch(/path/);
    }
    for (const list of [[], { sha: 'x', siblings: [] }, { sha: commit, siblings: [{ rfilename: 3 }] }, 'no']) {
      expect((await refusal(pull(options((await hub(undefined, list)).endpoint)))).kind).toBe('peer');
    }
    expect((await refusal(pull(options((await hub(undefined, siblings('README.md'))).endpoint)))).kind).toBe('model');
    const redirecting = (location: string) =>
      hub((_request, response) => {
        response.writeHead(302, { location }).end();
        return true;
      });
    expect((await refusal(pull(options((await redirecting('file:///etc/passwd')).endpoint)))).message).toMatch(/not taken/);
    expect((await refusal(pull(options((await redirecting('/again')).endpoint)))).message).toMatch(/more than 8 times/);
    const longer = await hub((request, response) => {
      if (!request.url!.endsWith('/config.json')) return false;
      response.writeHead(200).end(new Uint8Array(10_000));
      return true;
    });
    expect((await refusal(pull(options(longer.endpoint)))).message).toMatch(/more than the 22 bytes/);
    const huge = { sha: commit, siblings: [...needed].map((rfilename) => ({ rfilename, size: 2 ** 52, blobId: commit })) };
    expect((await refusal(pull(options((await hub(undefined, huge)).endpoint)))).kind).toBe('resource');
  });

  it('refuses names that are no repository, revision or endpoint before asking anyone', async () => {
    for (const more of [
      { repository: 'name' },
      { repository: '../x' },
      { repository: 'a/b/c' },
      { revision: '../x' },
      { endpoint: 'ftp://x' },
    ]) {
      expect((await refusal(pull(options('http://127.0.0.1:1', more)))).kind).toBe('usage');
    }
  });
});
