import { type BoundedTable, type Shape, size } from '../../program/index.ts';
import type { QuantiseOptions } from './budget.ts';
import type { RingBuilder } from './builder.ts';
import { type BoundedFunction, interpolatedTable } from './tables.ts';
import type { RingParameters } from './types.ts';
import type { SharedValue, Site, Value } from './value.ts';

/** A factor of an elementwise product, in the ring of 2^modulus. */
export interface Factor {
  readonly node: number;
  readonly fraction: number;
  readonly modulus: number;
}

/** What products are made with: arithmetic.ts has it. */
interface Scales {
  readonly out: RingBuilder;
  readonly ring: RingParameters;
  readonly options: QuantiseOptions;
  wire(node: number, headBits: number, factorFraction?: number): SharedValue;
  shared(node: Site, x: Value): SharedValue;
  operand(x: SharedValue): SharedValue;
  whole(x: SharedValue): SharedValue;
}

/** Elementwise products of shared values, and bounded functions of row scalars, which are made of them. */
export class Factors {
  readonly #arithmetic: Scales;

  constructor(arithmetic: Scales) {
    this.#arithmetic = arithmetic;
  }

  /** `small`: whether a map by weights that reads the product may have a smaller ring. */
  product(node: Site, x: SharedValue, y: SharedValue, small = false): SharedValue {
    const { options } = this.#arithmetic;
    const factors = small && options.smallerRings === true ? this.#sparing(x, y) : ([x, y] as const);
    return this.#arithmetic.wire(this.multiplied(node.shape, ...this.#pair(...factors)), options.integerBits);
  }

