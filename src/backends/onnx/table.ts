import type { Composite, Interpreter, NodeOf, Operation, Shape } from '../../program/index.ts';
import { same, size } from '../../program/index.ts';
import type { GraphBuilder, Packed, Value } from './builder.ts';

type Rule = (node: NodeOf<Operation>, x?: Value, y?: Value) => Value;

/** The composites for which ONNX Runtime has a kernel of its own; all others arrive lowered. */
type Whole =
  | 'relu'
  | 'sigmoid'
  | 'silu'
  | 'gelu'
  | 'softmax'
  | 'logSoftmax'
  | 'reciprocal'
  | 'layerNorm'
  | 'rotary'
  | 'embedding'
  | 'crossEntropy'
  | 'nf4';

/**
 * What every primitive means as ONNX operators (set 20). Values are float32 and int32; products with a transposed right matrix become
 * Gemm or are left as Transpose and MatMul, which ONNX Runtime fuses itself.
 */
// biome-ignore lint/complexity/noExcessiveLinesPerFunction: a table, a row an operation
export function onnxTable(
  graph: GraphBuilder,
  inputs: ReadonlyMap<string, Value>,
): Interpreter<Value> & Pick<Interpreter<Value>, Whole> {
  const unary =
    (operator: string): Rule =>
    (node, x) =>
      pointwise(graph, node, x!, (part, result) => graph.node(operator, [graph.float(part)], result));
  const binary =
    (operator: string): Rule =>
    (node, x, y) =>
      graph.node(operator, graph.operands(x!, y!, node.shape), node);
  const withNumber = (operator: string, node: NodeOf<Operation>, x: Value, by: number): Value =>
    pointwise(graph, node, x, (part, result) => graph.node(operator, [graph.float(part), graph.number(by)], result));
  const like = (node: NodeOf<Operation>, shape: Shape) => ({ shape, element: node.element, scope: node.scope });
  const gather = (node: NodeOf<Operation>, table?: Value, indices?: Value): Value =>
    graph.node('Gather', [graph.float(table!), graph.index(indices!)], node, { axis: { int: 0 } });

  return {
    input: (node) => inputs.get(node.parameters.name)!,
    constant: (node) => {
      const { shape, values, element } = node.parameters;
      const name = graph.tensor(({ float: 'float32', index: 'int32', byte: 'uint8' } as const)[element], shape, values);
      return { ...like(node, shape), name, lazy: undefined };
    },

    reshape: (node, x) => ({ ...graph.reshape(x!, node.shape), scope: node.scope }),
    transpose: (node, x) => transpose(graph, node, x!, node.parameters.permutation),
    slice: (node, x) => {
      const { axis, start, end } = node.parameters;
      const ranges = [[start], [end], [axis]].map((list) => graph.integers(list));
      return graph.node('Slice', [graph.name(x!), ...ranges], node);
    },
    pad: (node, x) => {
      const { axis, before, after } = node.parameters;
      // Every axis is named: ONNX Runtime's transpose optimiser forgets the optional list of axes and fails.
      const widths = [before, after].flatMap((width) => node.shape.map((_, i) => (i === axis ? width : 0)));
      return graph.node('Pad', [graph.float(x!), graph.integers(widths), graph.number(0)], node);
    },
    concat: (node, ...parts) => {
      const names = parts.map((part) =>
        part.element === node.element ? graph.name(part) : graph.cast(graph.name(part), node.element, part),
      );
      return graph.node('Concat', names, node, { axis: { int: node.parameters.axis } });
    },
    broadcast: (node, x) => graph.lazy({ kind: 'broadcast', of: x! }, node),

    add: (node, x, y) => {
      // Sums of gradients: rows are added onto the other term instead of onto zeros.
      const [scatter, onto] = x!.lazy?.kind === 'scatterAdd' ? [x!, y!] : [y!, x!];
      if (scatter.lazy?.kind === 'scatterAdd' && scatter.name === undefined && same(onto.shape, node.shape))
        return graph.scatterAdd(graph.float(onto), scatter.lazy, { ...node, name: undefined, lazy: undefined });
      return binary('Add')(node, x, y);
    },
    subtract: (node, x, y) => {
      // The gradient of cross-entropy: one element a row changes, and the hits are never written out.
      if (y!.lazy?.kind !== 'oneHot' || y!.name !== undefined || !same(x!.shape, y!.shape)) return binary('Sub')(node, x, y);
      const { indices } = y!.lazy;
      const column = { ...indices, shape: [...indices.shape, 1] };
      const places = graph.name(graph.reshape(indices, column.shape));
      const minusOne = graph.node('Expand', [graph.number(-1), graph.integers(column.shape)], { ...column, element: 'float' });
      const attributes = { axis: { int: -1 }, reduction: { string: 'add' } };
      return graph.node('ScatterElements', [graph.float(x!), places, minusOne.name!], node, attributes);
    },
    multiply: binary('Mul'),
    divide: binary('Div'),
    maximum: binary('Max'),
    scale: (node, x) => (node.parameters.by === -1 ? unary('Neg')(node, x) : withNumber('Mul', node, x!, node.parameters.by)),
    offset: (node, x) => withNumber('Add', node, x!, node.parameters.by),
    square: (node, x) => {
      const name = graph.float(x!);
      return graph.node('Mul', [name, name], node);
    },
    exp: unary('Exp'),
    log: unary('Log'),
    sqrt: unary('Sqrt'),
    tanh: unary('Tanh'),
    erf: unary('Erf'),
    step: (node, x) => {
      const positive = graph.node('Greater', [graph.float(x!), graph.number(0)], node);
      return graph.node('Cast', [positive.name!], node, { to: { int: 1 } });
    },
    round: unary('Round'),
    stopGradient: (_, x) => x!,

    matmul: (node, x, y) => matmul(graph, node, x!, y!),
    sum: (node, x) => graph.node('ReduceSum', [graph.float(x!), graph.integers(node.parameters.axes)], node),
    max: (node, x) => graph.node('ReduceMax', [graph.float(x!), graph.integers([node.parameters.axis])], node),

    gather,
    scatterAdd: (node, indices, rows) => graph.lazy({ kind: 'scatterAdd', indices: indices!, rows: rows! }, node),
    oneHot: (node, indices) => graph.lazy({ kind: 'oneHot', indices: indices! }, node),
    argmax: (node, x) => {
      const index = graph.node('ArgMax', [graph.float(x!)], node, { axis: { int: -1 }, keepdims: { int: 0 } });
      return graph.node('Cast', [index.name!], node, { to: { int: 6 } });
    },

    ...whole(graph),
    embedding: gather,
    nf4: (node, codes, scales) => graph.lazy({ kind: 'nf4', codes: codes!, scales: scales!, block: node.parameters.block }, node),
  };
}

