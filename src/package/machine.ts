import { randomBytes } from 'node:crypto';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  amountsOf,
  fitRates,
  keyLevelsOf,
  type MachineProfile,
  type OperationSeconds,
  operationKey,
  pointsOf,
  type RingSeconds,
  type Sample,
  workUnits,
} from '../backends/cost/index.ts';
import { deal } from '../backends/mpc/correlations/dealer.ts';
import { prepare } from '../backends/mpc/correlations/prepare.ts';
import { weightMask } from '../backends/mpc/correlations/weights.ts';
import { encodeWeight, type Platform, rehearse } from '../backends/mpc/index.ts';
import type { NumberedNode, Protocol, Step } from '../backends/mpc/protocol.ts';
import { pads } from '../backends/mpc/random.ts';
import { maskedNodes, quantise, type RingNodeOf, type RingProgram } from '../backends/ring/index.ts';
import {
  type ModelShape,
  parsePlan,
  parseShape,
  randomWeights,
  serverInputs,
  traceShape,
  traceShapeLayer,
} from '../models/index.ts';
import { connect, listen } from '../node/sockets.ts';
import { nodePlatform } from '../party/platform.ts';
import { type Program, size, type Tensor } from '../program/index.ts';

/** Programs whose nodes are timed: a layer of many words, single tokens, and exact functions. Together they have every operation. */
function calibrationPrograms(): { program: Program; runs: number }[] {
  const shape = (extents: Partial<ModelShape>): ModelShape =>
    parseShape({
      name: 'calibration',
      kind: 'decoder',
      hiddenSize: 512,
      intermediateSize: 2048,
      numHiddenLayers: 2,
      heads: 8,
      norm: 'rms',
      bias: false,
      activation: 'silu',
      gated: true,
      embedding: { kind: 'tokens', vocabSize: 512 },
      positions: { kind: 'rotary', count: 512, theta: 10000 },
      head: { kind: 'vocabulary' },
      ...extents,
    });
  const wide = shape({
    kind: 'encoder',
    activation: 'gelu',
    gated: false,
    positions: { kind: 'learned', count: 512 },
    head: { kind: 'none' },
  });
  const small = shape({ hiddenSize: 128, intermediateSize: 384, heads: 4 });
  const exact = shape({ hiddenSize: 128, intermediateSize: 256, heads: 4, norm: 'layer' });
  return [
    { program: traceShapeLayer(wide, parsePlan('full-p4', wide), { tokens: 128 }), runs: 3 },
    { program: traceShape(small, parsePlan('full-p4', small), { promptTokens: 8, newTokens: 4 }), runs: 5 },
    { program: traceShapeLayer(exact, parsePlan('exact', exact), { tokens: 24 }), runs: 3 },
  ];
}

type Part = 'start' | 'after';
type Side = 'client' | 'server';

/** Seconds of every node's parts in one run, by `side part node`. */
type Times = Map<string, number[]>;

