import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { SottoError } from '../errors/index.ts';

/** What a program may use of the machine. */
export interface SandboxLimits {
  /** Wall-clock time from the moment the program itself starts. */
  readonly milliseconds: number;
  readonly memoryBytes: number;
  /** Processes and threads together. */
  readonly processes: number;
}
export const defaultLimits: SandboxLimits = { milliseconds: 3000, memoryBytes: 512 * 2 ** 20, processes: 8 };

/** How a program ended: it ran to its end, failed, or took too long. */
export type Outcome = 'passed' | 'failed' | 'timeout';
export interface Execution {
  readonly outcome: Outcome;
  /** The last line of what went wrong, shortened. */
  readonly message: string;
}

/**
 * How programs are confined, strongest first.
 * `namespaces`: started by root; another user id, and name spaces of their own for processes, network and mounts, all read-only.
 * `user`: started by root where name spaces are not allowed; another user id that owns no file. Where anyone may write, files can still
 * be created and emptied, though none can grow; and the network is open.
 * `unprivileged`: started by anyone else; name spaces of an unprivileged user.
 */
export type Confinement = 'namespaces' | 'user' | 'unprivileged';

/**
 * Runs programs of unknown intent with Python. Whatever the confinement: no privilege, no process beyond the limit, no file grows,
 * nothing of the environment is handed over, and the whole process group is killed when the program ends. A program counts as passed
 * only if the runner reached the line behind it, so `exit(0)` does not pass.
 */
export class PythonSandbox {
  readonly confinement: Confinement;
  readonly #python: string;
  /** Programs so far of this process: two that run at once must not share a user id. */
  static #programs = 0;

  private constructor(confinement: Confinement, python: string) {
    this.confinement = confinement;
    this.#python = python;
  }

