import { writeFileSync } from 'node:fs';
import { simulate } from '../src/backends/fixed/index.ts';
import { rehearse } from '../src/backends/mpc/index.ts';
import { referenceBackend } from '../src/backends/reference/index.ts';
import {
  isFlag,
  privateProgram,
  type RingNode,
  type RingParameters,
  type RingProgram,
  wordBitsOf,
} from '../src/backends/ring/index.ts';
import { type Calibration, calibrate, subjectOf as conversionOf } from '../src/convert/index.ts';
import { SottoError } from '../src/errors/index.ts';
import { createWasmKernels } from '../src/kernels/index.ts';
import { traceBertPrivate } from '../src/models/bert.ts';
import { type ModelConfig, parseBertConfig, parseLlamaConfig, parseVitConfig } from '../src/models/config.ts';
import { foldWeights, type Plan, parsePlan, seededUniform, traceLlamaPrivate, traceVitPrivate } from '../src/models/index.ts';
import { randomModelWeights } from '../src/models/weights.ts';
import { nodePlatform } from '../src/party/platform.ts';
import { type Program, size, type Tensor } from '../src/program/index.ts';
import { type Outcome, pageOf, type Swept, tablesOf, type Wire } from './range-flags-page.ts';

/** A program with range flags, and what it runs on. */
export interface Sweepable {
  readonly name: string;
  readonly program: RingProgram;
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly inputs: ReadonlyMap<string, Tensor>;
}

/** All wires of a program that are truncated, narrowed or looked up, one of every name. */
export function wiresOf({ nodes, ring }: RingProgram): Wire[] {
  const looks = new Map<number, { group: number; repeats: number; high: number }>();
  nodes.forEach((node) => {
    if (node.operation !== 'piecewise') return;
    const look = sourceOf(nodes, node.inputs[0]!);
    if (look === undefined) return;
    const { drop, knots } = node.parameters;
    // A row's last index is left out.
    const high = Math.ceil(Math.log2(knots[1]!)) + drop;
    const known = looks.get(look.inputs[0]!);
    const { group = 1, repeats = 1 } = look.operation === 'project' ? look.parameters : {};
    if (known === undefined || high < known.high) looks.set(look.inputs[0]!, { group, repeats, high });
  });
  const found = new Map<string, Wire>();
  nodes.forEach((node) => {
    if (node.operation !== 'truncate' && node.operation !== 'narrow') return;
    const at = node.inputs[0]!;
    const { scope, operation } = nodes[at]!;
    const name = `${scope.replace(/^layers\.\d+\.?/, '') || 'stream'}: ${operation}`;
    if (found.has(name)) return;
    const look = looks.get(at);
    found.set(name, { name, at, look, high: look?.high ?? ring.bits - 2, moduli: moduliOf(nodes, at) });
  });
  return [...found.values()];
}

/** The sums, or the single elements, that a look looks at; undefined for a function of the model. */
function sourceOf(nodes: readonly RingNode[], pinned: number): RingNode | undefined {
  const node = nodes[pinned]!;
  const source = node.operation === 'pin' ? nodes[node.inputs[0]!]! : node;
  return source.operation === 'project' || source.operation === 'reshape' ? source : undefined;
}

function moduliOf(nodes: readonly RingNode[], wire: number): number[] {
  const found = new Set<number>();
  nodes.forEach((node, at) => {
    if ((node.operation !== 'truncate' && node.operation !== 'narrow') || node.inputs[0] !== wire) return;
    for (const reader of nodes) {
      if (reader.inputs[0] !== at && reader.inputs[2] !== at) continue;
      const { operation, parameters } = reader;
      const width =
        operation === 'lookup'
          ? parameters.indexBits
          : operation === 'piecewise'
            ? parameters.bits
            : 'modulus' in parameters
              ? parameters.modulus
              : undefined;
      if (typeof width === 'number') found.add(width + node.parameters.bits);
    }
  });
  return [...found].sort((a, b) => a - b);
}

/** The same program in which one element of a wire is moved by an integer, modulo 2^L. */
function planted({ ring, nodes }: RingProgram, at: number, element: number, by: bigint): RingProgram {
  const values = new Float64Array(size(nodes[at]!.shape));
  values[element] = Number(BigInt.asIntN(ring.bits, by));
  const { shape, state, fraction, scope } = nodes[at]!;
  const parameters = { values, constantShape: shape };
  const plant = { operation: 'addConstant', inputs: [at], parameters, shape, state, fraction, scope } as RingNode;
  const moved = (input: number): number => (input >= at ? input + 1 : input);
  const after = nodes.slice(at + 1).map((node) => ({ ...node, inputs: node.inputs.map(moved) }) as RingNode);
  return { ring, nodes: [...nodes.slice(0, at + 1), plant, ...after] };
}

