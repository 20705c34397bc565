import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkProgram, codeTask, runCode, scoreCode } from '../../src/evaluate/humaneval.ts';
import { passAtK } from '../../src/evaluate/metric.ts';
import { Row, readRows } from '../../src/evaluate/rows.ts';
import { type Confinement, PythonSandbox } from '../../src/evaluate/sandbox.ts';

const shared = process.env.SOTTO_SHARED ?? join(import.meta.dirname, '../../../shared');
const humaneval = join(shared, 'data/humaneval/first82.jsonl');
const quick = { milliseconds: 600, memoryBytes: 256 * 2 ** 20, processes: 8 };

/** What this machine can do, asked once: each kind of confinement is tested where it exists. */
const kinds: Confinement[] = process.getuid?.() === 0 ? ['namespaces', 'user'] : ['unprivileged'];
const open = (kind: Confinement) => PythonSandbox.open(kind).catch(() => undefined);
const opened = new Map(await Promise.all(kinds.map(async (kind) => [kind, await open(kind)] as const)));

describe.each(kinds)('a program confined by %s', (kind) => {
  const sandbox = opened.get(kind)!;
  const run = (program: string) => sandbox.run(program, quick);

  it('is found possible here, or refused with a typed error', async () => {
    if (sandbox === undefined) await expect(PythonSandbox.open(kind)).rejects.toMatchObject({ kind: 'resource' });
    else expect(sandbox.confinement).toBe(kind);
  });

  describe.skipIf(sandbox === undefined)('and hostile', () => {
    let folder: string;
    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'sotto-target-'));
      // Anyone may write here: only the sandbox stands in the way.
      chmodSync(folder, 0o777);
      writeFileSync(join(folder, 'kept'), 'kept');
      chmodSync(join(folder, 'kept'), 0o666);
    });
    afterAll(() => {
      rmSync(folder, { recursive: true, force: true });
      // Without name spaces it can be created, though not grow.
      rmSync(`/tmp/sotto-planted-${process.pid}`, { force: true });
    });

    it('passes only by reaching its end', async () => {
      expect(await run('x = 1 + 1\nassert x == 2')).toEqual({ outcome: 'passed', message: '' });
      expect(await run('assert False, "no"')).toEqual({ outcome: 'failed', message: 'AssertionError: no' });
      for (const program of [
        'exit(0)',
        'import os; os._exit(0)',
        'raise SystemExit(0)',
        'def f(:',
        'import os; os.kill(os.getpid(), 9)',
        ''.padEnd(3, '\0'),
      ])
        expect((await run(program)).outcome, program).toBe('failed');
    });

    it('is ended when it loops for ever, even where it ignores signals', async () => {
      const start = performance.now();
      expect((await run('while True: pass')).outcome).toBe('timeout');
      const deaf =
        'import signal\nfor s in (1, 2, 3, 15, 24): signal.signal(s, signal.SIG_IGN)\nwhile True:\n  try:\n    while True: pass\n  except BaseException: pass';
      expect((await run(deaf)).outcome).toBe('timeout');
      expect(performance.now() - start).toBeLessThan(6000);
    });

    it('cannot fork without bound, and leaves no process behind', async () => {
      const mark = `sotto_bomb_${kind}`;
      const bomb = `import os\n${mark} = 1\nwhile True:\n  try:\n    os.fork()\n    os.setsid()\n  except OSError: pass`;
      expect((await run(bomb)).outcome).toBe('timeout');
      const escaping = `import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    while True: time.sleep(0.01)\n`;
      await run(escaping);
      await new Promise((resolve) => setTimeout(resolve, 300));
      expect(sandboxProcesses()).toEqual([]);
    });

    it('cannot take more memory than it is allowed', async () => {
      const { outcome, message } = await run('x = bytearray(2 * 1024 ** 3)');
      expect(outcome).toBe('failed');
      expect(message).toContain('MemoryError');
    });

    it('cannot write to a file, even where anyone may', async () => {
      const programs = [
        `with open("${folder}/new", "w") as f: f.write("x" * 100)`,
        `f = open("${folder}/kept", "a"); f.write("x" * 100); f.flush()`,
        `with open("/tmp/sotto-planted-${process.pid}", "w") as f: f.write("x" * 100)`,
        'with open("planted", "w") as f: f.write("x" * 100)',
      ];
      for (const program of programs) expect((await run(program)).outcome, program).toBe('failed');
      expect(readFileSync(join(folder, 'kept'), 'utf8')).toBe('kept');
      const grown = readdirSync(folder).filter((name) => readFileSync(join(folder, name)).length > 0);
      expect(grown).toEqual(['kept']);
    });

    it('has no privilege and nothing of the environment', async () => {
      process.env.SOTTO_PLANTED_SECRET = 'secret';
      const programs = [
        'import os; os.setuid(0)',
        'import os; assert "SOTTO_PLANTED_SECRET" in os.environ',
        'import os; os.kill(1, 0) if os.getpid() != 1 else 1 / 0',
      ];
      for (const program of programs) expect((await run(program)).outcome, program).toBe('failed');
      delete process.env.SOTTO_PLANTED_SECRET;
    });

    it('may say as much as it wants without being heard', async () => {
      expect((await run('import sys\nfor i in range(20000): print("x" * 1000)\nsys.stderr.write("y" * 1000)')).outcome).toBe(
        'passed',
      );
    });

    it('has no network where it has name spaces', async () => {
      if (kind === 'user') return;
      const connect = 'import socket\nsocket.create_connection(("127.0.0.1", 9), 0.2)';
      expect((await run(connect)).message).toMatch(/unreachable/);
    });
  });
});

