import type { Exact, FixedValue } from '../exact.ts';
import type { AnyProgram, NodeWith, Numbered } from '../node.ts';
import type { Material, Messages, Piece } from '../sizes.ts';

/** What a node's work is made of beside the words that it takes and gives: what seconds are forecast from. */
export interface Work {
  /** Multiplications of a matrix product, and how many rows share a read of the second matrix. */
  readonly products?: { readonly count: number; readonly rows: number };
  readonly comparisons?: number;
  readonly windowPoints?: number;
  /** Points that a party expands from keys, ahead of their index where it waits for its peer. */
  readonly expandedPoints?: number;
  /** Levels of all keys that the dealer makes. */
  readonly keyLevels?: number;
}

/**
 * What an operation declares, in one place: `Q` are its parameters. Every run is checked against `messages`, `corrections` and `keys`; forecasts are
 * made of them. What its two sides and the dealer do is in mpc/operations, under the same file's name.
 */
export interface RingRow<P extends string, Q> {
  /** What it sends online each way, as packed fields; nothing where absent. */
  messages?(node: NodeWith<P, Q>, program: AnyProgram): Messages;
  /** Bits of every correction of an element that the dealer gives the server, one packed field behind the other. */
  corrections?(node: NodeWith<P, Q>, program: AnyProgram): readonly number[];
  /** Bytes of keys that the dealer gives each party instead. */
  keys?(node: NodeWith<P, Q>, program: AnyProgram): Pick<Material, 'dealerToServer' | 'dealerToClient'>;
  /** How the dealer's material is cut where one piece would be too large. */
  pieces?(node: NodeWith<P, Q>, program: AnyProgram, limitBytes: number): Piece[];
  /** The server computes it only when what it says for it has left: the client works on its part at the same time. */
  readonly late?: true;
  /** Whose tensor it stands for, by the parameter `name`. */
  readonly source?: 'client' | 'server';
  /** Its value goes to the client; later inputs of the client may depend on it. */
  readonly reveals?: true;
  /**
   * Its second input is a weight that meets a secret: the setup masks it for the dealer, and the client sends the server a half of the
   * correction, as long as the dealer's.
   */
  readonly masksWeight?: true;
  /** Beside its name, what its speed depends on. */
  form?(node: NodeWith<P, Q>, program: AnyProgram): string;
  work?(node: NodeWith<P, Q>): Work;
  /** The exact integers: what `fixed` computes, and what a private run's shares add up to. */
  meaning(exact: Exact, node: Numbered<NodeWith<P, Q>>, ...inputs: FixedValue[]): FixedValue;
}
