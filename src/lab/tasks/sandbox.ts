import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { access, lstat } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import { printable, SottoError } from '../../errors/index.ts';
import { judgeSource, programSource } from './sandbox-python.ts';
import { isFiltered, systemCallFilter } from './seccomp.ts';

/** What a program may use of the machine. */
export interface SandboxLimits {
  /** Wall-clock time from the moment the program itself starts. */
  readonly milliseconds: number;
  /** Of each process. */
  readonly memoryBytes: number;
  /** Processes and threads together. */
  readonly processes: number;
}
export const defaultLimits: SandboxLimits = { milliseconds: 3000, memoryBytes: 512 * 2 ** 20, processes: 8 };

/** How a program ended: the test passed, it failed, or it took too long. */
export type Outcome = 'passed' | 'failed' | 'timeout';
export interface Execution {
  readonly outcome: Outcome;
  /** The last line of what went wrong, shortened, without control characters. */
  readonly message: string;
}

/** A program of unknown intent, and what is asked of it. */
export interface CheckedProgram {
  /** Defines the function `entryPoint`. */
  readonly program: string;
  readonly entryPoint: string;
  /** What the test may use beside the function: text that defines it without its body. */
  readonly prompt: string;
  /** Defines `check(candidate)`, which raises where the function is wrong. */
  readonly test: string;
}

/** Of this machine: programs, the words that give folders beside /usr, and the filter of system calls. */
interface Parts {
  readonly bubblewrap: string;
  readonly python: string;
  readonly system: readonly string[];
  readonly filter: Uint8Array;
}

/**
 * Runs programs of unknown intent with Python, confined by bubblewrap. The program and the test that judges it are two processes, each
 * in a sandbox of its own: name spaces for users, processes, network, IPC and mounts; a root that holds /usr alone, read-only, a fresh
 * /proc and /dev, nothing of the environment; no privilege, a filter of system calls, limits of memory, processes, files and time. They
 * share a pair of pipes, over which the judge calls the program's function and gets plain data. The verdict is the judge's.
 */
export class PythonSandbox {
  /** What confines the programs; a report names it. */
  readonly confinement = 'bubblewrap';
  readonly #parts: Parts;
  /** Sandboxes so far of this process: two that run at once must not share a user id. */
  static #sandboxes = 0;

  private constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Throws a `resource` error where a program cannot be confined here: it is not run at all then. */
  static async open(bubblewrap = '/usr/bin/bwrap'): Promise<PythonSandbox> {
    const refuse = (reason: string): SottoError =>
      new SottoError('resource', `programs of unknown intent are not run: ${reason}`, {
        remedy: 'use Linux on x86-64 or ARM with bubblewrap (apt-get install bubblewrap), /usr/bin/python3 and user name spaces',
      });
    if (process.platform !== 'linux' || !isFiltered(process.arch)) throw refuse(`${process.platform} on ${process.arch}`);
    if (!(await exists(bubblewrap))) throw refuse(`there is no ${bubblewrap}`);
    const system = (await Promise.all(['/bin', '/lib', '/lib64', '/lib32', '/sbin'].map(systemFolder))).flat();
    const filter = systemCallFilter(process.arch);
    for (const python of ['/usr/bin/python3', '/usr/local/bin/python3']) {
      if (!(await exists(python))) continue;
      const sandbox = new PythonSandbox({ bubblewrap, python, system, filter });
      const { outcome, message } = await sandbox.run(probe, { ...defaultLimits, milliseconds: 10_000 });
      if (outcome === 'passed') return sandbox;
      throw refuse(`a trial was not confined as it must be (${message})`);
    }
    throw refuse('there is no /usr/bin/python3');
  }

  /** Never throws for what the program does. */
  async run({ program, entryPoint, prompt, test }: CheckedProgram, limits: SandboxLimits = defaultLimits): Promise<Execution> {
    const token = randomBytes(16).toString('hex');
    const cpuSeconds = Math.ceil(limits.milliseconds / 1000) + startSeconds;
    const bounds = { memoryBytes: limits.memoryBytes, processes: limits.processes, cpuSeconds };
    // The judge needs no packages, and starts the faster for it.
    const judge = this.#spawn(['-S', '-c', judgeSource], 2);
    const tested = this.#spawn(['-c', programSource], 1);
    try {
      send(tested.stdin!, { program, entryPoint, limits: bounds });
      send(judge.stdin!, { prompt, test, entryPoint, token, limits: { ...bounds, processes: judgeProcesses } });
      return await verdict({ judge, program: tested, token, milliseconds: limits.milliseconds });
    } finally {
      kill(tested);
      kill(judge);
    }
  }

