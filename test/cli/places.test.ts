import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

import { listen } from '../../src/node/sockets.ts';
import { temporaryFolder } from '../../src/node/temporary.ts';
import { lockState } from '../../src/party/lock.ts';
import { type StandingParty, startStanding } from '../hostile/standing.ts';
import { temporary, writeLlama } from '../party/models.ts';
import { root as project, sotto } from './command.ts';

vi.setConfig({ testTimeout: 90_000 });
const { path: root, remove } = temporary();
const model = join(root, 'model');
const generate = ['generate', '--model', model, '--prompt-ids', '5,9', '--max-new-tokens', '2', '--backend', 'mpc', '--json'];
const long = join(root, 'l'.repeat(120));
const started: StandingParty[] = [];
beforeAll(async () => {
  for (const folder of [model, long]) mkdirSync(folder);
  await writeLlama(model);
});
afterAll(async () => {
  for (const party of started) await party.end();
  remove();
});

interface Failure {
  readonly error: {
    readonly kind: string;
    readonly message: string;
    readonly place: Record<string, string>;
    readonly remedy: string;
  };
}

describe('temporary folders', () => {
  for (const [name, folder, code] of [
    ['is missing', () => join(root, 'nowhere'), 'ENOENT'],
    ['is a file', () => join(model, 'config.json'), 'ENOTDIR'],
  ] as const)
    it(`a TMPDIR that ${name} is a typed error with a remedy`, async () => {
      const { code: exit, stdout, stderr } = await sotto(generate, { env: { TMPDIR: folder() } });
      expect(exit).toBe(8);
      const { error } = JSON.parse(stdout) as Failure;
      expect(error).toMatchObject({ kind: 'resource', place: { file: folder() }, remedy: expect.stringContaining('TMPDIR') });
      expect(error.message).toContain(code);
      expect(stderr).not.toMatch(/\n\s+at /);
    });

  it('may have any length, also beyond the limit of socket paths', async () => {
    const { code, stderr } = await sotto(generate, { env: { TMPDIR: long } });
    expect(stderr).toBe('');
    expect(code).toBe(0);
    expect(readdirSync(long)).toEqual([]);
  });

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    it(`are gone after ${signal}`, async () => {
      const folder = join(root, `tmp-${signal}`);
      mkdirSync(folder);
      const words = generate.with(generate.indexOf('2'), '40');
      const child = spawn(process.execPath, [join(project, 'bin/sotto.js'), ...words], {
        stdio: 'ignore',
        env: { ...process.env, TMPDIR: folder },
      });
      while (!readdirSync(folder).some((name) => existsSync(join(folder, name, 'server.socket'))))
        await new Promise((resolve) => setTimeout(resolve, 10));
      child.kill(signal);
      await once(child, 'exit');
      expect(child.signalCode).toBe(signal);
      expect(readdirSync(folder)).toEqual([]);
    });

  it('that a killed process left are swept at the next start, and those of living ones are not', async () => {
    const folder = join(root, 'tmp-killed');
    mkdirSync(folder);
    const living = await temporaryFolder('run', folder);
    const code = `import('${join(project, 'dist/node/temporary.js')}').then(async (it) => {
      await it.temporaryFolder('run', ${JSON.stringify(folder)}); process.kill(process.pid, 'SIGKILL'); })`;
    await once(spawn(process.execPath, ['-e', code], { stdio: 'ignore' }), 'exit');
    // A folder of somebody else's that has such a name, and no socket.
    mkdirSync(join(folder, 'sotto-run-aaaaaa'));
    expect(readdirSync(folder)).toHaveLength(3);
    const next = await temporaryFolder('run', folder);
    await next.remove();
    expect(
      readdirSync(folder)
        .map((name) => join(folder, name))
        .sort(),
    ).toEqual([living.path, join(folder, 'sotto-run-aaaaaa')].sort());
    await living.remove();
  });
});

/** A command as a shell would run it, in surroundings that only a shell makes. */
async function shell(
  script: string,
  ...words: readonly string[]
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const command = [process.execPath, join(project, 'bin/sotto.js')].map((word) => `'${word}'`).join(' ');
  const child = spawn('/bin/sh', ['-c', `sotto() { ${command} "$@"; }; ${script}`, 'sh', ...words], { cwd: root });
  const text = async (stream: NodeJS.ReadableStream) => {
    let all = '';
    for await (const part of stream) all += String(part);
    return all;
  };
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { code: child.exitCode, stdout, stderr };
}