  /**
   * A row and its scalar with so few fraction bits together that what is dropped of their product leaves a ring with room for a map's result: the
   * scalar gives up what the row does not. Small rows have large scalars. As they are where the row has too many.
   */
  #sparing(x: SharedValue, y: SharedValue): readonly [SharedValue, SharedValue] {
    const { ring, options } = this.#arithmetic;
    const [rows, scalar] = size(x.shape) > size(y.shape) ? [x, y] : [y, x];
    const most = ring.bits - ring.fraction - options.integerBits - 2 - Math.min(rows.fraction, rows.factorFraction);
    if (size(rows.shape) === size(scalar.shape) || most < ring.fraction - 3) return [x, y];
    const spared = { ...scalar, factorFraction: Math.min(scalar.factorFraction, most) };
    return scalar === y ? [x, spared] : [spared, y];
  }

  /** Two values that `spread` lays out in one shape: either is opened before, as it is. */
  spreadProduct(shape: Shape, x: SharedValue, y: SharedValue, spread: (node: number) => number): SharedValue {
    const [left, right] = this.#pair(x, y);
    return this.#arithmetic.wire(this.multiplied(shape, left, right, spread, spread), this.#arithmetic.options.integerBits);
  }

  /** x times row scalars, which `spread` lays out as x is: every row's number is opened once. */
  rowProduct(x: SharedValue, rows: SharedValue, spread: (node: number) => number): SharedValue {
    const [left, right] = this.#pair(x, rows);
    return this.#arithmetic.wire(this.multiplied(x.shape, left, right, spread), this.#arithmetic.options.integerBits);
  }

  square(node: Site, x: Value): Value {
    if (x.kind === 'constant') return { ...x, values: x.values.map((value) => value * value) };
    const shared = this.#arithmetic.shared(node, x);
    const { node: factor, fraction, modulus } = this.#narrowed(shared);
    const result = { shape: node.shape, state: 'floating', fraction: 2 * fraction } as const;
    if (modulus < this.#arithmetic.ring.bits) {
      const { e, rest, sign } = this.#arithmetic.out.openNarrow(factor, modulus);
      return this.#arithmetic.wire(
        this.#arithmetic.out.push('narrowSquare', [e, rest, sign], { modulus }, result),
        this.#arithmetic.options.integerBits,
      );
    }
    const operand = this.#arithmetic.operand(shared);
    const made = this.#arithmetic.out.push('square', [operand.node, this.#arithmetic.out.open(operand.node)], {}, result);
    return this.#arithmetic.wire(made, this.#arithmetic.options.integerBits);
  }

  /**
   * A bounded function of a row scalar by table and linear interpolation: the index and the remainder come from two truncations side
   * by side, the table is read at the shared index, and value + slope · rest is truncated once.
   */
  rowFunction(node: Site, x: Value, table: BoundedTable, f: BoundedFunction): Value {
    const argument = this.#arithmetic.whole(this.#arithmetic.shared(node, x));
    const { values, slopes, restBits } = interpolatedTable(f, table, this.#arithmetic.ring, node.scope);
    const F = this.#arithmetic.ring.fraction;
    const precise = F + table.extraBits;
    const drop = argument.fraction - F;
    const index = this.#arithmetic.out.narrow(argument.node, drop + restBits);
    const tables = table.interpolation === 'none' ? [values] : [values, slopes];
    const looked = this.#arithmetic.out.lookup(
      index,
      { indexBits: table.indexBits, tables },
      { shape: [tables.length, ...node.shape], fraction: precise },
    );
    const part = (i: number): number => this.#arithmetic.out.reshape(this.#arithmetic.out.slice(looked, 0, i, i + 1), node.shape);
    if (table.interpolation === 'none') return this.#arithmetic.wire(part(0), this.#arithmetic.options.integerBits, precise);
    const fine = drop > 0 ? this.#arithmetic.out.narrow(argument.node, drop) : this.#arithmetic.out.pin(argument.node);
    const below = this.#arithmetic.out.raise(index, restBits);
    const rest = this.#arithmetic.out.push('subtract', [fine, below], {}, { shape: node.shape, state: 'pinned', fraction: F });
    const slope = { node: this.#arithmetic.out.pin(part(1)), fraction: precise, modulus: this.#arithmetic.ring.bits };
    const step = this.multiplied(node.shape, slope, { node: rest, fraction: F, modulus: this.#arithmetic.ring.bits - drop });
    const result = { shape: node.shape, state: 'floating', fraction: F + precise } as const;
    const sum = this.#arithmetic.out.push('add', [this.#arithmetic.out.raise(part(0), F), step], {}, result);
    return this.#arithmetic.wire(sum, this.#arithmetic.options.integerBits, precise);
  }

  /** A factor of an elementwise product: what has bits to drop drops them into a smaller ring. */
  #narrowed(x: SharedValue): Factor {
    const { out } = this.#arithmetic;
    const modulus = out.modulusOf(x.node);
    const drop = x.fraction - Math.min(x.fraction, x.factorFraction);
    const node = drop > 0 ? out.narrow(x.node, drop) : out.pin(x.node);
    return { node, fraction: x.fraction - drop, modulus: modulus - drop };
  }

  /** Both factors as narrow as they may be. */
  #pair(x: SharedValue, y: SharedValue): [Factor, Factor] {
    return [this.#narrowed(x), this.#narrowed(y)];
  }

  /** The elementwise product of two factors, floating in the whole ring; `lay` and `spread` lay them out, broadcasts unless told. */
  multiplied(shape: Shape, x: Factor, y: Factor, spread?: (node: number) => number, lay?: (node: number) => number): number {
    const { out, ring } = this.#arithmetic;
    const result = { shape, state: 'floating', fraction: x.fraction + y.fraction } as const;
    const broadcast = (node: number): number => out.broadcast(node, shape);
    const laid = [
      { ...x, lay: lay ?? broadcast },
      { ...y, lay: spread ?? broadcast },
    ];
    if (x.modulus + y.modulus === 2 * ring.bits) {
      const wide = laid.map(({ node, lay }) => lay(node));
      return out.push('product', [...wide, ...laid.map(({ node, lay }) => lay(out.open(node)))], {}, result);
    }
    const parts = laid.flatMap(({ node, modulus, lay }) => {
      const { e, rest, sign } = out.openNarrow(node, modulus);
      return [e, rest, sign].map(lay);
    });
    return out.push('narrowProduct', parts, { moduli: [x.modulus, y.modulus] }, result);
  }
}
