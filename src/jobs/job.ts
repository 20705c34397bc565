import { isFlag, outOfRange, type RingProgram, Withheld } from '../backends/ring/index.ts';
import type { Logits } from '../models/sample.ts';
import type { Tensor } from '../program/index.ts';

/** What the program of a run follows from beside model and ring. All of it is public: the parties of a private run agree on it. */
export interface Asked {
  readonly task: 'generate' | 'classify';
  /** Positions of the text; 1 for a picture. */
  readonly promptTokens: number;
  /** Outputs; 1 for a class. */
  readonly newTokens: number;
  /** A text of secret length stands in the positions, by the client's mask. */
  readonly padded?: true;
  /** What is opened of each new token; all logits where absent. */
  readonly reveal?: 'token';
}

/**
 * `more`: go on. `done`: the answer is complete and all of it is known to be right, and what comes is for nobody. `failed`: `answer` throws. What is done about the last two
 * is the runner's: in the clear it ends, and where a peer watches it goes on as it would have without.
 */
export type Standing = 'more' | 'done' | 'failed';

/**
 * One errand with a state: what a program is fed, and what becomes of its outputs. Every runner (float, fixed, rehearsal, parties) drives
 * a job by the same calls, in the order of its program: `read` once, then inputs and outputs by name, then `answer`. Inputs,
 * outputs and `read` never throw, so that nothing which is secret decides whether a run goes on: what went wrong is thrown by `answer`.
 */
export interface Job<Answer> {
  readonly asked: Asked;
  /** Before a run of this program: where it has range flags, an output is shown when the flag that goes with it has come. */
  watch(program: RingProgram): void;
  /** Makes the inputs of what was given: what a request must not wait for, since its time and its failing would show. */
  read(): Standing;
  /** A client's input of the program. After the end, or a failure, something of the same shape. */
  input(name: string): Tensor;
  /** An opened output. */
  take(name: string, opened: Tensor): Standing;
  /** What came of it. Throws what went wrong. */
  answer(): Answer;
}

/** What becomes of an output: whether the answer is complete with it, and what is done once it is known to be right. */
export interface Taken {
  readonly last: boolean;
  readonly show?: () => void;
}

/** What a kind of job is made of; `startJob` keeps its state. */
export interface Errand<Answer> {
  readonly asked: Asked;
  readonly read: () => void;
  /** `over`: what is opened is for nobody any more. */
  readonly input: (name: string, over: boolean) => Tensor;
  readonly take: (values: Logits) => Taken;
  readonly answer: () => Answer;
}

/** Without `secret` lengths the errand is read at once, and what is wrong with it is thrown here. */
export function startJob<Answer>(errand: Errand<Answer>, { secret }: { readonly secret: boolean }): Job<Answer> {
  let fault: { readonly error: unknown } | undefined;
  /** The answer is complete, or something was wrong: what comes is for nobody. */
  let over = false;
  let withheld: Withheld | undefined;
  const guarded = (work: () => void): Standing => {
    try {
      work();
    } catch (error) {
      fault ??= { error };
      over = true;
    }
    if (fault !== undefined) return 'failed';
    return over && withheld?.empty !== false ? 'done' : 'more';
  };
  const shown = (show: () => void): void => {
    if (withheld === undefined) show();
    else withheld.add(() => void guarded(() => fault ?? show()));
  };
  const output = (values: Logits): void => {
    const { last, show = () => undefined } = over ? { last: true } : errand.take(values);
    over = last;
    shown(show);
  };
  if (!secret) errand.read();
  return {
    asked: errand.asked,
    watch(program) {
      withheld = new Withheld(program);
    },
    read: () => guarded(() => (secret ? errand.read() : undefined)),
    input: (name) => errand.input(name, over),
    take: (name, { values }) =>
      guarded(() => {
        if (!isFlag(name)) output(values as Logits);
        else if (values[0] === 0) withheld?.told();
        else throw outOfRange();
      }),
    answer() {
      if (fault !== undefined) throw fault.error;
      return errand.answer();
    },
  };
}

/** The same job with another answer. */
export const mapJob = <A, B>(job: Job<A>, map: (answer: A) => B): Job<B> => ({ ...job, answer: () => map(job.answer()) });

/** A job that is read, in a process where nobody watches: what is wrong with it is thrown at once. */
export function readInTheClear<Answer>(job: Job<Answer>): void {
  if (job.read() === 'failed') job.answer();
}

/** The input of a name; a program that asks for another one is not this job's. */
export function inputNamed(inputs: Readonly<Record<string, Tensor>>, name: string): Tensor {
  const found = Object.hasOwn(inputs, name) ? inputs[name] : undefined;
  if (found === undefined) throw new Error(`the program asks for ${name}, which no job of this kind has`);
  return found;
}

export const indices = (ids: readonly number[]): Tensor => ({ shape: [ids.length], values: Int32Array.from(ids) });