type Result = Pick<NodeOf<Operation>, 'shape' | 'element' | 'scope'>;

/** An operation on single elements; on a repeated value it works before the repetition. */
function pointwise(graph: GraphBuilder, node: Result, x: Value, apply: (part: Value, result: Result) => Value): Value {
  if (x.lazy?.kind !== 'broadcast' || x.name !== undefined) return apply(x, node);
  const { of } = x.lazy;
  return graph.lazy({ kind: 'broadcast', of: pointwise(graph, { ...node, shape: of.shape }, of, apply) }, node);
}

/**
 * ONNX Runtime multiplies a transposed left operand more slowly than it transposes it first, above all a tall one; and a transpose that
 * it sees beside a product it fuses back. So xᵀ·y is written with the narrower operand transposed out of its sight (`turned`): xᵀ·y or
 * (yᵀ·x)ᵀ. Gradients of weights are all of this form, and several share the transposed operand.
 */
function matmul(graph: GraphBuilder, node: NodeOf<'matmul'>, x: Value, y: Value): Value {
  const [a, transA] = untransposed(x);
  const [b, transB] = untransposed(y);
  if (b.lazy?.kind === 'nf4' && b.name === undefined) return packedProduct(graph, node, x, { matrix: b, packed: b.lazy, transB });
  if (transA && !transB) {
    const [rows, columns] = [a.shape[1]!, b.shape[1]!];
    if (rows < columns) return graph.node('MatMul', [graph.name(graph.turned(a)), graph.float(b)], node);
    const product = graph.node('MatMul', [graph.name(graph.turned(b)), graph.float(a)], { ...node, shape: [columns, rows] });
    return graph.lazy({ kind: 'transpose', of: product, permutation: [1, 0] }, node);
  }
  if (node.shape.length === 2 && (transA || transB)) {
    const attributes = { transA: { int: Number(transA) }, transB: { int: Number(transB) } };
    return graph.node('Gemm', [graph.float(a), graph.float(b)], node, attributes);
  }
  return graph.node('MatMul', [graph.float(x), graph.float(y)], node);
}

