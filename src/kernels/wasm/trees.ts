import { SottoError } from '../../errors/index.ts';
import type { Block } from '../contract.ts';
import type { ComparisonWalk, PointWalk, TreeKernels, Walk, WindowWalk } from '../trees.ts';
import type { TreeExports } from './module.ts';

/** What the walks use of the kernels that they belong to. */
interface Host {
  readonly wordBytes: number;
  readonly run: TreeExports;
  allocate(length: number): Block;
  free(block: Block): void;
  /** Any bytes of the memory; invalid after the next `allocate`. */
  view(offset: number, bytes: number): Uint8Array<ArrayBuffer>;
  inside(...blocks: readonly Block[]): void;
}

const blockBytes = 16;
/** Nodes at the widest level of one walk: their states and those of the level above stay in the second-level cache. */
const nodesAtOnce = 2 ** 14;
/** Blocks given to the cipher at once. */
const cipherBlocks = 2 ** 12;
/** Points walked to at once. */
const pointsAtOnce = 2 ** 11;
/** Corrections are read 16 bytes at a time, so up to this much behind the last one. */
const slackBytes = 32;

type Seven = [number, number, number, number, number, number, number];

/** The fast walks, in the memory of ring kernels. Scratch is cleared when it is freed. */
export class WasmTrees implements TreeKernels {
  readonly #host: Host;

  constructor(host: Host) {
    this.#host = host;
  }

