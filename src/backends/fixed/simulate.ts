import { SottoError } from '../../errors/index.ts';
import {
  type Block,
  BlockCounts,
  concat,
  constant,
  fresh,
  move,
  oneHot,
  packRows,
  pad,
  type RingKernels,
  unpackRows,
} from '../../kernels/index.ts';
import { size, type Tensor } from '../../program/index.ts';
import type { RingInterpreter, RingNode, RingNodeOf, RingProgram } from '../ring/index.ts';
import { type FixedValue, largest, largestProduct, RangeGuard } from './checks.ts';
import { piecewise } from './piecewise.ts';

/** Rounding offsets ρ of a truncation: x ↦ ⌊(x + 2^f − 1 − ρ) / 2^f⌋. The client's share modulo 2^f in a private run. */
export type RoundingOffsets = (node: number, count: number, bits: number) => Float64Array | undefined;

export interface SimulationOptions {
  readonly kernels: RingKernels;
  /** The server's tensors, as real numbers. */
  readonly weights: (name: string) => Promise<Tensor>;
  /** The client's tensors: real numbers or indices. Asked for after every output before it was given. */
  readonly inputs: (name: string) => Promise<Tensor>;
  readonly onOutput?: (name: string, value: Tensor) => void;
  /** Nearest rounding where it is not given. */
  readonly offsets?: RoundingOffsets;
}

/**
 * The exact integers of a private run, without the sharing: equal to it bit for bit when given the run's rounding offsets. A value
 * that leaves the ring's range, or a table's, is a `range` error with its scope.
 */
export async function simulate(program: RingProgram, options: SimulationOptions): Promise<Map<string, Tensor>> {
  const { kernels } = options;
  const outputs = new Map<string, Tensor>();
  const table = meanings(program, options, (name, value) => {
    outputs.set(name, value);
    options.onOutput?.(name, value);
  });
  const uses = new Int32Array(program.nodes.length);
  for (const node of program.nodes) for (const input of node.inputs) uses[input]!++;
  const held = new BlockCounts(kernels);
  const values: (FixedValue | undefined)[] = [];
  try {
    for (let index = 0; index < program.nodes.length; index++) {
      const node = program.nodes[index]!;
      const inputs = node.inputs.map((input) => values[input]!);
      const value = isSource(node) ? await source(node, program, options) : apply(table, node, index, inputs);
      held.hold(value.block);
      values.push(value);
      for (const input of [...node.inputs, index]) {
        if (input !== index && --uses[input]! > 0) continue;
        if (input === index && uses[index]! > 0) continue;
        const dead = values[input];
        if (dead === undefined) continue;
        held.release(dead.block);
        values[input] = undefined;
      }
    }
  } finally {
    held.releaseAll();
  }
  return outputs;
}

type Source = RingNodeOf<'clientInput'> | RingNodeOf<'serverInput'>;
const isSource = (node: RingNode): node is Source => node.operation === 'clientInput' || node.operation === 'serverInput';

function apply(table: Meanings, node: RingNode, index: number, inputs: FixedValue[]): FixedValue {
  const rule = table[node.operation as keyof Meanings] as (
    node: RingNode & { index: number },
    ...inputs: FixedValue[]
  ) => FixedValue;
  return rule({ ...node, index }, ...inputs);
}

async function source(node: Source, program: RingProgram, { kernels, weights, inputs }: SimulationOptions): Promise<FixedValue> {
  const tensor = await (node.operation === 'serverInput' ? weights : inputs)(node.parameters.name);
  const guard = new RangeGuard(kernels, program.ring);
  if (node.operation === 'clientInput' && node.parameters.encoding === 'oneHot') {
    return { block: oneHot(kernels, tensor.values, node.shape.at(-1)!, node.parameters.name), most: 1 };
  }
  const factor = node.operation === 'serverInput' ? node.parameters.factor : 1;
  const values = Float64Array.from(tensor.values, (value) => value * factor);
  if (values.length !== size(node.shape))
    throw new SottoError('input', `${values.length} values for shape [${node.shape}]`, {
      place: { tensor: node.parameters.name },
      remedy: 'check that the checkpoint fits its config.json',
    });
  const block = kernels.allocate(values.length);
  try {
    kernels.encode(block, values, node.fraction, program.ring.bits);
  } catch (error) {
    kernels.free(block);
    throw error instanceof SottoError
      ? new SottoError(error.kind, error.reason, {
          place: { ...error.place, tensor: node.parameters.name, scope: node.scope },
          remedy: error.remedy,
          cause: error,
        })
      : error;
  }
  return guard.measured(block);
}

