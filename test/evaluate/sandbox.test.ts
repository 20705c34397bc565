import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { passAtK } from '../../src/evaluate/metric.ts';
import { Row, readRows } from '../../src/evaluate/rows.ts';
import { checkedProgram, codeTask, runCode, scoreCode } from '../../src/lab/tasks/humaneval.ts';
import { PythonSandbox } from '../../src/lab/tasks/sandbox.ts';

const shared = process.env.SOTTO_SHARED ?? join(import.meta.dirname, '../../../shared');
const humaneval = join(shared, 'data/humaneval/first82.jsonl');

const sandbox = await PythonSandbox.open().catch((error: Error) => {
  console.warn(`part of test/evaluate/sandbox.test.ts is skipped: ${error.message}`);
  return undefined;
});

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

  it('runs prompt and completion as one program, and the test apart from it', () => {
    expect(checkedProgram(codeTask(new Row('t.jsonl', 1, fields)), '    return x * 2\n')).toEqual({
      program: 'def f(x):\n    return x * 2\n\n',
      entryPoint: 'f',
      prompt: fields.prompt,
      test: fields.test,
    });
  });

  it('refuses an entry point that is no name', () => {
    expect(() => codeTask(new Row('t.jsonl', 3, { ...fields, entry_point: 'f); evil(' }))).toThrow(/t\.jsonl:3.*entry_point/);
  });
});

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
