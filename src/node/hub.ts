import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, rename, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { SottoError } from '../errors/index.ts';
import { companionFiles } from '../models/checkpoint.ts';
import { pathProblem } from '../models/files.ts';
import { parseJson } from '../models/json.ts';
import { asError } from './files.ts';
import { type Environment, Routes } from './proxy.ts';
import { download, fetchBytes, fetchHeaders, type Patience, type Target, usualPatience } from './transfer.ts';

/** What is fetched from a hub, and where it is put. */
export interface PullOptions {
  /** OWNER/NAME on the hub. */
  readonly repository: string;
  /** Branch, tag or commit; `main` unless told. */
  readonly revision?: string;
  /** Folder the files are put in; made where missing. */
  readonly destination: string;
  readonly endpoint?: string;
  readonly token?: string | undefined;
  /** As bytes come, file by file. */
  readonly progress?: (state: PullProgress) => void;
  readonly patience?: Patience;
  /** Variables that name proxies: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY; none are used where absent. */
  readonly environment?: Environment;
}

/** How far a download is, in bytes. */
export interface PullProgress {
  readonly path: string;
  readonly fileBytes: number;
  readonly fileTotalBytes: number;
  /** Over all files. */
  readonly bytes: number;
  readonly totalBytes: number;
}

/** What was fetched: the files with their bytes and the checksums that were compared. */
export interface Pulled {
  readonly repository: string;
  /** The commit the files belong to. */
  readonly commit: string;
  readonly destination: string;
  readonly files: readonly { readonly path: string; readonly bytes: number; readonly checksum: string }[];
}

const { O_NOFOLLOW, O_RDONLY } = constants;
const listLimitBytes = 32 * 2 ** 20;

const listSchema = z.object({
  sha: z.string().regex(/^[0-9a-f]{40,64}$/),
  siblings: z.array(
    z.object({
      rfilename: z.string(),
      size: z.number().int().min(0).nullish(),
      blobId: z.string().nullish(),
      lfs: z.object({ sha256: z.string().nullish() }).nullish(),
    }),
  ),
});

interface Wanted {
  readonly path: string;
  readonly bytes: number;
  /** 64 hexadecimal digits: SHA-256 of the bytes; 40: SHA-1 of the bytes as a git blob. */
  readonly checksum: string;
}

/**
 * Fetches the files of a checkpoint from a server with the Hugging Face hub's file interface: configuration, tokenizer and
 * weights as safetensors, nothing that runs. A broken transfer goes on where it stopped, also in a later call; files take
 * their names only after their checksum has been verified, and are not fetched again when they are already there.
 */
export async function pull(options: PullOptions): Promise<Pulled> {
  const routes = new Routes(options.environment ?? {});
  try {
    return await pullBy(routes, options);
  } finally {
    await routes.close();
  }
}

async function pullBy(routes: Routes, options: PullOptions): Promise<Pulled> {
  const { repository, destination } = options;
  const base = checkNames(options);
  const target = (path: string): Target => ({
    url: new URL(`${base}${path}`),
    token: options.token,
    patience: options.patience ?? usualPatience,
    routes,
  });
  const revision = encodeURIComponent(options.revision ?? 'main');
  const listing = target(`/api/models/${repository}/revision/${revision}?blobs=true`);
  const list = parseList(await fetchBytes(listing, listLimitBytes), `${base}/${repository}`);
  const resolve = (path: string) =>
    target(`/${repository}/resolve/${list.sha}/${path.split('/').map(encodeURIComponent).join('/')}`);
  const wanted: Wanted[] = [];
  for (const sibling of select(list.siblings, `${base}/${repository}`))
    wanted.push(await describe(sibling, resolve(sibling.rfilename)));

  const totalBytes = wanted.reduce((sum, file) => sum + file.bytes, 0);
  try {
    await mkdir(destination, { recursive: true });
    const missing = await missingFiles(wanted, destination);
    await checkSpace(missing, destination);
    let done = totalBytes - missing.reduce((sum, file) => sum + file.bytes, 0);
    for (const file of missing) {
      const report = (fileBytes: number) =>
        options.progress?.({ path: file.path, fileBytes, fileTotalBytes: file.bytes, bytes: done + fileBytes, totalBytes });
      await fetchVerified(file, resolve(file.path), join(destination, file.path), report);
      done += file.bytes;
    }
  } catch (cause) {
    throw asError(destination, '', cause);
  }
  return { repository, commit: list.sha, destination, files: wanted };
}

function checkNames(options: PullOptions): string {
  const wrong = (field: string, reason: string, remedy: string) => new SottoError('usage', reason, { place: { field }, remedy });
  const name = /^[A-Za-z0-9][\w.-]{0,95}$/;
  const parts = options.repository.split('/');
  if (parts.length !== 2 || !parts.every((part) => name.test(part))) {
    throw wrong(
      'repository',
      `${JSON.stringify(options.repository.slice(0, 200))} is not of the form OWNER/NAME`,
      'name a repository of the hub',
    );
  }
  if (options.revision !== undefined && !/^[\w][\w./-]{0,199}$/.test(options.revision)) {
    throw wrong('revision', 'the revision is not a branch, tag or commit', 'name a revision of the repository');
  }
  const endpoint = options.endpoint || 'https://huggingface.co';
  if (!URL.canParse(endpoint) || !/^https?:$/.test(new URL(endpoint).protocol)) {
    throw wrong('endpoint', 'the endpoint is not an http or https address', 'give an address such as https://huggingface.co');
  }
  return endpoint.replace(/\/+$/, '');
}