  /** Python with these words, and `pipes` pipes out of it from 3 on. */
  #spawn(python: readonly string[], pipes: number): ChildProcess {
    const filterAt = 3 + pipes;
    const { bubblewrap, system } = this.#parts;
    const words = [
      ...['--unshare-all', '--die-with-parent', '--new-session', '--clearenv', '--hostname', 'sandbox'],
      ...['--setenv', 'PATH', '/usr/bin:/bin', '--setenv', 'LANG', 'C.UTF-8'],
      ...['--ro-bind', '/usr', '/usr', ...system, '--proc', '/proc', '--dev', '/dev'],
      ...['--remount-ro', '/dev', '--remount-ro', '/', '--chdir', '/', '--seccomp', String(filterAt)],
      ...['--', this.#parts.python, '-I', '-B', ...python],
    ];
    const user = firstUser + ((process.pid * 61 + PythonSandbox.#sandboxes++) % users);
    const identity = process.getuid?.() === 0 ? { uid: user, gid: user } : {};
    const child = spawn(bubblewrap, words, {
      cwd: '/',
      detached: true,
      env: {},
      stdio: ['pipe', 'ignore', 'pipe', ...Array.from({ length: pipes + 1 }, () => 'pipe' as const)],
      ...identity,
    });
    const filter = child.stdio[filterAt] as Writable;
    for (const stream of [child.stdin!, filter]) stream.on('error', () => undefined);
    filter.end(this.#parts.filter);
    return child;
  }
}

/** User ids that no account has: the range that systemd sets aside for users made on demand. */
const [firstUser, users] = [61_184, 4096];
/** Beyond a program's own time, for starting the interpreters on a busy machine. */
const startSeconds = 20;
const judgeProcesses = 1;

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** A folder of the system that is a link into /usr, or a folder of its own. */
async function systemFolder(path: string): Promise<string[]> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return [];
  return found.isSymbolicLink() ? ['--symlink', `usr${path}`, path] : ['--ro-bind', path, path];
}

/** A program that reports what it should not be able to do; the test wants an empty list. */
const probe: CheckedProgram = {
  entryPoint: 'escapes',
  prompt: 'def escapes():\n',
  test: 'def check(candidate):\n    found = candidate()\n    assert found == [], found\n',
  program: `
def escapes():
    import os, socket, ctypes
    found = []
    if set(os.listdir("/")) - {"usr", "bin", "lib", "lib64", "lib32", "sbin", "proc", "dev"}: found.append("files")
    for place in ("/", "/usr", "/dev", "/dev/shm", "/proc"):
        try:
            os.close(os.open(place + "/sotto-probe", os.O_CREAT | os.O_WRONLY))
            found.append("writes " + place)
        except OSError: pass
    if any(int(name) > 50 for name in os.listdir("/proc") if name.isdigit()): found.append("processes")
    if set(name for _, name in socket.if_nameindex()) - {"lo"}: found.append("network")
    if int(next(line for line in open("/proc/self/status") if line.startswith("CapEff")).split()[1], 16): found.append("privilege")
    if os.getuid() == 0: found.append("root")
    if ctypes.CDLL(None).unshare(0x10000000) == 0: found.append("name spaces")
    return found
`,
};

const send = (to: Writable, value: unknown): void => void to.write(`${JSON.stringify(value)}\n`);

interface Pair {
  readonly judge: ChildProcess;
  readonly program: ChildProcess;
  readonly token: string;
  readonly milliseconds: number;
}

/** Lets the two talk, and waits for the judge's word, its end, or the time. */
async function verdict({ judge, program, token, milliseconds }: Pair): Promise<Execution> {
  const [complaint, said] = [heard(judge.stderr!, 10_000), heard(judge.stdio[3] as Readable, 1000)];
  const trouble = heard(program.stderr!, 10_000);
  let late: () => void = () => undefined;
  const timeout = new Promise<Execution>((resolve) => {
    late = () => resolve({ outcome: 'timeout', message: `ran longer than ${milliseconds} ms` });
  });
  const starting = setTimeout(late, startSeconds * 1000);
  let running: NodeJS.Timeout | undefined;
  const started = (): void => {
    clearTimeout(starting);
    running = setTimeout(late, milliseconds);
  };
  relay(program.stdio[3] as Readable, judge.stdin!, started);
  relay(judge.stdio[4] as Readable, program.stdin!);
  const ended = once(judge, 'close').then((): Execution => {
    if (said() === token) return { outcome: 'passed', message: '' };
    const message = lastLine(complaint()) || lastLine(trouble()) || 'ended without a verdict';
    return { outcome: 'failed', message };
  });
  try {
    // Where a process cannot be started, waiting for it fails.
    return await Promise.race([ended, timeout, once(program, 'close').then(() => ended)]);
  } finally {
    clearTimeout(starting);
    clearTimeout(running);
  }
}

/** What a stream says, up to a limit; the rest is read and dropped. */
function heard(stream: Readable, limitBytes: number): () => string {
  const parts: Buffer[] = [];
  let bytes = 0;
  stream
    .on('error', () => undefined)
    .on('data', (chunk: Buffer) => {
      if (bytes < limitBytes) parts.push(chunk.subarray(0, limitBytes - bytes));
      bytes += chunk.length;
    });
  return () => Buffer.concat(parts).toString('utf8');
}

/** Passes bytes on, no faster than they are taken. The first line stays here where somebody waits for it. */
function relay(from: Readable, to: Writable, onFirstLine?: () => void): void {
  let waiting = onFirstLine;
  from.on('error', () => undefined);
  to.on('error', () => undefined);
  from.on('data', (chunk: Buffer) => {
    const end = waiting === undefined ? -1 : chunk.indexOf(10);
    if (waiting !== undefined && end < 0) return;
    waiting?.();
    waiting = undefined;
    if (to.write(chunk.subarray(end + 1))) return;
    from.pause();
    to.once('drain', () => from.resume());
  });
  from.on('end', () => to.end());
}

const lastLine = (text: string): string => printable(text.trim().split('\n').at(-1)?.slice(0, 300) ?? '');

/** The first process of its name space dies with bubblewrap, and with it all others. */
function kill(child: ChildProcess): void {
  child.kill('SIGKILL');
  for (const stream of child.stdio) (stream as { destroy?: () => void } | null)?.destroy?.();
}