const packedBlocks: ReadonlySet<number> = new Set([16, 32, 64, 128, 256]);

/**
 * x·Wᵀ has a kernel that unpacks one matrix at a time; its option for x·W (gradients) is wrong on the CPU, so there the matrix is
 * written out when x is there, and dropped after its product.
 */
function packedProduct(
  graph: GraphBuilder,
  node: NodeOf<'matmul'>,
  x: Value,
  { matrix, packed, transB }: { matrix: Value; packed: Packed; transB: boolean },
): Value {
  const [N, K] = matrix.shape as [number, number];
  const [inputs, outputs] = transB ? [K, N] : [N, K];
  const rows = size(x.shape) / inputs;
  const like = { element: 'float', scope: node.scope } as const;
  const flat = graph.reshape({ ...x, name: graph.float(x), ...like }, [rows, inputs]);
  const result = { ...like, shape: [rows, outputs] };
  if (transB && packedBlocks.has(packed.block)) {
    const attributes = { K: { int: K }, N: { int: N }, block_size: { int: packed.block }, quant_type: { int: 1 } };
    const names = [flat.name!, graph.name(packed.codes), graph.float(packed.scales)];
    return graph.reshape(graph.node('MatMulBnb4', names, result, attributes, 'com.microsoft'), node.shape);
  }
  const unpacked = graph.unpacked(matrix, packed, graph.after(packed.codes, x));
  const attributes = { transB: { int: Number(transB) } };
  return graph.reshape(graph.node('Gemm', [flat.name!, unpacked.name!], result, attributes), node.shape);
}

/** A transposed matrix as the matrix itself and `true`. */
function untransposed(x: Value): [Value, boolean] {
  return x.lazy?.kind === 'transpose' && x.shape.length === 2 && x.name === undefined ? [x.lazy.of, true] : [x, false];
}

function transpose(graph: GraphBuilder, node: Result, x: Value, permutation: readonly number[]): Value {
  if (x.lazy?.kind === 'transpose' && x.name === undefined) {
    const { of, permutation: inner } = x.lazy;
    return transpose(
      graph,
      node,
      of,
      permutation.map((axis) => inner[axis]!),
    );
  }
  if (permutation.every((axis, i) => axis === i)) return x;
  return graph.lazy({ kind: 'transpose', of: x, permutation }, node);
}

