import type { Shape } from '../../program/index.ts';

/**
 * A node of a ring program, whatever its operation. The ring program is what a real-valued program becomes when every value is an integer
 * modulo 2^L with a known number of fraction bits. Truncations, openings and pins are statements of their own, so that "sent once",
 * merged truncations and the cost of a run are visible in the text. `fixed`, `cost` and `mpc` interpret this list.
 */
export interface RingParameters {
  /** L: all arithmetic is modulo 2^bits. */
  readonly bits: number;
  /** F: fraction bits of an activation. */
  readonly fraction: number;
}

/**
 * What the parties hold of a value. `pinned`: shared, the client's share was fixed before the run. `floating`: shared, the client's
 * share depends on messages. `opening`: the masked value e = x_s − b, known to the client. `server`: the server's plaintext.
 */
export type State = 'pinned' | 'floating' | 'opening' | 'server';

/** A statement of operation `P` with parameters `Q`. */
export interface NodeWith<P extends string, Q> {
  readonly operation: P;
  readonly inputs: readonly number[];
  readonly parameters: Q;
  readonly shape: Shape;
  readonly state: State;
  /** Fraction bits of the result: for messages and checks, arithmetic does not need them. */
  readonly fraction: number;
  /** The value lives modulo 2^modulus; in the whole ring where absent. */
  readonly modulus?: number;
  readonly scope: string;
}
export type AnyNode = NodeWith<string, unknown>;

/** A node and its place in the program. */
export type Numbered<N> = N & { readonly index: number };

export interface AnyProgram {
  readonly ring: RingParameters;
  readonly nodes: readonly AnyNode[];
}

/** Whether a node's first input is a pinned wire: truncations have two forms. */
export const ofPinned = (node: AnyNode, program: AnyProgram): boolean => program.nodes[node.inputs[0]!]!.state === 'pinned';

/** Bits of the ring that a node's value lives in. */
export const modulusOf = (node: AnyNode, { ring }: AnyProgram): number => node.modulus ?? ring.bits;

/** Bits of the ring that a node's first input lives in. */
export const inputModulus = (node: AnyNode, program: AnyProgram): number => modulusOf(program.nodes[node.inputs[0]!]!, program);
