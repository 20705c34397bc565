import type { OnnxBackend } from '../src/node/onnx.ts';
import { onnxBackend } from '../src/node/onnx.ts';
import type { Composite, NodeOf, Ops, Program, Ref, Shape, Tensor } from '../src/program/index.ts';
import { copyInto, gradient, lower, lowerings, prune, size, Tracer, trace } from '../src/program/index.ts';

/** A Llama-shaped model as the benchmark trains it: no biases, the embedding tied to the output, weights (out, in). */
interface Model {
  readonly width: number;
  readonly layers: number;
  readonly heads: number;
  readonly hidden: number;
  readonly vocabulary: number;
  readonly sequences: number;
  readonly tokens: number;
}
const stories = { width: 288, layers: 6, heads: 6, hidden: 768, sequences: 8, tokens: 128 };

function llamaLoss(ops: Ops<Ref>, model: Model): Ref {
  const { width: D, heads: H, sequences: B, tokens: T, hidden, vocabulary } = model;
  const d = D / H;
  const weight = (name: string, shape: Shape): Ref => ops.input(name, shape, 'server');
  const linear = (x: Ref, name: string, out: number): Ref =>
    ops.matmul(x, ops.transposed(weight(name, [out, ops.shape(x).at(-1)!])));
  const angles = (f: (angle: number) => number): Ref => {
    const angle = (i: number): number => Math.floor(i / d) / 10000 ** ((2 * ((i % d) % (d / 2))) / d);
    return ops.constant(
      Float64Array.from({ length: T * d }, (_, i) => f(angle(i))),
      [T, d],
    );
  };
  const [cos, sin] = [angles(Math.cos), angles(Math.sin)];
  const mask = ops.constant(
    Float64Array.from({ length: T * T }, (_, i) => Number(i % T <= Math.floor(i / T))),
    [T, T],
  );
  const split = (x: Ref): Ref => ops.transpose(ops.reshape(x, [B, T, H, d]), [0, 2, 1, 3]); // (B, H, T, d)
  const norm = (x: Ref, name: string): Ref => ops.rmsNorm(x, { gain: weight(name, [D]), epsilon: 1e-5 });

  const embedding = weight('embedding', [vocabulary, D]);
  let x = ops.embedding(embedding, ops.input('tokens', [B, T], 'client', 'index')); // (B, T, D)
  for (let layer = 0; layer < model.layers; layer++) {
    x = ops.scope(`layers.${layer}`, () => {
      const name = (part: string): string => `layers.${layer}.${part}`;
      const h = norm(x, name('norm1'));
      const q = ops.rotary(split(linear(h, name('q'), D)), cos, sin);
      const k = ops.rotary(split(linear(h, name('k'), D)), cos, sin);
      const scores = ops.scale(ops.matmul(q, ops.transposed(k)), 1 / Math.sqrt(d)); // (B, H, T, T)
      const mixed = ops.softmaxAttention(scores, split(linear(h, name('v'), D)), mask);
      const y = ops.add(x, linear(ops.reshape(ops.transpose(mixed, [0, 2, 1, 3]), [B, T, D]), name('o'), D));
      const g = norm(y, name('norm2'));
      const gated = ops.multiply(ops.silu(linear(g, name('gate'), hidden)), linear(g, name('up'), hidden));
      return ops.add(y, linear(gated, name('down'), D));
    });
  }
  const logits = ops.matmul(norm(x, 'norm'), ops.transposed(embedding)); // (B, T, V)
  const weights = ops.constant(new Float64Array(B * T).fill(1 / (B * T)), [B, T]);
  return ops.crossEntropy(logits, ops.input('labels', [B, T], 'client', 'index'), weights);
}

const everyComposite = new Set(Object.keys(lowerings) as Composite[]);
export const adam = { rate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, decay: 0.1, norm: 1 };

/** Forward, backward, clipping by the global norm and AdamW as one program with state NAME, first/NAME and second/NAME. */
export function trainingStep(model: Model): { program: Program; parameters: Map<string, Shape> } {
  const loss = trace((ops) => ({ loss: llamaLoss(ops, model) }));
  const parameters = new Map<string, Shape>();
  for (const { operation, parameters: given } of loss.nodes)
    if (operation === 'input' && given.element === 'float') parameters.set(given.name, given.shape);
  const source = gradient(loss, 'loss', [...parameters.keys()]);
  const ops = new Tracer();
  const refs = copyInto(ops, source, everyComposite);
  const output = (name: string): Ref => refs[source.outputs.get(name)!]!;
  const inputs = new Map(source.nodes.map((node, i) => [node.operation === 'input' ? node.parameters.name : '', refs[i]!]));
  const squares = [...parameters].map(([name, shape]) => {
    const flat = ops.reshape(ops.square(output(`gradient/${name}`)), [size(shape)]);
    return ops.sum(flat, [0]);
  });
  const norm = ops.sqrt(squares.reduce((a, b) => ops.add(a, b)));
  const clip = ops.divide(ops.constant([adam.norm], [1]), ops.maximum(norm, ops.constant([adam.norm], [1])));
  const rate = ops.input('rate', [1], 'public');
  const outputs = new Map<string, number>([['loss', output('loss')]]);
  for (const [name, shape] of parameters) {
    const g = ops.multiply(output(`gradient/${name}`), clip);
    const [w, m, v] = [
      inputs.get(name)!,
      ops.input(`first/${name}`, shape, 'server'),
      ops.input(`second/${name}`, shape, 'server'),
    ];
    const first = ops.add(ops.scale(m, adam.beta1), ops.scale(g, 1 - adam.beta1));
    const second = ops.add(ops.scale(v, adam.beta2), ops.scale(ops.square(g), 1 - adam.beta2));
    const direction = ops.add(ops.divide(first, ops.offset(ops.sqrt(second), adam.epsilon)), ops.scale(w, adam.decay));
    outputs.set(`next/${name}`, ops.subtract(w, ops.multiply(direction, rate)));
    outputs.set(`next/first/${name}`, first);
    outputs.set(`next/second/${name}`, second);
  }
  return { program: prune({ nodes: ops.nodes, outputs }), parameters };
}

