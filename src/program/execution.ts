import type { Program, Shape } from './types.ts';

/** A dense row-major value at the edge of a backend. Indices are Int32Array. */
export interface Tensor {
  readonly shape: Shape;
  readonly values: Float32Array | Float64Array | Int32Array;
}

/** Packed codes: what programs are fed, never what they give. */
export interface Bytes {
  readonly shape: Shape;
  readonly values: Uint8Array;
}
/** What an input is given: numbers of its shape, or packed codes where it takes bytes. */
export type Feed = Tensor | Bytes;

/** A program made ready to run many times. */
export interface Executable {
  /** Feeds every input that was not bound; gives every output by name. */
  run(feeds: ReadonlyMap<string, Feed>): Promise<Map<string, Tensor>>;
  /** Frees what the backend holds. Nothing may be run afterwards. */
  close(): Promise<void>;
}

/** A backend that computes in the clear. `bound` names the inputs whose values never change (weights). */
export interface FloatBackend {
  readonly name: string;
  /** Makes a program ready; composites that the backend does not take are lowered. Throws an `input` error for values of another shape. */
  compile(program: Program, bound: ReadonlyMap<string, Feed>): Promise<Executable>;
}

/** A program whose state stays inside: each run replaces every state input NAME by the output `next/NAME`. */
export interface Step {
  /** Feeds the inputs that are neither bound nor state; gives the named outputs, by default all that are not `next/…`. */
  run(feeds: ReadonlyMap<string, Feed>, outputs?: readonly string[]): Promise<Map<string, Tensor>>;
  /** Copies of the current state; all of it by default. */
  readState(names?: readonly string[]): Promise<Map<string, Tensor>>;
  /** Replaces the named parts of the state by copies of these values, which must have their shapes. */
  writeState(values: ReadonlyMap<string, Tensor>): Promise<void>;
  /** Frees the state and what the backend holds beside it. Nothing may be run afterwards. */
  close(): Promise<void>;
}

/** What of a program stays where it computes: its state, which moves, and its weights, which do not. */
export interface StepOptions {
  /** The inputs that stay inside, with their first values; the program must have an output `next/NAME` for each. */
  readonly state: ReadonlyMap<string, Tensor>;
  readonly bound?: ReadonlyMap<string, Feed>;
}

/** A backend that keeps state where it computes. */
export interface SteppingBackend extends FloatBackend {
  /** The same with a state that stays inside. Throws a `model` error where a state input has no output `next/NAME`. */
  compileStep(program: Program, options: StepOptions): Promise<Step>;
}

/** A step on any backend: where it keeps no state itself, state is fed and fetched at every run. */
export async function compileStep(
  backend: FloatBackend | SteppingBackend,
  program: Program,
  options: StepOptions,
): Promise<Step> {
  if ('compileStep' in backend) return await backend.compileStep(program, options);
  const executable = await backend.compile(program, options.bound ?? new Map());
  const state = new Map(options.state);
  return {
    async run(feeds, outputs) {
      const results = await executable.run(new Map<string, Feed>([...feeds, ...state]));
      for (const name of state.keys()) state.set(name, results.get(`next/${name}`)!);
      const wanted = outputs ?? [...results.keys()].filter((name) => !name.startsWith('next/'));
      return new Map(wanted.map((name) => [name, results.get(name)!]));
    },
    readState: async (names = [...state.keys()]) => new Map(names.map((name) => [name, state.get(name)!])),
    async writeState(values) {
      for (const [name, value] of values) state.set(name, value);
    },
    close: () => executable.close(),
  };
}
