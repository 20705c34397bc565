// What training holds at most: peak resident set of a process of its own for each way of training one Llama. Adapters on a base in
// float32 and in 4 bits; all weights with every value kept for the way back, and with layers computed again.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { exactPlan, type LlamaConfig, parseLlamaConfig, traceLlama } from '../src/models/index.ts';
import { seededNormal } from '../src/models/sample.ts';
import { blockMatrices, weightShapes } from '../src/models/weights.ts';
import { onnxBackend } from '../src/node/onnx.ts';
import { size, type Tensor } from '../src/program/index.ts';
import { adapters, lossProgram, optimiserStates, readBase, trainingStep } from '../src/train/index.ts';

const cases = ['adapters on float32', 'adapters on nf4', 'all weights, values kept', 'all weights, layers again'] as const;
type Case = (typeof cases)[number];
const runs = 4;

interface Measured {
  readonly case: Case;
  readonly weightsMiB: number;
  readonly beforeMiB: number;
  readonly peakMiB: number;
  readonly secondsPerStep: number;
  readonly loss: number;
}

/** A process for each case. */
export async function memory(): Promise<object> {
  const measured = cases.map((_, index) => {
    const child = spawnSync(process.execPath, ['--expose-gc', '--import', 'tsx', fileURLToPath(import.meta.url), String(index)], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    return JSON.parse(child.stdout) as Measured;
  });
  return { runs, measured };
}

function modelOf(which: Case): { config: LlamaConfig; batch: number; tokens: number } {
  const wide = which.startsWith('adapters');
  const config = parseLlamaConfig({
    hidden_size: wide ? 1024 : 128,
    intermediate_size: wide ? 2816 : 352,
    num_hidden_layers: 8,
    num_attention_heads: 8,
    vocab_size: 256,
    max_position_embeddings: 256,
    tie_word_embeddings: true,
  });
  return { config, batch: wide ? 1 : 8, tokens: wide ? 32 : 256 };
}

async function measure(which: Case): Promise<Measured> {
  const { config, batch, tokens } = modelOf(which);
  const plan = exactPlan(config);
  const shapes = weightShapes(config, plan);
  const normal = seededNormal(1);
  const source = {
    names: () => [...shapes.keys()],
    shape: (name: string) => shapes.get(name)!,
    read: async (name: string) => {
      const shape = shapes.get(name)!;
      const values = new Float32Array(size(shape));
      for (let i = 0; i < values.length; i++) values[i] = shape.length === 1 ? 1 : normal() / Math.sqrt(shape[1]!);
      return values;
    },
  };
  const base = await readBase(
    source,
    which === 'adapters on nf4' ? { format: 'nf4', block: 64 } : undefined,
    blockMatrices(config, plan),
  );
  (globalThis as { gc?: () => void }).gc?.();
  const lora = { rank: 8, alpha: 16, matrices: ['q_proj', 'v_proj', 'up_proj', 'down_proj'] };
  const adapted = which.startsWith('adapters') ? adapters(lora, base, { seed: 1, kept: () => false }) : undefined;
  const student = traceLlama(config, plan, { batch, tokens });
  const start = adapted?.start ?? new Map([...shapes.keys()].map((name) => [name, base.read(name)]));
  const state = new Map<string, Tensor>(start);
  for (const [name, { shape, values }] of start)
    for (const moment of optimiserStates(name)) state.set(moment, { shape, values: new Float32Array(values.length) });
  const program = trainingStep(lossProgram({ student: adapted?.adapt(student) ?? student, losses: { nll: 1 } }), {
    trained: [...start.keys()].map((name) => ({ name, rate: 1 })),
    optimiser: { kind: 'adamw', beta1: 0.9, beta2: 0.95, epsilon: 1e-8, decay: 0 },
    clip: 1,
    checkpoint: which === 'all weights, layers again' ? 'layers' : undefined,
  });
  const step = await onnxBackend().compileStep(program, { state, bound: adapted?.frozen ?? new Map() });
  const ids = { shape: [batch, tokens], values: Int32Array.from({ length: batch * tokens }, (_, i) => (i * i * 7 + 3) % 256) };
  const scalar = (value: number): Tensor => ({ shape: [], values: Float32Array.of(value) });
  const feeds = new Map<string, Tensor>([
    ['ids', ids],
    ['labels', ids],
    ['positionWeights', { shape: [batch, tokens], values: new Float32Array(batch * tokens).fill(1 / batch / tokens) }],
    ['learningRate', scalar(1e-3)],
    ['correction1', scalar(10)],
    ['correction2', scalar(20)],
  ]);
  const before = resident('VmRSS');
  let loss = (await step.run(feeds)).get('loss')!.values[0]!;
  const begin = performance.now();
  for (let i = 1; i < runs; i++) loss = (await step.run(feeds)).get('loss')!.values[0]!;
  const weights = [...shapes.values()].reduce((sum, shape) => sum + 4 * size(shape), 0);
  return {
    case: which,
    weightsMiB: Math.round(weights / 2 ** 20),
    beforeMiB: before,
    peakMiB: resident('VmHWM'),
    secondsPerStep: Math.round(performance.now() - begin) / 1000 / (runs - 1),
    loss,
  };
}

const resident = (field: 'VmRSS' | 'VmHWM'): number =>
  Math.round(Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync('/proc/self/status', 'utf8'))![1]) / 1024);

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log(JSON.stringify(await measure(cases[Number(process.argv[2])]!)));
  process.exit(0);
}
