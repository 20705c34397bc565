import type { Block } from '../../../kernels/index.ts';
import { size, type Tensor } from '../../../program/index.ts';
import type { RingNodeOf, RingOperation } from '../../ring/index.ts';
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

export type Work<P extends RingOperation, Result> = (node: Numbered<RingNodeOf<P>>, ...inputs: Held[]) => Result;

/** An operation that keeps something for the whole of a run. */
export interface Kept<P extends RingOperation> {
  readonly run: Work<P, Held | Step>;
  /** Makes ready what the node needs; the source's `load` where absent. */
  load?(node: number): Promise<void>;
  /** Does one piece of work that will be needed, while the peer is waited for; false where there is none, or no room for it. */
  ahead?(): Promise<boolean>;
  /** Frees what was kept; called once, also after a failure. */
  end?(): void;
}
export type Part<P extends RingOperation> = Work<P, Held | Step> | Kept<P>;

/**
 * What the two sides and the dealer do for an operation, in one place. What it declares is in ring/operations, under the same file's
 * name; runs are checked against that.
 */
export interface SecureRow<P extends RingOperation> {
  /** Its pads by name. No two that one node draws have one stream of one side. */
  readonly pads?: Readonly<Record<string, Pad | PadFamily>>;
  /** The client's side of the online protocol. */
  client(party: Client): Part<P>;
  server(party: Server): Part<P>;
  /** The client's share of a pinned wire, from its pads alone, before the run; nothing is known where absent. */
  share?(before: Before): Work<P, Held>;
  /** Puts what the dealer makes into its outbox, and gives what stands for the node there: the client's share where absent. */
  dealer?(dealer: Dealer): Work<P, Held>;
  /** The client's half of a correlation with a mask of a weight, for the server, into its outbox; gives its share. */
  half?(client: Preparing): Work<P, Held>;
}

/** An operation that each party does alone; `server` carries what only one side adds. Holds of shares, masks and openings alike. */
export const alone = <P extends RingOperation>(
  work: (machine: Machine, side: 'client' | 'server') => Work<P, Held>,
): SecureRow<P> => ({
  client: (party) => work(party, 'client'),
  server: (party) => work(party, 'server'),
  share: (before) => work(before, 'client'),
});

/** Puts f − pad into the dealer's outbox, where f, which `write` adds, is what the parties' factors multiply to. */
export function correct(
  { kernels, clientPads, outbox }: Dealer,
  node: NumberedNode,
  pad: Pad<'client'>,
  width: number,
  write: (out: Block, scratch: Scratch) => void,
): void {
  const scratch = new Scratch(kernels);
  const out = scratch.own(clientPads.words(node.index, pad, size(node.shape)));
  kernels.negate(out, out);
  write(out, scratch);
  outbox.toServer = kernels.pack(out, width);
  scratch.freeAll();
}
