import type { Block } from '../../../kernels/index.ts';
import { size, type Tensor } from '../../../program/index.ts';
import type { RingNodeOf, RingOperation, Side } from '../../ring/index.ts';
import type { ClientCorrelations, PointFunctionCipher, ServerCorrelations } from '../correlations/contract.ts';
import { type Held, type Machine, type Numbered, type NumberedNode, Scratch, type Step } from '../protocol.ts';
import type { Pad, PadFamily, Pads } from '../random.ts';

/**
 * A source whose material may still be on its way says whether `load` would answer at once; absent where it always does. It is told how
 * many frames of the run have gone, both ways.
 */
export interface Arriving {
  ready?(node: number): boolean;
  reached?(frames: number): void;
}

/** One side of a run, as the operations see it. */
export interface Client extends Machine {
  readonly correlations: ClientCorrelations & Arriving;
  readonly cipher: PointFunctionCipher;
  /** An input that has been made ready. */
  readonly input: (name: string) => Tensor;
  readonly output: (name: string, value: Tensor) => void;
}
export interface Server extends Machine {
  readonly correlations: ServerCorrelations & Arriving;
  readonly cipher: PointFunctionCipher;
  /** The server's plaintext of a node that has been made ready: its caller frees it. */
  readonly weight: (node: number) => Block;
}

/** What is known of the client's shares before a run: its pads. */
export interface Before extends Machine {
  readonly pads: Pads<'client'>;
}

/** What one node gives each party offline; or pieces of it, each made when the one before has been taken. */
export interface Outbox {
  toServer?: Uint8Array;
  toClient?: Uint8Array;
  pieces?: Iterable<{ readonly toServer: Uint8Array; readonly toClient: Uint8Array }>;
}
export interface Dealer extends Machine {
  readonly clientPads: Pads<'client'>;
  readonly serverPads: Pads<'server'>;
  readonly cipher: PointFunctionCipher;
  readonly outbox: Outbox;
}
export interface Preparing extends Before {
  readonly outbox: Outbox;
}

type NodeOf<P extends RingOperation> = Numbered<RingNodeOf<P>>;

/** What one side keeps for an operation through a run. */
export interface Kept {
  /** Makes ready what the node needs, instead of the source's `load`. */
  load(node: number): Promise<void>;
  /** Does one piece of work that will be needed, while the peer is waited for; false where there is none, or no room for it. */
  ahead(): Promise<boolean>;
  /** Frees what was kept; called once, also after a failure. */
  end(): void;
}

/**
 * What the two sides and the dealer do for an operation, in one place. What it declares is in ring/operations, under the same file's
 * name; runs are checked against that. `K` is what a side keeps, where it does.
 */
export interface SecureRow<P extends RingOperation, K = unknown> {
  /** Its pads by name. No two that one node draws have one stream of one side. */
  readonly pads?: Readonly<Record<string, Pad | PadFamily>>;
  /** The two sides of the online protocol. */
  client(party: Client & { readonly kept: K }, node: NodeOf<P>, ...inputs: Held[]): Held | Step;
  server(party: Server & { readonly kept: K }, node: NodeOf<P>, ...inputs: Held[]): Held | Step;
  readonly keep?: { client(party: Client): K & Kept; server(party: Server): K & Kept };
  /** The client's share of a pinned wire, from its pads alone, before the run; nothing is known where absent. */
  share?(before: Before, node: NodeOf<P>, ...inputs: Held[]): Held;
  /** Puts what the dealer makes into its outbox; gives what stands for the node there, the client's share where undefined. */
  dealer?(dealer: Dealer, node: NodeOf<P>, ...inputs: Held[]): Held | undefined;
  /** Puts the client's half of a correlation with a mask of a weight into its outbox, for the server; gives its share. */
  half?(client: Preparing, node: NodeOf<P>, ...inputs: Held[]): Held;
}

/** An operation that each party does alone; the server carries what only one side adds. Holds of shares, masks and openings alike. */
export const alone = <P extends RingOperation>(
  work: (machine: Machine, side: Side, node: NodeOf<P>, ...inputs: Held[]) => Held,
): SecureRow<P> => ({
  client: (party, ...held) => work(party, 'client', ...held),
  server: (party, ...held) => work(party, 'server', ...held),
  share: (before, ...held) => work(before, 'client', ...held),
});

/** Puts f − pad into the dealer's outbox, where f, which `write` adds, is what the parties' factors multiply to. Gives nothing of its own. */
export function correct(
  { kernels, clientPads, outbox }: Dealer,
  node: NumberedNode,
  pad: Pad<'client'>,
  width: number,
  write: (out: Block, scratch: Scratch) => void,
): undefined {
  const scratch = new Scratch(kernels);
  const out = scratch.own(clientPads.words(node.index, pad, size(node.shape)));
  kernels.negate(out, out);
  write(out, scratch);
  outbox.toServer = kernels.pack(out, width);
  scratch.freeAll();
  return undefined;
}