function parseList(bytes: Uint8Array, file: string): z.output<typeof listSchema> {
  const result = listSchema.safeParse(parseJson(bytes, file, 'the list of files'));
  if (result.success) {
    for (const { rfilename } of result.data.siblings) {
      const problem = pathProblem(rfilename);
      if (problem !== null)
        throw hostile(file, `the path ${JSON.stringify(rfilename.slice(0, 100))} in the server's answer ${problem}`);
    }
    return result.data;
  }
  throw hostile(
    file,
    `the server's list of files is malformed at ${result.error.issues[0]!.path.join('.') || 'its top'}`,
    result.error,
  );
}

const hostile = (file: string, reason: string, cause?: unknown) =>
  new SottoError('peer', reason, {
    place: { file },
    remedy: 'this server does not speak the hub interface honestly: use another',
    cause,
  });

type Sibling = z.output<typeof listSchema>['siblings'][number];

/** Configuration, tokenizer and one set of weights, all from the top folder. */
function select(siblings: readonly Sibling[], file: string): Sibling[] {
  const byPath = new Map(siblings.map((sibling) => [sibling.rfilename, sibling]));
  const top = [...byPath.keys()].filter((path) => !path.includes('/'));
  const named = new Set<string>(['config.json', ...companionFiles]);
  const chosen = top.filter((path) => named.has(path) || path.startsWith('tokenizer'));
  const weights = byPath.has('model.safetensors')
    ? ['model.safetensors']
    : top.filter((path) => path === 'model.safetensors.index.json' || /^model-\d+-of-\d+\.safetensors$/.test(path));
  if (!byPath.has('config.json') || weights.length === 0) {
    throw new SottoError('model', 'the repository holds no checkpoint of config.json and safetensors weights', {
      place: { file },
      remedy: 'take a repository or revision that has them',
    });
  }
  return [...chosen, ...weights].map((path) => byPath.get(path)!);
}

/** Size and checksum of a file, from the list or, where that is silent, from the file's own headers. */
async function describe(sibling: Sibling, target: Target): Promise<Wanted> {
  const path = sibling.rfilename;
  const listed = sibling.lfs ? sibling.lfs.sha256 : sibling.blobId;
  if (isChecksum(listed) && typeof sibling.size === 'number') return { path, bytes: sibling.size, checksum: listed };
  const header = await fetchHeaders(target);
  const checksum = (header('x-linked-etag') ?? header('etag'))?.replace(/^W\//, '').replaceAll('"', '');
  const bytes = Number(header('x-linked-size') ?? header('content-length') ?? Number.NaN);
  if (isChecksum(checksum) && Number.isSafeInteger(bytes) && bytes >= 0) return { path, bytes, checksum };
  throw hostile(`${target.url.origin}${target.url.pathname}`, 'the server names no size and checksum of this file');
}

const isChecksum = (value: unknown): value is string => typeof value === 'string' && /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(value);

async function missingFiles(wanted: readonly Wanted[], destination: string): Promise<Wanted[]> {
  const missing: Wanted[] = [];
  for (const file of wanted) {
    const path = join(destination, file.path);
    const found = await stat(path).catch(() => null);
    const there = found?.isFile() === true && found.size === file.bytes && (await checksumOf(path, file)) === file.checksum;
    if (!there) missing.push(file);
  }
  return missing;
}

async function checkSpace(missing: readonly Wanted[], destination: string): Promise<void> {
  const { bavail, bsize } = await statfs(destination);
  let needed = 0;
  for (const file of missing)
    needed += file.bytes - ((await stat(join(destination, `${file.path}.part`)).catch(() => null))?.size ?? 0);
  if (needed <= bavail * bsize) return;
  throw new SottoError('resource', `the files need ${needed} bytes, the disk has ${bavail * bsize} left`, {
    place: { file: destination },
    remedy: 'free some space or choose another folder',
  });
}

async function fetchVerified(file: Wanted, target: Target, path: string, report: (bytes: number) => void): Promise<void> {
  const part = `${path}.part`;
  for (;;) {
    const kept = await download(target, part, file.bytes, report);
    const found = await checksumOf(part, file, O_RDONLY | (O_NOFOLLOW ?? 0));
    if (found === file.checksum) break;
    await rm(part, { force: true });
    // Bytes of an earlier run may be those of an earlier revision: one clean start decides whose fault it is.
    if (kept) continue;
    throw new SottoError('input', `the bytes received have the checksum ${found}, announced was ${file.checksum}`, {
      place: { file: `${target.url.origin}${target.url.pathname}` },
      remedy: 'the file was damaged or changed on its way: it was discarded, fetch it again or from another server',
    });
  }
  await rename(part, path);
}

async function checksumOf(path: string, { bytes, checksum }: Wanted, flags: number = O_RDONLY): Promise<string> {
  const hash = createHash(checksum.length === 64 ? 'sha256' : 'sha1');
  if (checksum.length === 40) hash.update(`blob ${bytes}\0`);
  const file = await open(path, flags);
  for await (const chunk of file.createReadStream({ highWaterMark: 2 ** 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
