import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PythonSandbox } from '../../src/lab/tasks/sandbox.ts';

const sandbox = await PythonSandbox.open().catch((error: Error) => {
  console.warn(`test/hostile/sandbox.test.ts is skipped: ${error.message}`);
  return undefined;
});
const quick = { milliseconds: 1500, memoryBytes: 256 * 2 ** 20, processes: 8 };

const judged = (program: string, test: string) =>
  sandbox!.run({ program, entryPoint: 'f', prompt: 'def f(x):\n', test: `def check(candidate):\n${test}` }, quick);
/** Wrong for every program here: what passes has forged its verdict. */
const forged = (program: string) =>
  judged(program, '    assert candidate(2) == 4, "wrong"\n    assert candidate(3) == 6, "wrong"\n');
/** The function of `body` returns what it got hold of. */
const found = async (body: string): Promise<string> => {
  const lines = body.split('\n').map((line) => `    ${line}`);
  const program = `def f(x):\n    found = []\n${lines.join('\n')}\n    return [str(one)[:200] for one in found]\n`;
  const { outcome, message } = await judged(program, '    found = candidate(0)\n    assert found == [], found\n');
  return outcome === 'passed' ? '' : `${outcome}: ${message}`;
};

/** Living processes with a user id of the sandbox's range, or named by a word that programs put into their names. */
function left(): string[] {
  return readdirSync('/proc').filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const status = readFileSync(`/proc/${name}/status`, 'utf8');
      return !/^State:\s+Z/m.test(status) && readFileSync(`/proc/${name}/cmdline`, 'utf8').includes('sotto-left-behind');
    } catch {
      return false;
    }
  });
}