/** The step's matrix products alone, every operand laid out already: a bound that no training engine on these kernels passes. */
function productsOf(step: Program): { program: Program; bound: Map<string, Tensor> } {
  const lowered = lower(step);
  const bound = new Map<string, Tensor>();
  const program = trace((ops) => {
    const operand = (shape: Shape): Ref => {
      const name = `operand ${bound.size}`;
      bound.set(name, filled(shape));
      return ops.input(name, shape, 'public');
    };
    const corners = lowered.nodes
      .filter((node): node is NodeOf<'matmul'> => node.operation === 'matmul')
      .map((node) => {
        const [x, y] = node.inputs.map((input) => operand(lowered.nodes[input]!.shape));
        const product = ops.matmul(x!, y!);
        const corner = node.shape.reduce<Ref>((part, _, axis) => ops.slice(part, axis, 0, 1), product);
        return ops.reshape(corner, [1]);
      });
    return { corners: ops.concat(corners, 0) };
  });
  return { program, bound };
}

function filled(shape: Shape): Tensor {
  const values = new Float32Array(size(shape));
  for (let i = 0, state = 1; i < values.length; i++) {
    state = Math.imul(state, 1664525) + 1013904223;
    values[i] = state * 2 ** -35; // within ±1/16
  }
  return { shape, values };
}

/** CPU milliseconds of the whole process per call: best and median. The first two calls pay for fresh memory and do not count. */
async function measure(runs: number, call: () => Promise<unknown>): Promise<{ best: number; median: number }> {
  for (let warm = 0; warm < 2; warm++) await call();
  const times: number[] = [];
  for (let run = 0; run < runs; run++) {
    const start = process.cpuUsage();
    await call();
    const { user, system } = process.cpuUsage(start);
    times.push((user + system) / 1000);
  }
  times.sort((a, b) => a - b);
  return { best: Math.round(times[0]!), median: Math.round(times[times.length >> 1]!) };
}

async function measureModel(backend: OnnxBackend, model: Model, runs: number): Promise<object> {
  const { program, parameters } = trainingStep(model);
  const state = new Map<string, Tensor>();
  for (const [name, shape] of parameters) {
    const ones = shape.length === 1 ? { shape, values: new Float32Array(size(shape)).fill(1) } : filled(shape);
    state.set(name, ones);
    for (const moment of ['first', 'second']) state.set(`${moment}/${name}`, { shape, values: new Float32Array(size(shape)) });
  }
  const tokens = Int32Array.from({ length: model.sequences * model.tokens }, (_, i) => (i * 31) % model.vocabulary);
  const batch = new Map<string, Tensor>([
    ['tokens', { shape: [model.sequences, model.tokens], values: tokens }],
    ['labels', { shape: [model.sequences, model.tokens], values: tokens.map((token) => (token + 31) % model.vocabulary) }],
    ['rate', { shape: [1], values: new Float32Array([adam.rate]) }],
  ]);
  const step = await backend.compileStep(program, { state });
  const losses: number[] = [];
  const whole = await measure(runs, async () => losses.push((await step.run(batch)).get('loss')!.values[0]!));
  await step.close();

  const products = productsOf(program);
  const floor = await backend.compile(products.program, products.bound);
  const alone = await measure(runs, () => floor.run(new Map()));
  await floor.close();
  return {
    model,
    parameters: [...parameters.values()].reduce((sum, shape) => sum + size(shape), 0),
    firstLoss: losses[0],
    lastLoss: losses.at(-1),
    stepCpuMilliseconds: whole,
    productsCpuMilliseconds: alone,
    ratioToProducts: Number((whole.best / alone.best).toFixed(2)),
  };
}

/** One training step on one core, ONNX Runtime, beside the time of its matrix products alone. */
export async function training(runs = 10): Promise<object> {
  const backend = onnxBackend({ threads: 1 });
  const models = [
    { ...stories, vocabulary: 512 },
    { ...stories, vocabulary: 32000 },
  ];
  const results: object[] = [];
  for (const model of models) results.push(await measureModel(backend, model, runs));
  await backend.close();
  // Measured on another day (its vocabulary is not on record), beside PyTorch 1.13 with OpenBLAS: docs give the ratio, this gives the bound.
  const earlier = { onnxCpuMilliseconds: 870, pytorchCpuMilliseconds: 865 };
  return { name: 'training step', threads: 1, runs, earlier, results };
}
