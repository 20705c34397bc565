import { bootstrapped, type Metrics, passAtK, proportion } from '../../evaluate/metric.ts';
import type { Watch } from '../../evaluate/model.ts';
import type { Row } from '../../evaluate/rows.ts';
import { outputOf } from './completions.ts';
import { type CheckedProgram, defaultLimits, type Execution, type PythonSandbox, type SandboxLimits } from './sandbox.ts';

/** A task of HumanEval (Chen et al. 2021). */
export interface CodeTask {
  readonly row: Row;
  readonly id: string;
  readonly prompt: string;
  readonly entryPoint: string;
  readonly test: string;
}

export const codeTask = (row: Row): CodeTask => ({
  row,
  id: row.text('task_id'),
  prompt: row.text('prompt'),
  entryPoint: entryPoint(row),
  test: row.text('test'),
});

function entryPoint(row: Row): string {
  const name = row.text('entry_point');
  return /^[A-Za-z_]\w*$/.test(name) ? name : row.refuse('entry_point', 'is not the name of a function');
}

/** Where a model's text stops being the body of the function. */
export const codeStops = ['\nclass', '\ndef', '\n#', '\nif', '\nprint'] as const;

/** The published harness runs prompt, completion, test and `check(entry point)` as one program; here the test has a process of its own. */
export const checkedProgram = ({ prompt, test, entryPoint }: CodeTask, completion: string): CheckedProgram => ({
  program: `${prompt}${completion}\n`,
  entryPoint,
  prompt,
  test,
});

/** The samples of a completion row. */
export const codeCompletion = (row: Row): string => outputOf(row);

export interface CodeScore {
  readonly id: string;
  readonly executions: readonly Execution[];
}

/** Runs every sample of every task, `parallel` at a time. */
export async function runCode(
  sandbox: PythonSandbox,
  tasks: readonly CodeTask[],
  samples: readonly (readonly string[])[],
  options: { limits?: SandboxLimits; parallel?: number; watch?: Watch } = {},
): Promise<CodeScore[]> {
  const { limits = defaultLimits, parallel = 2, watch } = options;
  const jobs = tasks.flatMap((task, index) =>
    samples[index]!.map((sample) => ({ index, program: checkedProgram(task, sample) })),
  );
  const executions: Execution[][] = tasks.map(() => []);
  let [next, done] = [0, 0];
  const work = async (): Promise<void> => {
    while (next < jobs.length) {
      const { index, program } = jobs[next++]!;
      executions[index]!.push(await sandbox.run(program, limits));
      watch?.(++done, jobs.length);
    }
  };
  await Promise.all(Array.from({ length: parallel }, work));
  return tasks.map(({ id }, index) => ({ id, executions: executions[index]! }));
}

/** pass@k for k = 1, 10 and 100 as far as every task has so many samples. */
export function scoreCode(scores: readonly CodeScore[]): Metrics {
  const fewest = Math.min(...scores.map(({ executions }) => executions.length));
  const passed = scores.map(({ executions }) => executions.filter(({ outcome }) => outcome === 'passed').length);
  const metrics: Metrics = {};
  for (const k of [1, 10, 100]) {
    if (k > fewest) continue;
    const single = k === 1 && scores.every(({ executions }) => executions.length === 1);
    const each = scores.map(({ executions }, index) => passAtK(executions.length, passed[index]!, k));
    const total = each.reduce((sum, value) => sum + value, 0);
    metrics[`pass@${k}`] = single
      ? proportion(total, each.length)
      : bootstrapped(each.length, (members) => members.reduce((sum, member) => sum + each[member]!, 0) / members.length);
  }
  return metrics;
}