describe.skipIf(sandbox === undefined)('a program under evaluation', () => {
  it.each<[string, string]>([
    ['leaves before it is asked', 'import os; os._exit(0)'],
    ['leaves when it is asked', 'import os\ndef f(x): os._exit(0)'],
    ['leaves by an exception', 'def f(x): raise SystemExit(0)'],
    ['leaves at exit', 'import atexit, os, sys\natexit.register(os._exit, 0)\nsys.exit(0)'],
    ['returns what equals everything', 'class Same:\n  def __eq__(self, other): return True\ndef f(x): return Same()'],
    [
      'returns a number that equals everything',
      'class Same(int):\n  def __eq__(self, other): return True\n  __hash__ = int.__hash__\n  def __int__(self): return 4\ndef f(x): return Same(5)',
    ],
    [
      'returns a list that is never the same',
      'class Same(list):\n  def __iter__(self): raise AssertionError\n  def __eq__(self, other): return True\ndef f(x): return Same()',
    ],
    [
      'writes a verdict to everything that is open',
      'import os\ndef f(x):\n  for fd in range(64):\n    for word in (b"passed\\n", b"started\\n", b"0" * 32, b"started\\n" + b"0" * 32, b\'"ready"\\n\'):\n      try: os.write(fd, word)\n      except OSError: pass\n  return 5',
    ],
    ['answers without being asked', 'import os\nfor n in range(9): os.write(3, b\'{"value": true}\\n\')\ndef f(x): return 5'],
    [
      'says that an assertion is nothing',
      'import builtins, sys, unittest\nbuiltins.AssertionError = Exception\nbuiltins.__build_class__ = None\nsys.modules.clear()\nunittest.TestCase.fail = lambda *a: None\nsys.settrace(None)\ndef f(x): return 5',
    ],
    ['sends its own words instead of values', 'import json\njson.dumps = lambda value: "null"\ndef f(x): return 5'],
    ['names an exception that is none', 'class check(BaseException): pass\ndef f(x): raise check()'],
    ['names an exception that ends the judge', 'class SystemExit(BaseException): pass\ndef f(x): raise SystemExit(0)'],
    ['replaces its own test', 'def check(candidate): pass\ndef f(x): return 5'],
    ['returns a value nested without end', 'def f(x):\n  value = []\n  for _ in range(100000): value = [value]\n  return value'],
    ['never ends its reply', 'import os\ndef f(x):\n  while True: os.write(3, b"[" * 65536)'],
    ['is no program', 'def f(:'],
    ['is three zero bytes', '\0\0\0'],
    [
      'kills what started it',
      'import os, signal\ndef f(x):\n  for p in (os.getppid(), 1, -1):\n    try: os.kill(p, signal.SIGKILL)\n    except OSError: pass\n  return 5',
    ],
    ['forks and lets its child answer', 'import os\nif os.fork(): os._exit(0)\ndef f(x): return 5'],
  ])('that %s does not pass', async (_, program) => {
    expect(['failed', 'timeout']).toContain((await forged(program)).outcome);
  });

  it('passes where it is right, with every kind of plain data', async () => {
    expect(await judged('def f(x): return 2 * x', '    assert candidate(2) == 4\n')).toEqual({ outcome: 'passed', message: '' });
    const data =
      '[None, True, 7, -3 ** 90, 0.1, float("inf"), 1e-320, 2 + 1j, "ä\\ud800", b"\\x00", (1, (2,)), {"a": [1]}, {1, 2}, frozenset("x"), range(3)]';
    const same = `    data = ${data}\n    got = candidate(data)\n    assert repr(got) == repr(data), got\n    assert [type(a) for a in got] == [type(a) for a in data]\n`;
    expect(await judged('def f(x): return x', same)).toEqual({ outcome: 'passed', message: '' });
    const raises = '    try: candidate(1)\n    except ValueError as error: assert str(error) == "no"\n    else: assert False\n';
    expect((await judged('def f(x): raise ValueError("no")', raises)).outcome).toBe('passed');
    expect((await judged('def f(x, y=1, *, z): return x + y + z', '    assert candidate(1, z=5) == 7\n')).outcome).toBe('passed');
    expect(
      (await forged('import sys\ndef f(x):\n  print("x" * 10 ** 7); sys.stderr.write("y" * 10 ** 7)\n  return 2 * x')).outcome,
    ).toBe('passed');
  });

  describe('and what is around it', () => {
    let folder: string;
    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'sotto-target-'));
      // Anyone may read and write here: only the sandbox stands in the way.
      chmodSync(folder, 0o777);
      writeFileSync(join(folder, 'kept'), 'kept', { mode: 0o666 });
      process.env.SOTTO_PLANTED_SECRET = 'planted';
    });
    afterAll(() => {
      rmSync(folder, { recursive: true, force: true });
      delete process.env.SOTTO_PLANTED_SECRET;
    });

    it('has nothing of the environment, the home, the project or the disk', async () => {
      const places = JSON.stringify([
        folder,
        process.cwd(),
        '/root',
        '/home',
        '/etc/passwd',
        '/tmp',
        '/var',
        '/sys',
        '/run',
        '/proc/1/root/etc',
      ]);
      expect(
        await found(
          `import os\nfound += [one for one in os.environ if "SOTTO" in one or "HOME" in one]\nfound += [p for p in ${places} if os.path.exists(p)]`,
        ),
      ).toBe('');
      expect(
        await found(
          'import os\nfor p in os.listdir("/proc"):\n    if p.isdigit():\n        try:\n            text = open("/proc/" + p + "/environ").read() + open("/proc/" + p + "/cmdline").read()\n            if "planted" in text or "vitest" in text: found.append(text)\n        except OSError: pass',
        ),
      ).toBe('');
    });

    it('can write nowhere, and fill nothing', async () => {
      expect(
        await found(`import os, tempfile
for place in ("/", "/tmp", "/var/tmp", "/dev", "/dev/shm", "/run", "/usr", "/usr/lib", "/proc", "/proc/self", ${JSON.stringify(folder)}, os.getcwd()):
    try:
        with open(place + "/planted", "w") as file: file.write("x")
        found.append(place)
    except OSError: pass
try: found.append(tempfile.mkdtemp())
except OSError: pass
for name in ("kernel/core_pattern", "kernel/hostname", "vm/drop_caches"):
    try: open("/proc/sys/" + name, "w").write("1"); found.append(name)
    except OSError: pass`),
      ).toBe('');
      expect(readFileSync(join(folder, 'kept'), 'utf8')).toBe('kept');
      expect(readdirSync(folder)).toEqual(['kept']);
    });

    it('sees no process, and reaches into none', async () => {
      expect(await found('import os\nfound += [p for p in os.listdir("/proc") if p.isdigit() and int(p) > 20]')).toBe('');
      expect(
        await found(`import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for number, *words in ((101, 16, os.getppid(), 0, 0), (310, os.getppid(), 0, 0, 0, 0, 0), (272, 0x10000000), (56, 0x10000000, 0, 0, 0, 0), (165, 0, 0, 0, 0, 0), (321, 0, 0, 0), (425, 8, 0), (298, 0, 0, 0, 0, 0)):
    if os.uname().machine == "x86_64" and (libc.syscall(number, *words) != -1 or ctypes.get_errno() not in (1, 38)): found.append((number, ctypes.get_errno()))
try: open("/proc/%d/mem" % os.getppid(), "rb").read(1); found.append("memory")
except OSError: pass`),
      ).toBe('');
      // The frames, objects and memory of its own process hold neither a verdict nor the test.
      expect(
        await found(`import sys, gc
frame = sys._getframe()
while frame:
    for name, value in list(frame.f_locals.items()):
        if name in ("token", "verdict", "test") or (isinstance(value, dict) and ("token" in value or "test" in value)): found.append(name)
    frame = frame.f_back
found += ["collected" for one in gc.get_objects() if isinstance(one, dict) and "token" in one and "entryPoint" in one]
marker = bytes([97, 115, 115, 101, 114, 116, 32, 102, 111, 117, 110, 100])
for line in open("/proc/self/maps"):
    if "[heap]" in line:
        low, high = (int(one, 16) for one in line.split()[0].split("-"))
        with open("/proc/self/mem", "rb") as memory:
            memory.seek(low)
            if memory.read(high - low).count(marker + b" ==") > 0: found.append("test")`),
      ).toBe('');
    });

    it('keeps no memory: neither System V nor POSIX nor a file of memory', async () => {
      expect(
        await found(`import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
if libc.shmget(0x50770, 4096, 0o1666) >= 0: found.append("shmget")
if libc.semget(0x50770, 1, 0o1666) >= 0: found.append("semget")
if libc.msgget(0x50770, 0o1666) >= 0: found.append("msgget")
for make in (lambda: os.memfd_create("x"), lambda: os.open("/dev/shm/x", os.O_CREAT | os.O_RDWR)):
    try: found.append(make())
    except OSError: pass`),
      ).toBe('');
      expect(readFileSync('/proc/sysvipc/shm', 'utf8')).not.toContain(String(0x50770));
    });

    it('reaches no network, not even the loopback of this machine', async () => {
      let calls = 0;
      const server = createServer(() => calls++);
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const { port } = server.address() as { port: number };
      try {
        expect(
          await found(`import socket
for host in ("127.0.0.1", "localhost", "::1", "10.0.0.1", "1.1.1.1"):
    try: socket.create_connection((host, ${port}), 0.2); found.append(host)
    except OSError: pass
found += [name for _, name in socket.if_nameindex() if name != "lo"]`),
        ).toBe('');
        expect(calls).toBe(0);
      } finally {
        server.close();
      }
    });
  });

  it('is ended with everything that it started, also where it ignores signals and forks without bound', async () => {
    const mark = '"sotto-left-behind"';
    const daemon = `import os, sys\ndef f(x):\n  if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: os.execv(sys.executable, ["python3", "-c", "import time; time.sleep(60)", ${mark}])\n    os._exit(0)\n  return 2 * x`;
    expect((await forged(daemon)).outcome).toBe('passed');
    const deaf =
      'import signal\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n  except (OSError, ValueError): pass\ndef f(x):\n  while True:\n    try:\n      while True: pass\n    except BaseException: pass';
    expect((await forged(deaf)).outcome).toBe('timeout');
    const bomb = `import os, sys\ndef f(x):\n  while True:\n    try:\n      if os.fork() == 0: os.execv(sys.executable, ["python3", "-c", "while True: pass", ${mark}])\n    except OSError: pass`;
    expect((await forged(bomb)).outcome).toBe('timeout');
    await expect.poll(left, { timeout: 5000 }).toEqual([]);
  });

  it('cannot take more memory or processes than it is allowed', async () => {
    expect((await forged('def f(x): return len(bytearray(2 * 1024 ** 3))')).message).toContain('MemoryError');
    expect(
      await found(
        'import os\nfor n in range(20):\n    try:\n        if os.fork() == 0:\n            import time; time.sleep(5); os._exit(0)\n    except OSError: break\nelse: found.append("forks")',
      ),
    ).toBe('');
    expect(
      await found(
        'import resource\nfor name in ("AS", "NPROC", "FSIZE", "NOFILE", "CPU"):\n    limit = getattr(resource, "RLIMIT_" + name)\n    try: resource.setrlimit(limit, (resource.RLIM_INFINITY,) * 2); found.append(name)\n    except (OSError, ValueError): pass',
      ),
    ).toBe('');
  });
});

describe('where nothing confines a program', () => {
  it('none is run: a typed error names the tool', async () => {
    await expect(PythonSandbox.open('/nonexistent/bwrap')).rejects.toMatchObject({
      kind: 'resource',
      reason: expect.stringContaining('there is no /nonexistent/bwrap'),
      remedy: expect.stringContaining('apt-get install bubblewrap'),
    });
  });

  it.skipIf(!existsSync('/bin/sh'))('one that only pretends to confine is found out', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sotto-pretender-'));
    const pretender = join(folder, 'bwrap');
    chmodSync(folder, 0o755);
    writeFileSync(pretender, '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n', { mode: 0o755 });
    try {
      await expect(PythonSandbox.open(pretender)).rejects.toMatchObject({
        kind: 'resource',
        reason: expect.stringMatching(/not confined as it must be.*files/),
      });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
