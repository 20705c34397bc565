import { RingBuilder } from '../../src/backends/ring/builder.ts';
import type { Piecewise, RingProgram } from '../../src/backends/ring/index.ts';

/** Ring programs written by hand, one lane beside the other along the first axis (exhaustive.ts). No fraction bits. */
export class Tiny {
  readonly ring: RingBuilder;
  readonly lanes: number;
  constructor(bits: number, lanes: number) {
    this.ring = new RingBuilder({ bits, fraction: 0 });
    this.lanes = lanes;
  }
  /** A client's secret with `width` numbers a lane. */
  input(name = 'x', width = 1): number {
    const shape = width === 1 ? [this.lanes] : [this.lanes, width];
    return this.ring.push('clientInput', [], { name, encoding: 'real', fraction: 0 }, { shape, state: 'pinned', fraction: 0 });
  }
  weight(name: string, shape: readonly number[]): number {
    return this.ring.push('serverInput', [], { name, fraction: 0, factor: 1 }, { shape, state: 'server', fraction: 0 });
  }
  /** x + w with a secret of each side: a pinned wire whose server's share depends on the server's tensor. */
  mixed(x = 'x', w = 'w', width = 1): number {
    const input = this.input(x, width);
    const { shape } = this.ring.node(input);
    return this.ring.push('addServer', [input, this.weight(w, shape)], {}, { shape, state: 'pinned', fraction: 0 });
  }
  shape(x: number, shape: readonly number[]): number {
    return this.ring.reshape(x, [this.lanes, ...shape]);
  }
  /** What a number a lane is. */
  result(state: 'pinned' | 'floating') {
    return { shape: [this.lanes], state, fraction: 0 } as const;
  }
  /** The same wire, treated as if the client's share depended on messages. */
  floating(x: number): number {
    const { shape } = this.ring.node(x);
    return this.ring.push('reshape', [x], {}, { shape, state: 'floating', fraction: 0 });
  }
  linear(x: number, w: string, k: number, n: number): number {
    const shape = [this.lanes, n];
    const modulus = this.ring.modulusOf(x);
    const sizes = { m: this.lanes, k, n, ...(modulus < this.ring.ring.bits ? { modulus } : {}) };
    return this.ring.push('linear', [x, this.weight(w, [k, n])], sizes, { shape, state: 'pinned', fraction: 0, modulus });
  }
  /** A one-hot row of `depth` and its map by W (depth, 1), both modulo 2^modulus, then widened to the whole ring. */
  narrowEmbedding(depth: number, modulus: number): number {
    const result = { shape: [this.lanes, 1], state: 'pinned', fraction: 0 } as const;
    const input = { name: 'x', encoding: 'oneHot', fraction: 0, modulus } as const;
    const oneHot = this.ring.push('clientInput', [], input, { ...result, shape: [this.lanes, depth] });
    const sizes = { m: this.lanes, k: depth, n: 1, modulus };
    const rows = this.ring.push('linear', [oneHot, this.weight('W', [depth, 1])], sizes, result);
    const { e, rest } = this.ring.openNarrow(rows, modulus);
    return this.ring.push('widen', [e, rest], {}, { ...result, state: 'floating' });
  }
  diagonal(x: number, w: string): number {
    const { shape } = this.ring.node(x);
    return this.ring.push('diagonal', [x, this.weight(w, shape)], {}, { shape, state: 'pinned', fraction: 0 });
  }
  square(x: number): number {
    const { shape } = this.ring.node(x);
    return this.ring.push('square', [x, this.ring.open(x)], {}, { shape, state: 'floating', fraction: 0 });
  }
  product(x: number, y: number): number {
    const { shape } = this.ring.node(x);
    const openings = [this.ring.open(x), this.ring.open(y)];
    return this.ring.push('product', [x, y, ...openings], {}, { shape, state: 'floating', fraction: 0 });
  }
  /** One product of (m, k) and (k, n) matrices a lane. */
  matrixProduct(x: number, y: number, m: number, k: number, n: number): number {
    const openings = [this.ring.open(x), this.ring.open(y)];
    const result = { shape: [this.lanes, m, n], state: 'floating', fraction: 0 } as const;
    return this.ring.push('matrixProduct', [x, y, ...openings], { batch: this.lanes, m, k, n }, result);
  }
  truncate(x: number, bits: number): number {
    const { state, operation } = this.ring.node(x);
    // The builder looks through a reshape, and would find the pinned value that `floating` hides.
    if (state === 'floating' && operation === 'reshape') return this.truncateAgain(x, bits);
    return this.ring.truncate(x, bits);
  }
  /** A second truncation of the same wire, which the builder would merge. */
  truncateAgain(x: number, bits: number): number {
    const { shape } = this.ring.node(x);
    return this.ring.push('truncate', [x], { bits }, { shape, state: 'pinned', fraction: 0 });
  }
  narrow(x: number, bits: number): number {
    return this.ring.narrow(x, bits);
  }
  narrowSquare(x: number, modulus: number): number {
    const { e, rest, sign } = this.ring.openNarrow(x, modulus);
    const { shape } = this.ring.node(x);
    return this.ring.push('narrowSquare', [e, rest, sign], { modulus }, { shape, state: 'floating', fraction: 0 });
  }
  narrowProduct(x: number, y: number, moduli: readonly [number, number]): number {
    const parts = [x, y].flatMap((factor, i) => {
      const { e, rest, sign } = this.ring.openNarrow(factor, moduli[i]!);
      return [e, rest, sign];
    });
    const { shape } = this.ring.node(x);
    return this.ring.push('narrowProduct', parts, { moduli }, { shape, state: 'floating', fraction: 0 });
  }
  /** The sum of an opened narrow value's two parts, in the whole ring. */
  widen(x: number, modulus: number): number {
    const { e, rest } = this.ring.openNarrow(x, modulus);
    return this.ring.push('widen', [e, rest], {}, { shape: this.ring.node(x).shape, state: 'floating', fraction: 0 });
  }
  lookup(index: number, indexBits: number, tables: readonly (readonly number[])[]): number {
    const shape = [tables.length, ...this.ring.node(index).shape];
    const parameters = { indexBits, tables: tables.map((table) => Float64Array.from(table)) };
    return this.ring.lookup(index, parameters, { shape, fraction: 0 });
  }
  /** From index 0 on, offset + slope · x; and a table of two nodes of degree `coefficients.length − 1`, where given. */
  piecewise(
    x: number,
    bits: number,
    drop: number,
    [offset, slope]: readonly [number, number],
    coefficients: number[][] = [],
  ): number {
    const parameters: Piecewise = {
      bits,
      drop,
      knots: Float64Array.of(0),
      offsets: Float64Array.of(offset),
      slopes: Float64Array.of(slope),
      start: -1,
      coefficients: coefficients.map((values) => Float64Array.from(values)),
    };
    const { shape } = this.ring.node(x);
    return this.ring.push('piecewise', [x], parameters, { shape, state: 'floating', fraction: 0 });
  }
  /**
   * Range flags of a wire of `width` numbers a lane: two sums of them, each looked at through [−2^high, 2^high), the misses added up and looked at
   * once more, or with `counted` told as they are.
   */
  flags(x: number, { width, high, counted = false }: { width: number; high: number; counted?: boolean }): number {
    const { ring, lanes } = this;
    const { bits } = ring.ring;
    const repeats = 2;
    const floating = (shape: readonly number[]) => ({ shape, state: 'floating', fraction: 0 }) as const;
    const pinned = (shape: readonly number[]) => ({ ...floating(shape), state: 'pinned' }) as const;
    const looks = ring.push('project', [x], { group: width, repeats, seed: 11 }, pinned([lanes, repeats]));
    // In a wide ring few indices, as real windows have them.
    const table = { bits, drop: Math.max(0, bits - 8), start: 0, coefficients: [] };
    const window = {
      knots: Float64Array.of(-(2 ** high), 2 ** high),
      offsets: Float64Array.of(-1, 1),
      slopes: new Float64Array(2),
    };
    const outside = ring.push('piecewise', [looks], { ...table, ...window }, floating([lanes, repeats]));
    const one = { values: Float64Array.of(1), constantShape: [] };
    const missed = ring.push('addConstant', [outside], one, floating([lanes, repeats]));
    const misses = ring.push('sum', [missed], { outer: lanes, axis: repeats, inner: 1 }, floating([lanes]));
    if (counted) return ring.push('flag', [misses], { name: 'range.0' }, pinned([lanes]));
    const number = ring.push('pin', [misses], { width: Math.min(bits, 4) }, pinned([lanes]));
    const some = {
      bits: Math.min(bits, 4),
      drop: 0,
      knots: Float64Array.of(1),
      offsets: Float64Array.of(1),
      slopes: new Float64Array(1),
    };
    const found = ring.push('piecewise', [number], { ...table, ...some }, floating([lanes]));
    return ring.push('flag', [found], { name: 'range.0' }, pinned([lanes]));
  }
  /** value + slope · rest of a wire with one bit of rest, truncated once: what a row function does. */
  rowFunction(x: number, indexBits: number, values: readonly number[], slopes: readonly number[]): number {
    const { ring, lanes } = this;
    const index = ring.narrow(x, 1);
    const rest = ring.push('subtract', [x, ring.raise(index, 1)], {}, { shape: [lanes], state: 'pinned', fraction: 0 });
    const looked = this.lookup(index, indexBits, [values, slopes]);
    const part = (i: number): number => ring.reshape(ring.slice(looked, 0, i, i + 1), [lanes]);
    const step = this.product(ring.pin(part(1)), rest);
    const sum = ring.push('add', [ring.raise(part(0), 1), step], {}, { shape: [lanes], state: 'floating', fraction: 0 });
    return ring.truncate(sum, 1);
  }
  reveal(x: number, name = 'y'): number {
    const { shape } = this.ring.node(x);
    return this.ring.push('reveal', [x], { name, fraction: 0 }, { shape, state: 'pinned', fraction: 0 });
  }
}

/** A program for any number of lanes. */
export const tiny =
  (bits: number, build: (program: Tiny) => void) =>
  (lanes: number): RingProgram => {
    const program = new Tiny(bits, lanes);
    build(program);
    return program.ring.program();
  };
