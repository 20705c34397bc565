import { existsSync, readFileSync } from 'node:fs';
import process from 'node:process';
import type { OnnxBackend } from '../src/node/onnx.ts';
import { onnxBackend } from '../src/node/onnx.ts';
import type { NodeOf, Ops, Program, Ref, Shape, Tensor } from '../src/program/index.ts';
import { lower, size, trace } from '../src/program/index.ts';
import { optimiserStates, trainingStep } from '../src/train/index.ts';
import { summarise } from './measure.ts';
import { torchTwin } from './twins/training.ts';

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

const adam = { kind: 'adamw', beta1: 0.9, beta2: 0.95, epsilon: 1e-8, decay: 0.1 } as const;
const [rate, clip] = [1e-3, 1];

/** The project's training step (forward, backward, clipping by the global norm, AdamW) of the model, and its parameters. */
export function stepOf(model: Model): { program: Program; parameters: Map<string, Shape> } {
  const loss = trace((ops) => ({ loss: llamaLoss(ops, model) }));
  const parameters = new Map<string, Shape>();
  for (const { operation, parameters: given } of loss.nodes)
    if (operation === 'input' && given.element === 'float') parameters.set(given.name, given.shape);
  const trained = [...parameters.keys()].map((name) => ({ name, rate: 1 }));
  return { program: trainingStep(loss, { trained, optimiser: adam, clip }), parameters };
}

/** The public scalars of step `step`, counted from 1. */
export function scalars(step: number): Map<string, Tensor> {
  const scalar = (value: number): Tensor => ({ shape: [], values: new Float32Array([value]) });
  return new Map([
    ['learningRate', scalar(rate)],
    ['correction1', scalar(1 / (1 - adam.beta1 ** step))],
    ['correction2', scalar(1 / (1 - adam.beta2 ** step))],
  ]);
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

interface Times {
  readonly best: number;
  readonly median: number;
}

function times(samples: readonly number[]): Times {
  const { min, median } = summarise('', 'ms', samples);
  return { best: Math.round(min), median: Math.round(median) };
}

const ratio = (x: number, y: number): number => Number((x / y).toFixed(3));

/** CPU milliseconds of the whole process for one call. */
async function cpuMilliseconds(call: () => Promise<unknown>): Promise<number> {
  const start = process.cpuUsage();
  await call();
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

/** The first calls pay for fresh memory and do not count. */
const warmUps = 3;
/** Largest relative difference of a loss from the twin's in the first steps. */
const agreement = 1e-4;

async function measureModel(backend: OnnxBackend, model: Model, runs: number): Promise<object> {
  const { program, parameters } = stepOf(model);
  const weights = new Map<string, Tensor>();
  const state = new Map<string, Tensor>();
  for (const [name, shape] of parameters) {
    weights.set(name, shape.length === 1 ? { shape, values: new Float32Array(size(shape)).fill(1) } : filled(shape));
    for (const moment of optimiserStates(name)) state.set(moment, { shape, values: new Float32Array(size(shape)) });
  }
  const tokens = Int32Array.from({ length: model.sequences * model.tokens }, (_, i) => (i * 31) % model.vocabulary);
  const labels = tokens.map((token) => (token + 31) % model.vocabulary);
  const shape = [model.sequences, model.tokens];
  const batch: [string, Tensor][] = [
    ['tokens', { shape, values: tokens }],
    ['labels', { shape, values: labels }],
  ];
  const step = await backend.compileStep(program, { state: new Map([...weights, ...state]) });
  const products = productsOf(program);
  const floor = await backend.compile(products.program, products.bound);
  const given = { model, optimiser: adam, clip, rate, weights, tokens, labels };
  const twins = (await Promise.all(openBlasCores().map((core) => torchTwin(given, core)))).filter((twin) => twin !== undefined);

  const own: number[] = [];
  const alone: number[] = [];
  const theirs = twins.map((): number[] => []);
  const losses: number[] = [];
  for (let run = 0; run < warmUps + runs; run++) {
    const feeds = new Map([...batch, ...scalars(run + 1)]);
    own.push(await cpuMilliseconds(async () => losses.push((await step.run(feeds, ['loss'])).get('loss')!.values[0]!)));
    for (const [i, twin] of twins.entries()) {
      const result = await twin.step();
      theirs[i]!.push(result.cpuMilliseconds);
      const error = Math.abs(result.loss / losses[run]! - 1);
      if (run < warmUps && !(error <= agreement))
        throw new Error(`step ${run + 1}: the loss is ${losses[run]}, that of ${twin.name} ${result.loss}`);
    }
    alone.push(await cpuMilliseconds(() => floor.run(new Map())));
  }
  for (const twin of twins) twin.close();
  await step.close();
  await floor.close();

  const counted = (samples: readonly number[]): Times => times(samples.slice(warmUps));
  const ours = counted(own);
  const bound = counted(alone);
  return {
    model: { ...model, head: 'tied to the embedding' },
    parameters: [...parameters.values()].reduce((sum, shape) => sum + size(shape), 0),
    steps: runs,
    losses: [losses[0], losses[1], losses[2], losses.at(-1)],
    stepCpuMilliseconds: ours,
    productsCpuMilliseconds: bound,
    ratioToProducts: ratio(ours.best, bound.best),
    twins: twins.map(({ name }, i) => {
      const their = counted(theirs[i]!);
      const ratios = { best: ratio(ours.best, their.best), median: ratio(ours.median, their.median) };
      return { name, stepCpuMilliseconds: their, ratioOfOursToTheirs: ratios };
    }),
  };
}

/** OpenBLAS as it chooses its kernels itself and, as it knows no processor newer than itself, with those for AVX-512 where that is. */
function openBlasCores(): (string | undefined)[] {
  const flags = existsSync('/proc/cpuinfo') ? readFileSync('/proc/cpuinfo', 'utf8') : '';
  return flags.includes('avx512dq') ? [undefined, 'SkylakeX'] : [undefined];
}

/** The target's shape with a small and a large vocabulary, then a small and a large batch. */
const cases = [
  { ...stories, vocabulary: 512 },
  { ...stories, vocabulary: 32000 },
  { ...stories, vocabulary: 32000, sequences: 1 },
  { ...stories, vocabulary: 32000, sequences: 16, tokens: 256 },
];

/** One training step on one core: ONNX Runtime, PyTorch where there is one, and the step's matrix products alone, in turn. */
export async function training(runs = 10, models: readonly Model[] = cases): Promise<object> {
  const results: object[] = [];
  for (const model of models) {
    const backend = onnxBackend({ threads: 1 });
    const large = model.sequences * model.tokens > 2048; // Seconds a step: fewer of them.
    results.push(await measureModel(backend, model, large ? Math.ceil(runs / 2) : runs));
    await backend.close();
  }
  const comparison = 'CPU time of one process, one thread each, interleaved';
  return { name: 'training step', comparison, results };
}