type Numbered<P> = P & { readonly index: number };
type Meanings = {
  [P in Exclude<keyof RingInterpreter<FixedValue>, Source['operation']>]: (
    node: Numbered<RingNodeOf<P>>,
    ...inputs: FixedValue[]
  ) => FixedValue;
};

/** What every ring operation does to plain integers. */
function meanings(program: RingProgram, options: SimulationOptions, output: (name: string, value: Tensor) => void): Meanings {
  const { kernels } = options;
  const { bits } = program.ring;
  const guard = new RangeGuard(kernels, program.ring);
  const made = (length: number, write: (out: Block) => void): FixedValue => guard.measured(fresh(kernels, length, write));
  const sum = (node: RingNode, x: FixedValue, y: FixedValue, sign: 1 | -1): FixedValue => {
    guard.within(node, x.most + y.most, () => largest(guard.integers(x.block), guard.integers(y.block), (a, b) => a + sign * b));
    return made(x.block.length, (out) =>
      sign === 1 ? kernels.add(out, x.block, y.block) : kernels.subtract(out, x.block, y.block),
    );
  };
  const times = (node: RingNode, x: FixedValue, y: FixedValue): FixedValue => {
    guard.within(node, x.most * y.most, () => largest(guard.integers(x.block), guard.integers(y.block), (a, b) => a * b));
    return made(x.block.length, (out) => kernels.multiply(out, x.block, y.block));
  };
  const contract = (
    node: RingNode,
    x: FixedValue,
    y: FixedValue,
    extents: { batch: number; m: number; k: number; n: number },
  ): FixedValue => {
    guard.within(node, extents.k * x.most * y.most, () =>
      largestProduct(guard.integers(x.block), guard.integers(y.block), extents),
    );
    return made(extents.batch * extents.m * extents.n, (out) => kernels.matmul(out, x.block, y.block, extents));
  };
  const truncated = (node: Numbered<RingNodeOf<'truncate' | 'narrow'>>, x: FixedValue): FixedValue => {
    const f = node.parameters.bits;
    guard.truncatable(node, x, f);
    const offsets = options.offsets?.(node.index, x.block.length, f);
    return made(x.block.length, (out) => {
      if (offsets === undefined) kernels.addScalar(out, x.block, BigInt(2) ** BigInt(f - 1) - 1n);
      else {
        kernels.encode(
          out,
          offsets.map((rho) => 2 ** f - 1 - rho),
          0,
          kernels.wordBits,
        );
        kernels.add(out, out, x.block);
      }
      kernels.shiftRightSigned(out, out, f, bits);
    });
  };
  const withConstant = (
    node: RingNode & { parameters: { values: Float64Array; constantShape: readonly number[] } },
    f: (c: FixedValue) => FixedValue,
  ): FixedValue => {
    const block = constant(kernels, node.parameters.values, node.parameters.constantShape, node.shape);
    const result = f(guard.measured(block));
    kernels.free(block);
    return result;
  };
  return {
    fromServer: (_, x) => x!,
    reshape: (_, x) => x!,
    move: (node, x) => ({
      block: move(kernels, x!.block, node.shape, node.parameters.strides, node.parameters.start),
      most: x!.most,
    }),
    concat: (node, ...parts) => {
      const shaped = parts.map((part, i) => ({ block: part.block, shape: program.nodes[node.inputs[i]!]!.shape }));
      return {
        block: concat(kernels, shaped, node.parameters.axis, node.shape),
        most: Math.max(...parts.map((part) => part.most)),
      };
    },
    pad: (node, x) => {
      const from = program.nodes[node.inputs[0]!]!.shape;
      return { block: pad(kernels, x!.block, from, node.shape, node.parameters.axis, node.parameters.before), most: x!.most };
    },
    packRows: (node, x) => ({
      block: packRows(kernels, x!.block, node.parameters.lengths, node.parameters.width),
      most: x!.most,
    }),
    unpackRows: (node, x) => ({
      block: unpackRows(kernels, x!.block, node.parameters.lengths, node.parameters.width),
      most: x!.most,
    }),
    add: (node, x, y) => sum(node, x!, y!, 1),
    subtract: (node, x, y) => sum(node, x!, y!, -1),
    addServer: (node, x, y) => sum(node, x!, y!, 1),
    addConstant: (node, x) => withConstant(node, (c) => sum(node, x!, c, 1)),
    multiplyConstant: (node, x) => withConstant(node, (c) => times(node, x!, c)),
    multiplyInteger: (node, x) => {
      const { by, wraps } = node.parameters;
      if (wraps === true) return made(x!.block.length, (out) => kernels.multiplyScalar(out, x!.block, BigInt(by)));
      // A slice keeps the bound of the whole that it was cut from: where that is too much, its own values count.
      guard.within(node, x!.most * Math.abs(by), () => guard.measured(x!.block).most * Math.abs(by));
      return made(x!.block.length, (out) => kernels.multiplyScalar(out, x!.block, BigInt(by)));
    },
    sum: (node, x) => {
      const { outer, axis, inner } = node.parameters;
      guard.within(node, x!.most * axis, () =>
        largestProduct(new Float64Array(outer * axis).fill(1), guard.integers(x!.block), {
          batch: outer,
          m: 1,
          k: axis,
          n: inner,
        }),
      );
      return made(outer * inner, (out) => kernels.sum(out, x!.block, outer, axis, inner));
    },
    linear: (node, x, w) => contract(node, x!, w!, { batch: 1, ...node.parameters }),
    diagonal: (node, x, w) => times(node, x!, w!),
    open: (_, x) => x!,
    square: (node, x) => times(node, x!, x!),
    product: (node, x, y) => times(node, x!, y!),
    matrixProduct: (node, x, y) => contract(node, x!, y!, node.parameters),
    truncate: (node, x) => truncated(node, x!),
    narrow: (node, x) => truncated(node, x!),
    openNarrow: (node, x) => {
      const { modulus, range } = node.parameters;
      if (x!.most >= 2 ** (modulus - 2)) guard.fail(node, x!.most, 'a value of');
      if (range !== undefined) for (const value of guard.integers(x!.block)) guard.between(node, value, range);
      return x!;
    },
    widen: (_, __, x) => x!,
    openedSign: (_, x) => x!,
    unmask: (_, x) => x!,
    narrowSquare: (node, _, x) => times(node, x!, x!),
    narrowProduct: (node, _, x, __, ___, y) => times(node, x!, y!),
    pin: (_, x) => x!,
    piecewise: (node, x) => {
      const offsets = options.offsets?.(node.index, x!.block.length, node.parameters.drop);
      return piecewise(kernels, guard, node, x!, offsets);
    },
    lookup: (node, x) => lookup(kernels, guard, node, x!),
    reveal: (node, x) => {
      const { name, fraction } = node.parameters;
      output(name, { shape: node.shape, values: kernels.decode(x!.block, fraction, bits) });
      return x!;
    },
  };
}

function lookup(kernels: RingKernels, guard: RangeGuard, node: RingNodeOf<'lookup'>, x: FixedValue): FixedValue {
  const { indexBits, tables } = node.parameters;
  const indices = guard.integers(x.block);
  const results = new Float64Array(tables.length * indices.length);
  indices.forEach((index, row) => {
    // The rounding of an index may reach one past either end, where rotation reads the other end's entry.
    if (index < 0 || index >= 2 ** indexBits) guard.beyondTable(node, index);
    tables.forEach((values, t) => {
      results[t * indices.length + row] = values[index]!;
    });
  });
  const block = kernels.allocate(results.length);
  kernels.encode(block, results, 0, kernels.wordBits);
  return guard.measured(block);
}
