import type { Block, RingKernels } from '../../kernels/index.ts';
import type { RingNodeOf, RingOperation, RingParameters, RingProgram } from '../ring/index.ts';

/** What a party holds of a value: its share, an opening, or nothing (the client of a server's plaintext, the server of an opening). */
export interface Held {
  readonly block: Block | undefined;
}
export const nothing: Held = { block: undefined };

/**
 * A protocol step yields what it sends, asks for what its peer sends for this node, or lets more of its material be loaded: no socket, no
 * await.
 */
export type Exchange = { readonly send: Uint8Array } | { readonly receive: true } | { readonly load: () => Promise<void> };
export type Step = Generator<Exchange, Held, Uint8Array>;

export type Numbered<P> = P & { readonly index: number };
export type NumberedNode = { [P in RingOperation]: Numbered<RingNodeOf<P>> }[RingOperation];
/** A total table of what one party does for every ring operation. */
export type Protocol = { [P in RingOperation]: (node: Numbered<RingNodeOf<P>>, ...inputs: Held[]) => Held | Step };

/** What every party's table is made with. */
export interface Machine {
  readonly kernels: RingKernels;
  readonly ring: RingParameters;
  readonly program: RingProgram;
}

/** Sends one message and ends the turn of this node only. */
export function* send(bytes: Uint8Array): Generator<Exchange, void, Uint8Array> {
  yield { send: bytes };
}

/** The bytes that the peer sent for this node; the runner has checked their number. */
export function* receive(): Generator<Exchange, Uint8Array, Uint8Array> {
  return yield { receive: true };
}

/** Temporary blocks of one computation: all but the result are cleared and freed together. */
export class Scratch {
  readonly #kernels: RingKernels;
  readonly #blocks: Block[] = [];

  constructor(kernels: RingKernels) {
    this.#kernels = kernels;
  }
  new(length: number): Block {
    return this.own(this.#kernels.allocate(length));
  }
  own(block: Block): Block {
    this.#blocks.push(block);
    return block;
  }
  freeAll(): void {
    for (const block of this.#blocks.splice(0)) this.#kernels.free(block);
  }
  /** Frees everything but `result`. */
  end(result: Block): Held {
    for (const block of this.#blocks) if (block !== result) this.#kernels.free(block);
    return { block: result };
  }
}