/** Processes with a user id of the sandbox's range. */
function sandboxProcesses(): string[] {
  if (!existsSync('/proc')) return [];
  return readdirSync('/proc').filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const status = readFileSync(`/proc/${name}/status`, 'utf8');
      const user = Number(/^Uid:\s+(\d+)/m.exec(status)![1]);
      return user >= 61_184 && user < 65_280 && !/^State:\s+Z/m.test(status);
    } catch {
      return false;
    }
  });
}

describe('pass@k', () => {
  it('is the unbiased estimate: the share of k-subsets with a success', () => {
    expect(passAtK(1, 1, 1)).toBe(1);
    expect(passAtK(10, 3, 1)).toBeCloseTo(0.3, 12);
    // 1 − C(7, 5) / C(10, 5)
    expect(passAtK(10, 3, 5)).toBeCloseTo(1 - 21 / 252, 12);
    expect(passAtK(5, 0, 5)).toBe(0);
  });

  it('is given for every k that all tasks have samples for', () => {
    const execution = (passed: boolean) => ({ outcome: passed ? ('passed' as const) : ('failed' as const), message: '' });
    const metrics = scoreCode([
      { id: 'a', executions: Array.from({ length: 10 }, (_, i) => execution(i < 5)) },
      { id: 'b', executions: Array.from({ length: 12 }, () => execution(false)) },
    ]);
    expect(Object.keys(metrics)).toEqual(['pass@1', 'pass@10']);
    expect(metrics['pass@1']!.value).toBeCloseTo(0.25, 12);
    expect(metrics['pass@10']!.value).toBeCloseTo(0.5, 12);
  });
});

describe('HumanEval', () => {
  const fields = { task_id: 'T/0', prompt: 'def f(x):\n', entry_point: 'f', test: 'def check(c):\n    assert c(2) == 4\n' };

  it('joins prompt, completion, test and call as the published harness does', () => {
    const program = checkProgram(codeTask(new Row('t.jsonl', 1, fields)), '    return x * 2\n');
    expect(program).toBe('def f(x):\n    return x * 2\n\ndef check(c):\n    assert c(2) == 4\n\ncheck(f)');
  });

  it('refuses an entry point that is no name', () => {
    expect(() => codeTask(new Row('t.jsonl', 3, { ...fields, entry_point: 'f); evil(' }))).toThrow(/t\.jsonl:3.*entry_point/);
  });
});

const sandbox = [...opened.values()].find((one) => one !== undefined);
describe.skipIf(!existsSync(humaneval) || sandbox === undefined)('the canonical solutions of HumanEval', () => {
  it('score 82 of 82, and an empty body none', { timeout: 120_000 }, async () => {
    const rows = await readRows(humaneval);
    const tasks = rows.map(codeTask);
    const scores = await runCode(
      sandbox!,
      tasks,
      rows.map((row) => [row.text('canonical_solution')]),
    );
    expect(scores.filter(({ executions }) => executions[0]!.outcome !== 'passed')).toEqual([]);
    expect(scoreCode(scores)['pass@1']).toMatchObject({ value: 1, count: 82, high: 1 });
    const empty = await runCode(
      sandbox!,
      tasks.slice(0, 4),
      tasks.slice(0, 4).map(() => ['    pass\n']),
    );
    expect(scoreCode(empty)['pass@1']!.value).toBe(0);
  });
});
