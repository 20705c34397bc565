import { type Block, fresh, type RingKernels } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import { lookupRows, pointFunctionBytes, type RingNodeOf, wordBitsOf } from '../../ring/index.ts';
import { expandInto, generateKeys } from '../correlations/dpf.ts';
import { type Held, type Numbered, nothing, receive, type Step, send } from '../protocol.ts';
import { byClient, byServer } from '../random.ts';
import type { Client, Kept, SecureRow, Server } from './row.ts';

const own = {
  /** σ, which masks the index. */
  mask: byServer(0),
  /** Seeds of the point functions' keys. */
  clientSeeds: byClient(1),
  serverSeeds: byServer(1),
};

type LookupNode = Numbered<RingNodeOf<'lookup'>>;

/** Rows expanded at a time are bounded by this much memory for their shared one-hot vectors. */
const chunkBytes = 2 ** 20;
/** Vectors expanded ahead of their lookup, while the party waits for its peer, take at most this much memory. */
const aheadBytes = 64 * 2 ** 20;

/** What a party expands lookups with. */
interface LookupSide extends Pick<Client & Server, 'kernels' | 'ring' | 'program' | 'cipher'> {
  readonly party: 0 | 1;
  readonly correlations: Pick<Client['correlations'], 'load' | 'lookup' | 'ready'>;
  readonly seeds: (node: number, length: number) => Uint8Array;
}

interface Rows {
  readonly first: number;
  readonly count: number;
  readonly vectors: Block;
}

/** One lookup's shared one-hot vectors, expanded some rows at a time. */
class Expansion {
  readonly rows: number;
  readonly points: number;
  readonly #side: LookupSide;
  readonly #node: LookupNode;
  readonly #seeds: Uint8Array;
  readonly #keys: Uint8Array;
  readonly #keyBytes: number;
  readonly ready: Rows[] = [];
  next = 0;

  constructor(side: LookupSide, node: LookupNode) {
    const { indexBits } = node.parameters;
    this.#side = side;
    this.#node = node;
    this.rows = lookupRows(node);
    this.points = 2 ** indexBits;
    this.#keyBytes = pointFunctionBytes(indexBits, wordBitsOf(side.ring.bits));
    this.#seeds = side.seeds(node.index, this.rows * 16);
    this.#keys = side.correlations.lookup(node.index);
  }

  /** Expands the next rows, as many as a chunk holds. */
  expandNext(): Rows {
    const { kernels, ring, party, cipher } = this.#side;
    const rowBytes = this.points * (kernels.wordBits / 8);
    const first = this.next;
    const count = Math.min(this.rows - first, Math.max(1, Math.floor(chunkBytes / rowBytes)));
    const vectors = kernels.allocate(count * this.points);
    expandInto(kernels, vectors, {
      party,
      seeds: this.#seeds.subarray(first * 16, (first + count) * 16),
      corrections: this.#keys.subarray(first * this.#keyBytes, (first + count) * this.#keyBytes),
      k: this.#node.parameters.indexBits,
      wordBits: wordBitsOf(ring.bits),
      encryptBlocks: cipher,
    });
    this.next += count;
    return { first, count, vectors };
  }
}

/**
 * The lookups of one party's run. Keys are expanded at the latest when the index arrives, and before that in the time in which the
 * party waits for its peer.
 */
class Lookups implements Kept {
  readonly #side: LookupSide;
  readonly #nodes: LookupNode[];
  readonly #open = new Map<number, Expansion>();
  readonly #done = new Set<number>();
  #aheadBytes = 0;

  constructor(side: LookupSide) {
    this.#side = side;
    this.#nodes = side.program.nodes.flatMap((node, index) => (node.operation === 'lookup' ? [{ ...node, index }] : []));
  }