  /** Tries what this machine allows. Throws a `resource` error where nothing confines a program or no Python can be reached. */
  static async open(wanted?: Confinement): Promise<PythonSandbox> {
    const asRoot = process.getuid?.() === 0;
    const possible: Confinement[] = asRoot ? ['namespaces', 'user'] : ['unprivileged'];
    for (const confinement of process.platform === 'linux' ? possible : []) {
      if (wanted !== undefined && wanted !== confinement) continue;
      for (const python of ['/usr/bin/python3', '/usr/local/bin/python3']) {
        const sandbox = new PythonSandbox(confinement, python);
        if (await sandbox.#confines()) return sandbox;
      }
    }
    throw new SottoError('resource', 'this platform cannot confine programs of unknown intent', {
      remedy:
        'use Linux with /usr/bin/python3 and util-linux (setpriv, prlimit, unshare), as root or with user name spaces allowed',
    });
  }

  /** Runs a program as the module would be by `exec`. Never throws for what the program does. */
  async run(program: string, limits: SandboxLimits = defaultLimits): Promise<Execution> {
    const token = randomBytes(16).toString('hex');
    const user = firstUser + ((process.pid * 61 + PythonSandbox.#programs++) % users);
    const child = spawn(...this.#command(user, limits), {
      cwd: '/',
      detached: true,
      env: { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8' },
      stdio: ['pipe', 'ignore', 'pipe', 'pipe'],
    });
    try {
      return await verdict(child, { program, token, limits });
    } finally {
      killGroup(child);
      // Without a name space of its own a process may have left the group: it still has the user id.
      if (this.confinement === 'user') await killUser(user);
    }
  }

  #command(user: number, { milliseconds, memoryBytes, processes }: SandboxLimits): [string, string[]] {
    const limit = [
      'prlimit',
      `--as=${memoryBytes}`,
      `--nproc=${processes}`,
      '--fsize=0',
      `--cpu=${Math.ceil(milliseconds / 1000) + startSeconds}`,
      '--core=0',
      '--nofile=64',
      '--',
      this.#python,
      '-I',
      '-B',
      '-c',
      runner,
    ];
    const identity = this.confinement === 'unprivileged' ? [] : [`--reuid=${user}`, `--regid=${user}`, '--clear-groups'];
    const drop = ['setpriv', ...identity, '--no-new-privs', '--inh-caps=-all', '--bounding-set=-all', ...limit];
    if (this.confinement === 'user') return [drop[0]!, drop.slice(1)];
    const own = this.confinement === 'unprivileged' ? ['--user', '--map-root-user'] : [];
    const spaces = [...own, '--mount', '--net', '--ipc', '--pid', '--fork', '--kill-child'];
    return ['unshare', [...spaces, 'sh', '-c', readOnlyMounts(this.confinement), 'sh', ...drop]];
  }

  /** Whether a program runs, and neither writes where anyone may nor reaches a network, as far as this confinement promises it. */
  async #confines(): Promise<boolean> {
    const generous = { ...defaultLimits, milliseconds: 10_000 };
    const { outcome } = await this.run(probe(this.confinement), generous).catch(() => ({ outcome: 'failed' }) as const);
    return outcome === 'passed';
  }
}

/** User ids that no account has: the range that systemd sets aside for users made on demand. */
const [firstUser, users] = [61_184, 4096];
/** Beyond a program's own time, for starting the interpreter on a busy machine. */
const startSeconds = 20;

/** Reads the program, says that it starts, runs it, says that it has ended. */
const runner = `
import os, json, sys
job = json.loads(sys.stdin.buffer.read())
verdict = os.dup(3)
os.close(3)
os.set_inheritable(verdict, False)
os.write(verdict, b"started\\n")
try:
    exec(compile(job["program"], "program", "exec"), {})
except BaseException as error:
    try:
        sys.stderr.write(type(error).__name__ + ": " + str(error)[:300])
        sys.stderr.flush()
    finally:
        os._exit(1)
os.write(verdict, job["token"].encode())
os._exit(0)
`;

/**
 * In name spaces of their own mounts become read-only, and places that anyone may write to become empty. The shell stays as the first
 * process of the name space: it is in the group that is killed, cannot leave it, and all others end with it. The program itself could
 * leave the group, and changing its user clears the signal that `--kill-child` asks for.
 */
function readOnlyMounts(confinement: Confinement): string {
  // Without the file system read-only an unprivileged user could harm its own files: there this must succeed, see the probe.
  const all = 'while read -r _ _ _ _ point _; do mount -o remount,bind,ro "$point" 2>/dev/null; done < /proc/self/mountinfo';
  const empty = 'for place in /tmp /var/tmp /dev/shm; do mount -t tmpfs -o ro,size=4k none $place 2>/dev/null; done';
  return `${confinement === 'unprivileged' ? `${all}; ` : 'mount -o remount,bind,ro / 2>/dev/null; '}${empty}; "$@"; exit $?`;
}

function probe(confinement: Confinement): string {
  const home = confinement === 'unprivileged' ? JSON.stringify(process.cwd()) : '"/tmp"';
  const writing = `
import tempfile
try:
    with open(${home} + "/sotto-probe-${randomBytes(6).toString('hex')}", "w") as file: file.write("x" * 10000)
    raise SystemExit("writes")
except OSError: pass
`;
  const user = confinement === 'unprivileged' ? '' : 'import os\nassert os.getuid() >= 1000 and os.getgid() >= 1000\n';
  return `${user}${writing}`;
}

function verdict(
  child: ChildProcess,
  { program, token, limits }: { program: string; token: string; limits: SandboxLimits },
): Promise<Execution> {
  return new Promise((resolve, reject) => {
    let [said, complaint] = ['', ''];
    let started = false;
    let timer = setTimeout(() => resolve({ outcome: 'timeout', message: 'did not start' }), startSeconds * 1000);
    const finish = (execution: Execution): void => {
      clearTimeout(timer);
      resolve(execution);
    };
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    (child.stdio[3] as NodeJS.ReadableStream).on('data', (chunk: Buffer) => {
      if (said.length < 1000) said += chunk.toString('latin1');
      if (started || !said.startsWith('started\n')) return;
      started = true;
      clearTimeout(timer);
      timer = setTimeout(
        () => finish({ outcome: 'timeout', message: `ran longer than ${limits.milliseconds} ms` }),
        limits.milliseconds,
      );
    });
    child.stderr!.on('data', (chunk: Buffer) => {
      if (complaint.length < 10_000) complaint += chunk.toString('utf8');
    });
    const exited = (code: number | null, signal: string | null): void => {
      const message = complaint.trim().split('\n').at(-1)?.slice(0, 300) ?? '';
      if (said === `started\n${token}`) finish({ outcome: 'passed', message: '' });
      else finish({ outcome: 'failed', message: message || `ended by ${signal ?? `exit ${code}`}` });
    };
    // Processes that were left behind may hold the pipes open: what was said before the end arrives shortly after it.
    child.on('exit', (code, signal) => {
      const late = setTimeout(() => exited(code, signal), 500);
      child.on('close', () => {
        clearTimeout(late);
        exited(code, signal);
      });
    });
    child.stdin!.on('error', () => undefined);
    child.stdin!.end(JSON.stringify({ program, token }));
  });
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // The group is gone already.
  }
  for (const stream of child.stdio) (stream as { destroy?: () => void } | null)?.destroy?.();
}

/** Every process of a user id, killed by one of them. */
async function killUser(user: number): Promise<void> {
  const words = [`--reuid=${user}`, `--regid=${user}`, '--clear-groups', '--no-new-privs', 'sh', '-c', 'kill -KILL -1'];
  const child = spawn('setpriv', words, { stdio: 'ignore', cwd: '/' });
  await new Promise<void>((resolve) => child.on('exit', () => resolve()).on('error', () => resolve()));
}