  expandPoints(out: Block, walk: PointWalk): void {
    const { run } = this.#host;
    const { levels, party, keyBytes } = walk;
    const blocks = 2 ** levels;
    const keys = this.#keys(walk);
    this.#fits(out, (keys * blocks * blockBytes) / this.#host.wordBytes);
    const some = Math.min(keys, Math.max(1, Math.floor(nodesAtOnce / blocks)));
    const most = some * blocks;
    const pieces = Math.min(cipherBlocks, most) * blockBytes;
    this.#scratch(
      [most * blockBytes, (most * blockBytes) / 2, most, most / 2, pieces, pieces, some * keyBytes + slackBytes],
      (...scratch) => {
        const [wide, narrow, wideControls, narrowControls, left, right, corrections] = scratch as Seven;
        for (let first = 0; first < keys; first += some) {
          const count = Math.min(some, keys - first);
          this.#copy(corrections, walk.corrections, first * keyBytes, count * keyBytes);
          // The last level is in the wide buffers, the one above it in the narrow ones, and so on.
          let [from, to] = levels % 2 === 0 ? [wide, narrow] : [narrow, wide];
          let [controls, toControls] = levels % 2 === 0 ? [wideControls, narrowControls] : [narrowControls, wideControls];
          this.#copy(from, walk.seeds, first * blockBytes, count * blockBytes);
          const seeds = this.#host.view(from, count * blockBytes);
          for (let at = 0; at < seeds.length; at += blockBytes) seeds[at]! &= ~1;
          this.#host.view(controls, count).fill(party);
          for (let level = 0; level < levels; level++) {
            this.#pieces(count * 2 ** level, (node, nodes) => {
              const states = from + node * blockBytes;
              this.#encrypt(walk, 0, left, states, nodes);
              this.#encrypt(walk, 1, right, states, nodes);
              run.pointLevel(to, toControls, from, controls, left, right, corrections, keyBytes, walk.bitsAt, level, node, nodes);
            });
            [from, to] = [to, from];
            [controls, toControls] = [toControls, controls];
          }
          const start = out.offset + first * blocks * blockBytes;
          this.#pieces(count * blocks, (node, nodes) => {
            this.#encrypt(walk, 0, left, from + node * blockBytes, nodes);
            run.pointLeaves(start, from, controls, left, corrections, keyBytes, walk.leafAt, levels, node, nodes, party);
          });
        }
      },
    );
  }

  compare(out: Block, walk: ComparisonWalk): void {
    const { run, wordBytes } = this.#host;
    const { k, levelBytes, valueWords, pointsPerKey, party, keyBytes } = walk;
    const keys = this.#keys(walk);
    this.#fits(out, keys * pointsPerKey * valueWords);
    this.#fits(walk.points, keys * pointsPerKey);
    const some = Math.min(keys, Math.max(1, Math.floor(pointsAtOnce / pointsPerKey)));
    const most = some * pointsPerKey;
    const state = most * blockBytes;
    this.#scratch([state, state, most, 2 * state, 2 * state, some * keyBytes + slackBytes], (...scratch) => {
      const [states, sums, controls, input, enc, corrections] = scratch as [number, number, number, number, number, number];
      for (let first = 0; first < keys; first += some) {
        const count = Math.min(some, keys - first);
        const points = count * pointsPerKey;
        const place = walk.points.offset + first * pointsPerKey * wordBytes;
        this.#copy(corrections, walk.corrections, first * keyBytes, count * keyBytes);
        this.#copy(input, walk.seeds, first * blockBytes, count * blockBytes);
        run.roots(states, input, pointsPerKey, count);
        this.#host.view(sums, points * blockBytes).fill(0);
        this.#host.view(controls, points).fill(party);
        for (let level = 0; level < k; level++) {
          const bit = k - 1 - level;
          const cw = corrections + level * levelBytes;
          run.towards(input, states, place, bit, 2, points);
          this.#encrypt(walk, 0, enc, input, 2 * points);
          run.stepTowards(states, controls, sums, input, enc, place, bit, 2, cw, keyBytes, pointsPerKey, points);
        }
        run.tweaked(input, states, 1, 1, points);
        this.#encrypt(walk, 0, enc, input, points);
        const to = out.offset + first * pointsPerKey * valueWords * wordBytes;
        const cw = corrections + k * levelBytes;
        run.endTowards(to, valueWords, controls, sums, input, enc, cw, keyBytes, pointsPerKey, points, party);
      }
    });
  }

  expandWindows(outs: readonly Block[], walk: WindowWalk): void {
    const { run, wordBytes } = this.#host;
    const { k, levelBytes, windowBits, keyBytes, party } = walk;
    const keys = this.#keys(walk);
    const leaves = 2 ** (windowBits + 1);
    for (const out of outs) this.#fits(out, keys * leaves);
    this.#fits(walk.windows, keys);
    const some = Math.min(keys, Math.max(1, Math.floor(cipherBlocks / leaves)));
    const most = some * leaves;
    const state = most * blockBytes;
    const leafBlocks = outs.length * wordBytes > blockBytes ? 2 : 1;
    this.#scratch([state, 2 * state, 2 * state, most, most, 2 * some * wordBytes, some * keyBytes + slackBytes], (...scratch) => {
      const [states, input, enc, evenControls, oddControls, points, corrections] = scratch as Seven;
      for (let first = 0; first < keys; first += some) {
        const count = Math.min(some, keys - first);
        this.#copy(corrections, walk.corrections, first * keyBytes, count * keyBytes);
        this.#copy(input, walk.seeds, first * blockBytes, count * blockBytes);
        let [controls, toControls] = [evenControls, oddControls];
        run.roots(states, input, 2, count);
        run.neighbours(points, walk.windows.offset + first * wordBytes, count);
        this.#host.view(controls, 2 * count).fill(party);
        for (let level = 0; level < k - windowBits; level++) {
          const bit = k - windowBits - 1 - level;
          run.towards(input, states, points, bit, 1, 2 * count);
          this.#encrypt(walk, 0, enc, input, 2 * count);
          const cw = corrections + level * levelBytes;
          run.stepTowards(states, controls, states, input, enc, points, bit, 1, cw, keyBytes, 2, 2 * count);
        }
        for (let depth = 0; depth < windowBits; depth++) {
          const perKey = 2 ** (depth + 1);
          const nodes = perKey * count;
          const cw = corrections + (k - windowBits + depth) * levelBytes;
          run.tweaked(input, states, 0, 2, nodes);
          this.#encrypt(walk, 0, enc, input, 2 * nodes);
          run.bothChildren(input, enc, toControls, controls, cw, keyBytes, perKey, nodes);
          run.tweaked(states, input, 0, 1, 2 * nodes);
          [controls, toControls] = [toControls, controls];
        }
        const nodes = leaves * count;
        run.tweaked(input, states, 2, leafBlocks, nodes);
        this.#encrypt(walk, 0, enc, input, leafBlocks * nodes);
        outs.forEach((out, word) => {
          const to = out.offset + first * leaves * wordBytes;
          const at = word * wordBytes;
          const cw = corrections + walk.leafAt + at;
          run.windowLeaves(to, input + at, enc + at, leafBlocks * blockBytes, controls, cw, keyBytes, leaves, nodes, party);
        });
      }
    });
  }

  #keys({ seeds, corrections, keyBytes }: Walk): number {
    const keys = seeds.length / blockBytes;
    if (!Number.isInteger(keys) || corrections.length !== keys * keyBytes) misfit(`${corrections.length} bytes for ${keys} keys`);
    return keys;
  }

  #fits(block: Block, words: number): void {
    this.#host.inside(block);
    if (block.length !== words) misfit(`a block of ${block.length} words where ${words} are due`);
  }

  /** Blocks of so many bytes, by their addresses, for the time of `use`. */
  #scratch(bytes: readonly number[], use: (...addresses: number[]) => void): void {
    const blocks: Block[] = [];
    try {
      for (const each of bytes) blocks.push(this.#host.allocate(Math.ceil(each / this.#host.wordBytes)));
      use(...blocks.map(({ offset }) => offset));
    } finally {
      for (const block of blocks) this.#host.free(block);
    }
  }

  #copy(to: number, bytes: Uint8Array, first: number, length: number): void {
    this.#host.view(to, length).set(bytes.subarray(first, first + length));
  }

  #pieces(nodes: number, take: (first: number, count: number) => void): void {
    for (let first = 0; first < nodes; first += cipherBlocks) take(first, Math.min(cipherBlocks, nodes - first));
  }

  /** What the cipher makes of `blocks` blocks at `from`. */
  #encrypt({ encrypt }: Walk, keyIndex: 0 | 1, to: number, from: number, blocks: number): void {
    for (let at = 0; at < blocks; at += cipherBlocks) {
      const bytes = Math.min(cipherBlocks, blocks - at) * blockBytes;
      if (encrypt.into !== undefined) {
        encrypt.into(keyIndex, this.#host.view(from + at * blockBytes, bytes), this.#host.view(to + at * blockBytes, bytes));
        continue;
      }
      const answer = encrypt(keyIndex, this.#host.view(from + at * blockBytes, bytes));
      if (answer.length !== bytes) {
        throw new SottoError('usage', 'the cipher answered with another number of blocks', {
          remedy: 'encrypt each block by itself, without padding',
        });
      }
      this.#host.view(to + at * blockBytes, bytes).set(answer);
    }
  }
}

function misfit(what: string): never {
  throw new SottoError('usage', `trees of keys: ${what}`, { remedy: 'give every key its seed, its corrections and its points' });
}