/** One kernel where the angles are constants whose halves are equal, as rotary positions' are; else in parts. */
function rotary(graph: GraphBuilder, node: NodeOf<'rotary'>, x: Value, cos: Value, sin: Value): Value {
  const [tokens, width] = node.shape.slice(-2) as [number, number];
  const [cosines, sines] = [cos, sin].map((angles) => graph.firstHalf(angles));
  if (cosines !== undefined && sines !== undefined) {
    const like = { element: 'float', scope: node.scope } as const;
    const heads = graph.reshape({ ...x, name: graph.float(x), ...like }, [1, size(node.shape) / (tokens * width), tokens, width]);
    const inputs = [heads.name!, graph.integers([0]), cosines, sines];
    const turned = graph.node('RotaryEmbedding', inputs, { ...like, shape: heads.shape }, {}, 'com.microsoft');
    return graph.reshape(turned, node.shape);
  }
  const half = [...node.shape.slice(0, -1), width / 2];
  const name = graph.float(x);
  const part = (start: number): string => {
    const ranges = [[start], [start + width / 2], [node.shape.length - 1]].map((list) => graph.integers(list));
    return graph.node('Slice', [name, ...ranges], { ...node, shape: half }).name!;
  };
  const second = graph.node('Neg', [part(width / 2)], { ...node, shape: half });
  const turned = graph.node('Concat', [second.name!, part(0)], node, { axis: { int: -1 } });
  const kept = graph.node('Mul', [name, graph.float(cos)], node);
  return graph.node('Add', [kept.name!, graph.node('Mul', [turned.name!, graph.float(sin)], node).name!], node);
}

function whole(graph: GraphBuilder): Pick<Interpreter<Value>, Exclude<Whole, 'embedding' | 'nf4'>> {
  const lastAxis = { axis: { int: -1 } };
  const unary =
    (operator: string, attributes = {}) =>
    (node: NodeOf<Composite>, x?: Value): Value =>
      graph.node(operator, [graph.float(x!)], node, attributes);
  return {
    relu: unary('Relu'),
    sigmoid: unary('Sigmoid'),
    silu: (node, x) => graph.node('Mul', [graph.float(x!), graph.node('Sigmoid', [graph.float(x!)], node).name!], node),
    gelu: unary('Gelu'),
    softmax: unary('Softmax', lastAxis),
    logSoftmax: unary('LogSoftmax', lastAxis),
    reciprocal: (node, x) => {
      const positive = graph.node('Add', [graph.float(x!), graph.number(node.parameters.epsilon)], node);
      return graph.node('Reciprocal', [positive.name!], node);
    },
    layerNorm: (node, x, gain, bias) => {
      const width = node.shape.at(-1)!;
      const filled = (value: number): string => graph.tensor('float32', [width], new Float64Array(width).fill(value));
      // ONNX wants gain and bias of the normalised axis' shape; others are applied after.
      const inside = gain?.shape.length === 1 && bias?.shape.length === 1;
      const scales = inside ? [graph.float(gain), graph.float(bias)] : [filled(1)];
      const attributes = { ...lastAxis, epsilon: { float: node.parameters.epsilon } };
      const normal = graph.node('LayerNormalization', [graph.float(x!), ...scales], node, attributes);
      if (inside || gain === undefined || bias === undefined) return normal;
      const scaled = graph.node('Mul', [normal.name!, graph.float(gain)], node);
      return graph.node('Add', [scaled.name!, graph.float(bias)], node);
    },
    rotary: (node, x, cos, sin) => rotary(graph, node, x!, cos!, sin!),
    crossEntropy: (node, logits, labels, weights) => {
      const { scope } = node;
      const column = (value: Value): Value => graph.reshape(value, [...value.shape, 1]);
      const logarithms = graph.node('LogSoftmax', [graph.float(logits!)], { ...logits!, scope }, lastAxis);
      const picks = [graph.name(logarithms), graph.name(column(labels!))];
      const picked = graph.node('GatherElements', picks, { shape: column(weights!).shape, element: 'float', scope }, lastAxis);
      const weighted = graph.node('Mul', [picked.name!, graph.float(column(weights!))], picked);
      const total = graph.node('ReduceSum', [weighted.name!], node, { keepdims: { int: 0 } });
      return graph.node('Neg', [total.name!], node);
    },
  };
}
