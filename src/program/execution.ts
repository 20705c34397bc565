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
export type Feed = Tensor | Bytes;

/** A program made ready to run many times. */
export interface Executable {
  /** Feeds every input that was not bound; gives every output by name. */
  run(feeds: ReadonlyMap<string, Feed>): Promise<Map<string, Tensor>>;
  close(): Promise<void>;
}

/** A backend that computes in the clear. `bound` names the inputs whose values never change (weights). */
export interface FloatBackend {
  readonly name: string;
  compile(program: Program, bound: ReadonlyMap<string, Feed>): Promise<Executable>;
}