/** What comes of one plant: `right` is what the exact integers give, which refuse what leaves the ring; `silent` is a result that they do not give, without a flag. */
async function outcomeOf(subject: Sweepable, wire: Wire, element: number, by: bigint): Promise<Outcome> {
  const program = planted(subject.program, wire.at, element, by);
  const read = (tensors: ReadonlyMap<string, Tensor>) => async (name: string) => tensors.get(name)!;
  const [weights, inputs] = [read(subject.weights), read(subject.inputs)];
  const { bits } = program.ring;
  const exact = await simulate(program, { kernels: createWasmKernels(wordBitsOf(bits)), weights, inputs }).catch(
    (error: unknown) => {
      if (error instanceof SottoError && error.kind === 'range') return undefined;
      throw error;
    },
  );
  const platform = () => nodePlatform(bits);
  const platforms = { client: platform(), server: platform(), dealer: platform() };
  const { outputs } = await rehearse({ program, platforms, weight: weights, input: inputs });
  const flagged = [...outputs].some(([name, { values }]) => isFlag(name) && values[0] !== 0);
  const right = exact !== undefined && [...outputs].every(([name, value]) => isFlag(name) || near(value, exact.get(name)!));
  if (flagged) return right ? 'noticed, though right' : 'noticed';
  return right ? 'right' : 'silent';
}

/** As near as rounding leaves them. */
function near({ values }: Tensor, other: Tensor): boolean {
  const most = Math.max(1, ...Array.from(other.values, Math.abs));
  return values.every((value, at) => Math.abs(value - other.values[at]!) < 0.02 * most);
}

/** By how much of its window an element is moved. */
export const factors = [2 ** -10, 0.25, 1.1, 2.5, 4, 16, 2 ** 8, 2 ** 12, 2 ** 16, 2 ** 20, 2 ** 24] as const;

export interface Plant {
  /** A factor of the window, or the power of two that it is a multiple of. */
  readonly what: string;
  readonly by: bigint;
}

export function plantsOf({ high, moduli }: Wire, bits: number, used: readonly number[] = factors): Plant[] {
  const both = (what: string, by: bigint): Plant[] => [
    { what: `+${what}`, by },
    { what: `−${what}`, by: -by },
  ];
  // Beyond the ring a value is another one.
  const within = used.filter((factor) => factor * 2 ** high < 2 ** (bits - 1));
  return [
    ...within.flatMap((factor) =>
      both(
        `×${factor < 16 && factor > 0.1 ? factor : `2^${Math.log2(factor)}`}`,
        BigInt(Math.round(factor * 2 ** Math.min(high, 40))) << BigInt(Math.max(0, high - 40)),
      ),
    ),
    ...moduli.filter((power) => power < bits).flatMap((power) => both(`2^${power}`, 1n << BigInt(power))),
  ];
}

export interface Sweep {
  /** Factors of windows. */
  readonly used?: readonly number[];
  /** How many of a wire's elements are moved, one at a time. */
  readonly elements?: number;
  /** Which wires, by name; all where absent. */
  readonly of?: RegExp;
}

/** Every plant in every kind of wire of a program, at some of its elements. */
export async function sweep(subject: Sweepable, { used = factors, elements = 1, of = /./ }: Sweep = {}): Promise<Swept[]> {
  const { nodes, ring } = subject.program;
  const swept: Swept[] = [];
  for (const wire of wiresOf(subject.program).filter(({ name }) => of.test(name))) {
    const count = size(nodes[wire.at]!.shape);
    const results = [];
    for (const { what, by } of plantsOf(wire, ring.bits, used))
      for (let k = 0; k < Math.min(elements, count); k++) {
        const element = Math.floor(((k + 0.5) * count) / Math.min(elements, count));
        results.push({ what, outcome: await outcomeOf(subject, wire, element, by) });
      }
    swept.push({ subject: subject.name, wire, results });
  }
  return swept;
}

const uniform = (shape: readonly number[], seed: number, spread: number): Tensor => {
  const random = seededUniform(seed);
  return { shape, values: Float64Array.from({ length: size(shape) }, () => (2 * random() - 1) * spread) };
};
const ids = (...values: number[]): Tensor => ({ shape: [values.length], values: Int32Array.from(values) });