/** The same protocol, timing what every node computes: before it says its word or asks for its peer's, and after. */
function timed(protocol: Protocol, side: Side, now: () => number, times: Times): Protocol {
  const note = (node: NumberedNode, part: Part, milliseconds: number): void => {
    const key = `${side} ${part} ${node.index}`;
    const known = times.get(key) ?? [];
    if (known.length === 0) times.set(key, known);
    known.push(milliseconds / 1000);
  };
  function* steps(node: NumberedNode, step: Step): Step {
    let part: Part = 'start';
    let spent = 0;
    let received: Uint8Array | undefined;
    for (;;) {
      const start = now();
      const result = received === undefined ? step.next() : step.next(received);
      spent += now() - start;
      if (result.done) {
        note(node, part, spent);
        return result.value;
      }
      if ('receive' in result.value || node.operation === 'piecewise') {
        note(node, part, spent);
        part = 'after';
        spent = 0;
      }
      received = yield result.value;
    }
  }
  return Object.fromEntries(
    Object.entries(protocol).map(([operation, run]) => [
      operation,
      (node: NumberedNode, ...inputs: never[]) => {
        const start = now();
        const result = (run as (node: NumberedNode, ...inputs: never[]) => ReturnType<Protocol['add']>)(node, ...inputs);
        if ('next' in result) return steps(node, result);
        note(node, 'start', now() - start);
        return result;
      },
    ]),
  ) as Protocol;
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

/** Which units an operation's time is made of. */
function unitsOf(side: Side, operation: string): readonly string[] {
  if (operation === 'piecewise') return ['words', 'comparisons', 'windowPoints'];
  const products = operation === 'matrixProduct' || (operation === 'linear' && side === 'server');
  return workUnits.filter((unit) => unit === 'nodes' || unit === 'words' || (products && unit.endsWith('Products')));
}

function inputsOf(program: Program): { weight: (name: string) => Promise<Tensor>; input: (name: string) => Promise<Tensor> } {
  const weights = randomWeights(serverInputs(program), 1);
  const shapes = new Map(
    program.nodes.flatMap((node) =>
      node.operation === 'input' && node.parameters.owner === 'client' ? [[node.parameters.name, node] as const] : [],
    ),
  );
  return {
    weight: async (name) => weights.get(name)!,
    input: async (name) => {
      const { shape, parameters } = shapes.get(name)!;
      const length = size(shape);
      if ('element' in parameters && parameters.element === 'index') return { shape, values: new Int32Array(length) };
      return { shape, values: Float64Array.from({ length }, (_, at) => ((at * 7919) % 2001) / 1000 - 1) };
    },
  };
}

/** Runs all roles in this process and times each node. Waiting time is not used for anything, so that keys count where they are needed. */
async function timeOnline(program: Program, ringProgram: RingProgram, runs: number, times: Times): Promise<number[]> {
  const plainly = (): Platform => {
    const { breathe: _, ...platform } = nodePlatform(ringProgram.ring.bits);
    return platform;
  };
  const platforms = { client: plainly(), server: plainly(), dealer: plainly() };
  const { now } = platforms.client;
  const seconds: number[] = [];
  // The first run warms up the engine and is not counted.
  for (let run = 0; run <= runs; run++) {
    const kept = run === 0 ? new Map() : times;
    const { client, server } = await rehearse({
      program: ringProgram,
      platforms,
      ...inputsOf(program),
      observeClient: (protocol) => timed(protocol, 'client', now, kept),
      observeServer: (protocol) => timed(protocol, 'server', now, kept),
    });
    seconds.push(client.seconds + server.seconds);
  }
  return seconds;
}

/** Seconds of the dealer and of the client's halves, from one message to the next. */
async function timeOffline(ringProgram: RingProgram): Promise<{ dealer: Sample[]; prepare: Sample[] }> {
  const platform = nodePlatform(ringProgram.ring.bits);
  const { kernels, now } = platform;
  const masked = maskedNodes(ringProgram);
  const source = () => pads(kernels, platform.prg(new Uint8Array(randomBytes(32))));
  const machine = { kernels, ring: ringProgram.ring, program: ringProgram };
  const collect = async (
    walk: (emitted: (node: number) => void) => Promise<void>,
    products: ReadonlySet<string>,
  ): Promise<Sample[]> => {
    const samples: Sample[] = [];
    let start = now();
    let from = 0;
    await walk((to) => {
      const end = now();
      const amounts: Record<string, number> = {};
      for (; from <= to; from++) {
        const node = ringProgram.nodes[from]!;
        const own = {
          ...amountsOf(node, ringProgram),
          keyLevels: keyLevelsOf(node),
          weights: node.operation === 'serverInput' && masked[from] === 1 ? size(node.shape) : 0,
        };
        if (!products.has(node.operation)) Object.assign(own, { panelProducts: 0, rowProducts: 0 });
        for (const [unit, count] of Object.entries(own)) amounts[unit] = (amounts[unit] ?? 0) + count;
      }
      samples.push({ amounts, seconds: (end - start) / 1000 });
      start = now();
    });
    return samples;
  };
  // Which node a message belongs to follows from the order: every node that has material emits once.
  const emitters = (has: (operation: string) => boolean): number[] =>
    ringProgram.nodes.flatMap((node, index) => (has(node.operation) ? [index] : []));
  const dealt = emitters((operation) => dealtOperations.has(operation));
  const halves = emitters((operation) => operation === 'linear' || operation === 'diagonal');
  const mask = async (node: RingNodeOf<'serverInput'>) => weightMask(kernels, node, new Uint8Array(32), platform);
  const dealer = await collect(
    async (emitted) => {
      let at = 0;
      const toServer = async (): Promise<void> => emitted(dealt[at++]!);
      await deal({
        ...machine,
        clientPads: source(),
        serverPads: source(),
        cipher: platform.cipher,
        maskedWeight: mask,
        toServer,
        toClient: async () => undefined,
      });
    },
    new Set(['linear', 'matrixProduct']),
  );
  const prepared = await collect(
    async (emitted) => {
      let at = 0;
      await prepare({ ...machine, pads: source(), mask, toServer: async () => emitted(halves[at++]!) });
    },
    new Set(['linear']),
  );
  return { dealer, prepare: prepared };
}

const dealtOperations = new Set([
  'linear',
  'diagonal',
  'square',
  'product',
  'matrixProduct',
  'truncate',
  'unmask',
  'narrowSquare',
  'narrowProduct',
  'lookup',
  'piecewise',
]);

/** Seconds an element of a weight, as ring words and masked for the dealer. */
function timeWeights(platform: Platform, program: RingProgram): { encodedWeight: number; maskedWeight: number } {
  const shape = [512, 1024];
  const node = {
    operation: 'serverInput',
    inputs: [],
    parameters: { name: 'w', fraction: program.ring.fraction, factor: 1 },
    shape,
    state: 'server',
    fraction: program.ring.fraction,
    scope: '',
  } as const;
  const tensor = { shape, values: Float32Array.from({ length: size(shape) }, (_, at) => Math.sin(at)) };
  const { kernels, now } = platform;
  const times = [1, 2, 3, 4, 5].map(() => {
    const start = now();
    const block = encodeWeight(platform, program, node, tensor);
    const encoded = now();
    const mask = weightMask(kernels, node, new Uint8Array(32), platform);
    kernels.subtract(block, block, mask);
    kernels.pack(block, program.ring.bits);
    kernels.free(mask);
    kernels.free(block);
    return [encoded - start, now() - start] as const;
  });
  const rate = (at: 0 | 1): number => median(times.map((pair) => pair[at])) / 1000 / size(shape);
  return { encodedWeight: rate(0), maskedWeight: rate(1) };
}

/** Seconds of one table's inner product, a point of the vectors. */
function timeInner({ kernels, now }: Platform): number {
  const [rows, points] = [64, 2048];
  const [vectors, table, delta, out] = [rows * points, points, rows, rows].map((length) => {
    const block = kernels.allocate(length);
    kernels.fill(block, 3n);
    return block;
  });
  const times = [1, 2, 3, 4, 5, 6, 7].map(() => {
    const start = now();
    kernels.rotatedInner(out!, vectors!, table!, delta!);
    return now() - start;
  });
  for (const block of [vectors, table, delta, out]) kernels.free(block!);
  return median(times) / 1000 / (rows * points);
}

async function measureRing(ring: { bits: number; fraction: number }): Promise<{ seconds: RingSeconds; firstRunSeconds: number }> {
  const samples = new Map<string, Sample[]>();
  const expanded: Sample[] = [];
  const offline = { dealer: [] as Sample[], prepare: [] as Sample[] };
  const platform = nodePlatform(ring.bits);
  const innerPoint = timeInner(platform);
  let firstRunSeconds = 0;
  let last: RingProgram | undefined;
  for (const { program, runs } of calibrationPrograms()) {
    const ringProgram = quantise(program, ring);
    last = ringProgram;
    const times: Times = new Map();
    const [first, ...others] = await timeOnline(program, ringProgram, runs, times);
    firstRunSeconds += Math.max(0, first! - median(others));
    for (const [key, values] of times) {
      const [side, part, index] = key.split(' ') as [Side, Part, string];
      const node = ringProgram.nodes[Number(index)]!;
      let seconds = median(values);
      if (node.operation === 'lookup' && part === (side === 'client' ? 'after' : 'start')) {
        const inner = pointsOf(node) * node.parameters.tables.length * innerPoint;
        expanded.push({ amounts: { points: pointsOf(node) }, seconds: Math.max(0, seconds - inner) });
        seconds = inner;
      }
      const name = `${side} ${part} ${operationKey(node, ringProgram)}`;
      const known = samples.get(name) ?? [];
      if (known.length === 0) samples.set(name, known);
      known.push({ amounts: amountsOf(node, ringProgram), seconds });
    }
    await timeOffline(ringProgram);
    for (let run = 0; run < runs; run++) {
      const more = await timeOffline(ringProgram);
      offline.dealer.push(...more.dealer);
      offline.prepare.push(...more.prepare);
    }
  }
  const tables: { client: Record<string, OperationSeconds>; server: Record<string, OperationSeconds> } = {
    client: {},
    server: {},
  };
  for (const [key, found] of samples) {
    const [side, part, ...operation] = key.split(' ') as [Side, Part, ...string[]];
    const name = operation.join(' ');
    tables[side][name] = { ...tables[side][name], [part]: fitRates(found, unitsOf(side, operation[0]!)) };
  }
  const seconds: RingSeconds = {
    ...tables,
    expandedPoint: fitRates(expanded, ['points']).points ?? 0,
    ...timeWeights(platform, last!),
    dealer: fitRates(offline.dealer, ['nodes', 'words', 'panelProducts', 'rowProducts', 'keyLevels', 'weights']),
    prepare: fitRates(offline.prepare, ['nodes', 'words', 'panelProducts', 'rowProducts', 'weights']),
  };
  return { seconds, firstRunSeconds };
}

/** Frames there and back on a Unix socket, small and large: seconds of one, and of a byte. Both ends share this process. */
async function measureFrames(): Promise<MachineProfile['frame']> {
  const folder = await mkdtemp(join(tmpdir(), 'sotto-machine-'));
  const address = `unix:${join(folder, 'frames')}`;
  try {
    const listener = await listen({ address, peer: 'near', timeoutMilliseconds: 10_000 });
    const [near, far] = await Promise.all([
      connect({ address, peer: 'far', timeoutMilliseconds: 10_000 }),
      listener.accept({ peer: 'near' }),
    ]);
    const trip = async (bytes: number, trips: number): Promise<number> => {
      const payload = new Uint8Array(bytes);
      const taken: number[] = [];
      for (let at = 0; at < trips; at++) {
        const start = performance.now();
        await near.send(1, payload);
        await far.receive();
        await far.send(1, payload);
        await near.receive();
        taken.push((performance.now() - start) / 2000);
      }
      return median(taken);
    };
    await trip(100, 200);
    const small = await trip(100, 200);
    const large = await trip(2 ** 20, 15);
    await Promise.all([near.close(), far.close(), listener.close()]);
    return { seconds: small, byteSeconds: Math.max(0, large - small) / 2 ** 20 };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function measureStoring(): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'sotto-machine-'));
  try {
    const file = await open(join(folder, 'bundle'), 'w');
    const part = new Uint8Array(randomBytes(2 ** 20));
    const start = performance.now();
    for (let at = 0; at < 32; at++) await file.write(part);
    await file.sync();
    const seconds = (performance.now() - start) / 1000;
    await file.close();
    return seconds / (32 * 2 ** 20);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Times this machine's engine, about half a minute on an idle machine: what `sotto cost` turns work into seconds with. */
export async function measureMachine(onStep: (step: string) => void = () => undefined): Promise<MachineProfile> {
  onStep('frames');
  const frame = await measureFrames();
  const storedByteSeconds = await measureStoring();
  onStep('32-bit words');
  const narrow = await measureRing({ bits: 32, fraction: 10 });
  onStep('64-bit words');
  const wide = await measureRing({ bits: 64, fraction: 16 });
  const [core] = cpus();
  return {
    name: `${core?.model.trim() ?? 'unknown processor'}, ${cpus().length} cores, Node ${process.versions.node}`,
    frame,
    storedByteSeconds,
    firstRunSeconds: Math.max(narrow.firstRunSeconds, wide.firstRunSeconds),
    rings: { 32: narrow.seconds, 64: wide.seconds },
  };
}