describe('surroundings of a shell', () => {
  it('a working folder that is gone is said, by absolute and relative paths alike, and help is given', async () => {
    for (const path of [model, 'model']) {
      const script = 'mkdir gone && cd gone && rmdir ../gone && sotto inspect "$1" --json';
      const { code, stdout, stderr } = await shell(script, path);
      expect(JSON.parse(stdout)).toMatchObject({
        error: { kind: 'resource', message: expect.stringContaining('working folder') },
      });
      expect([code, stderr.split('\n').length]).toEqual([8, 2]);
    }
    expect(await shell('mkdir gone && cd gone && rmdir ../gone && sotto --version')).toMatchObject({ code: 0, stderr: '' });
  });

  it('results that cannot be written are an error that says so', async () => {
    const { code, stderr } = await shell('sotto inspect "$1" > /dev/full', model);
    expect(stderr).toMatch(/^sotto: the results cannot be written to the standard output \(ENOSPC\) — .*\n$/);
    expect(code).toBe(8);
  });

  it('a reader that goes, streams that are closed and no HOME are no failure', async () => {
    expect(await shell('sotto generate --help | head -1')).toMatchObject({
      code: 0,
      stdout: 'Usage: sotto generate [options]\n',
      stderr: '',
    });
    const { stdout } = await shell('sotto inspect "$1" --json', model);
    for (const closed of ['<&-', '2>&-'])
      expect(await shell(`sotto inspect "$1" --json ${closed}`, model)).toMatchObject({ code: 0, stdout });
    expect(await shell('sotto inspect "$1" --json >&-', model)).toMatchObject({ code: 0, stderr: '' });
    expect(await shell('unset HOME; sotto inspect "$1" --json', model)).toMatchObject({ code: 0, stdout });
  });
});

describe('ONNX Runtime', () => {
  it('tells its maker nothing: no identifier and no store of events is made for the user', async () => {
    const home = join(root, 'home');
    mkdirSync(home);
    const words = generate.map((word) => (word === 'mpc' ? 'onnx' : word));
    const places = { HOME: home, XDG_CACHE_HOME: join(home, 'cache'), TMPDIR: home, ORT_DISABLE_TELEMETRY: '0' };
    expect((await sotto(words, { env: places, cwd: home })).code).toBe(0);
    expect(readdirSync(home)).toEqual([]);
  });
});

describe('state folders', () => {
  it('may be relative, and of any length', async () => {
    for (const state of [join(long, 'state'), join('..', long.slice(1), 'relative').replace(/^\.\./, relativeRoot())]) {
      const party = await startStanding(['dealer', '--listen', 'tcp:127.0.0.1:0', '--state', state]);
      started.push(party);
      await expect(lockState(state, 'dealer')).rejects.toMatchObject({ kind: 'resource', place: { file: state } });
      expect(await party.end()).toBe(0);
      await (await lockState(state, 'dealer'))();
    }
  });

  it('that cannot be made are not blamed on another process', async () => {
    const file = join(root, 'file');
    writeFileSync(file, '');
    const { code, stderr } = await sotto(['dealer', '--listen', 'tcp:127.0.0.1:0', '--state', join(file, 'state')]);
    expect(code).toBe(8);
    expect(stderr).not.toMatch(/another process|\n\s+at /);
  });
});

/** From the current folder to the root of the file system. */
const relativeRoot = (): string =>
  process
    .cwd()
    .split('/')
    .slice(1)
    .map(() => '..')
    .join('/');

describe('an address in use', () => {
  for (const scheme of ['tcp', 'ws'] as const)
    it(`of ${scheme}: is said to be in use, and no party is blamed`, async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as { port: number };
      const address = `${scheme}:127.0.0.1:${port}`;
      await expect(listen({ address, peer: 'client', timeoutMilliseconds: 1000 })).rejects.toMatchObject({
        kind: 'resource',
        reason: `cannot listen on ${address}: it is in use (EADDRINUSE)`,
        place: { field: '--listen' },
      });
      server.close();
    });
});