/** A small model with random weights, calibrated on samples for the ring as any model is, and its first sample as the input. */
async function subject(
  family: ModelConfig,
  planName: string,
  ring: RingParameters,
  samples: Calibration,
  trace: (plan: Plan) => Program,
  inputs: Record<string, Tensor>,
): Promise<Sweepable> {
  const bare = parsePlan(planName, family);
  const weights = randomModelWeights(family, 5, bare);
  const plan = await calibrate(conversionOf(family, samples), bare, {
    weights,
    backend: referenceBackend(),
    ring,
    method: 'own',
  });
  const folded = new Map<string, Tensor>();
  for await (const [name, tensor] of foldWeights(family, plan, async (name) => weights.get(name)!.values as Float32Array))
    folded.set(name, tensor);
  return {
    name: `${family.family}, ${planName}, ${ring.bits} bits with ${ring.fraction} of fraction`,
    program: privateProgram(trace(plan), ring, { rangeFlags: true }),
    weights: folded,
    inputs: new Map(Object.entries(inputs)),
  };
}

const attention = { hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2 };
const families = {
  llama: (plan: string, ring: RingParameters) => {
    const layout = { ...attention, intermediate_size: 20, num_key_value_heads: 2 };
    const config = parseLlamaConfig({ ...layout, vocab_size: 30, max_position_embeddings: 32 });
    const rows = [Int32Array.of(3, 17, 0), Int32Array.of(8, 29, 11)];
    const trace = (own: Plan) => traceLlamaPrivate(config, own, { promptTokens: 3, newTokens: 1 });
    return subject(config, plan, ring, { rows, batch: 1 }, trace, { prompt: ids(3, 17, 0) });
  },
  vit: (plan: string, ring: RingParameters) => {
    const pictures = { image_size: 8, patch_size: 4, num_channels: 2, num_labels: 5 };
    const config = parseVitConfig({ ...attention, ...pictures, intermediate_size: 18, layer_norm_eps: 1e-6 });
    const pixels = uniform([2, 8, 8], 5, 1);
    const batch = { shape: [1, 2, 8, 8], values: pixels.values };
    return subject(config, plan, ring, { pixels: [batch] }, (own) => traceVitPrivate(config, own), { pixels });
  },
  bert: (plan: string, ring: RingParameters) => {
    const texts = { vocab_size: 30, max_position_embeddings: 16, type_vocab_size: 2, num_labels: 3 };
    const config = parseBertConfig({ ...attention, ...texts, model_type: 'bert', intermediate_size: 24, layer_norm_eps: 1e-5 });
    const encoded = [{ ids: [3, 17, 0, 8], types: [0, 0, 1, 1] }];
    const trace = (own: Plan) => traceBertPrivate(config, own, { tokens: 4 });
    return subject(config, plan, ring, { encoded }, trace, { prompt: ids(3, 17, 0, 8), types: ids(0, 0, 1, 1) });
  },
};

/** Small models of every family. */
export const subjectOf = (family: keyof typeof families, plan: string, ring: RingParameters): Promise<Sweepable> =>
  families[family](plan, ring);

const wide = { bits: 64, fraction: 16 };
const all: readonly (readonly [keyof typeof families, string, RingParameters, number])[] = [
  ...(['llama', 'vit', 'bert'] as const).flatMap((family) =>
    ['full-p2', 'exact'].map((plan) => [family, plan, wide, 1] as const),
  ),
  ['llama', 'full-p2', { bits: 48, fraction: 14 }, 2],
  ['llama', 'full-p2', { bits: 32, fraction: 9 }, 4],
];

/** `--page FILE` writes the table there; `--only NAME` takes the programs whose name begins so. */
export async function rangeFlags(options: readonly string[]): Promise<object> {
  const option = (name: string): string | undefined => (options.includes(name) ? options[options.indexOf(name) + 1] : undefined);
  const only = option('--only') ?? '';
  const swept: Swept[] = [];
  for (const [family, plan, ring, elements] of all) {
    const one = await subjectOf(family, plan, ring);
    if (one.name.startsWith(only)) swept.push(...(await sweep(one, { elements })));
  }
  const page = option('--page');
  if (page !== undefined) writeFileSync(page, pageOf(swept));
  return { tables: tablesOf(swept) };
}