  /** Makes the keys of a lookup ready. */
  async load(node: number): Promise<void> {
    if (!this.#open.has(node)) await this.#side.correlations.load(node);
  }

  /**
   * Expands one chunk of the next lookup that is not expanded yet; false where there is none, its keys are still on their way or the
   * memory for it is used up.
   */
  async ahead(): Promise<boolean> {
    if (this.#aheadBytes >= aheadBytes) return false;
    for (let node = this.#nodes[0]; node !== undefined; node = this.#nodes[0]) {
      let expansion = this.#open.get(node.index);
      if (this.#done.has(node.index) || (expansion !== undefined && expansion.next === expansion.rows)) {
        this.#nodes.shift();
        continue;
      }
      if (expansion === undefined) {
        if (this.#side.correlations.ready?.(node.index) === false) return false;
        await this.#side.correlations.load(node.index);
        expansion = new Expansion(this.#side, node);
        this.#open.set(node.index, expansion);
      }
      const rows = expansion.expandNext();
      expansion.ready.push(rows);
      this.#aheadBytes += rows.vectors.length * (this.#side.kernels.wordBits / 8);
      return true;
    }
    return false;
  }

  /**
   * One party's half of a lookup: for every row the inner product of its share of the one-hot vector at j = i_c + σ with each public
   * table rotated by δ = i_s − σ. Frees `delta`.
   */
  shares(node: LookupNode, delta: Block): Held {
    const { kernels } = this.#side;
    const { tables } = node.parameters;
    const expansion = this.#open.get(node.index) ?? new Expansion(this.#side, node);
    this.#open.delete(node.index);
    this.#done.add(node.index);
    const { rows, points } = expansion;
    const part = (block: Block, from: number, length: number): Block => ({
      offset: block.offset + (from * kernels.wordBits) / 8,
      length,
    });
    const out = kernels.allocate(size(node.shape));
    const encoded = tables.map((values) => {
      const block = kernels.allocate(points);
      kernels.encode(block, values, 0, kernels.wordBits);
      return block;
    });
    const take = ({ first, count, vectors }: Rows): void => {
      encoded.forEach((table, t) => {
        kernels.rotatedInner(part(out, t * rows + first, count), vectors, table, part(delta, first, count));
      });
      kernels.free(vectors);
    };
    for (const ready of expansion.ready) {
      this.#aheadBytes -= ready.vectors.length * (kernels.wordBits / 8);
      take(ready);
    }
    while (expansion.next < rows) take(expansion.expandNext());
    for (const block of [delta, ...encoded]) kernels.free(block);
    return { block: out };
  }

  /** Frees what was expanded for lookups that did not come. */
  end(): void {
    for (const expansion of this.#open.values()) for (const { vectors } of expansion.ready) this.#side.kernels.free(vectors);
    this.#open.clear();
  }
}

const clientLookups = (party: Client): Lookups => {
  const seeds = (node: number, length: number) => party.correlations.pads.bytes(node, own.clientSeeds, length);
  return new Lookups({ ...party, party: 0, seeds });
};
const serverLookups = (party: Server): Lookups => {
  const seeds = (node: number, length: number) => party.correlations.pads.bytes(node, own.serverSeeds, length);
  return new Lookups({ ...party, party: 1, seeds });
};

/** 1. δ = i_s − σ, from the server. 2. Inner products of v_c with the tables rotated by δ. */
function* clientAlone(kernels: RingKernels, kept: Lookups, node: LookupNode): Step {
  const message = yield* receive();
  const delta = kernels.allocate(lookupRows(node));
  kernels.unpack(delta, message, node.parameters.indexBits);
  return kept.shares(node, delta);
}

/** 1. Send δ = i_s − σ. 2. Inner products of v_s with the tables rotated by δ. */
function* serverAlone({ kernels, correlations, kept }: Server & { kept: Lookups }, node: LookupNode, i: Held): Step {
  const { indexBits } = node.parameters;
  const delta = correlations.pads.words(node.index, own.mask, lookupRows(node));
  kernels.subtract(delta, i.block!, delta);
  kernels.mask(delta, delta, indexBits);
  yield* send(kernels.pack(delta, indexBits));
  return kept.shares(node, delta);
}

/** δ that an exchange has made, for one lookup to use up. */
const copied = (kernels: RingKernels, { block }: Held): Block =>
  fresh(kernels, block!.length, (out) => kernels.copy(out, block!));

export const lookup: SecureRow<'lookup', Lookups> = {
  pads: own,
  keep: { client: clientLookups, server: serverLookups },
  client: ({ kernels, kept }, node, _, delta) =>
    delta === undefined ? clientAlone(kernels, kept, node) : kept.shares(node, copied(kernels, delta)),
  server: (party, node, i, delta) =>
    delta === undefined ? serverAlone(party, node, i!) : party.kept.shares(node, copied(party.kernels, delta)),
  /** Keys of the point function at j = i_c + σ, for every row; σ is the mask of the opening where δ comes from one. */
  dealer({ kernels, ring, clientPads, serverPads, cipher, outbox }, node, i, mask) {
    const { indexBits } = node.parameters;
    const rows = lookupRows(node);
    const sigma = mask === undefined ? serverPads.words(node.index, own.mask, rows) : copied(kernels, mask);
    kernels.add(sigma, sigma, i!.block!);
    kernels.mask(sigma, sigma, indexBits);
    const alpha = Uint32Array.from(kernels.decode(sigma, 0, kernels.wordBits));
    kernels.free(sigma);
    const keys = generateKeys({
      seeds0: clientPads.bytes(node.index, own.clientSeeds, rows * 16),
      seeds1: serverPads.bytes(node.index, own.serverSeeds, rows * 16),
      alpha,
      k: indexBits,
      wordBits: wordBitsOf(ring.bits),
      encryptBlocks: cipher,
    });
    outbox.toServer = keys;
    outbox.toClient = keys;
    return nothing;
  },
};
