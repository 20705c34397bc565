import { randomBytes } from 'node:crypto';
import { cpus } from 'node:os';
import {
  amountsOf,
  fitRates,
  forecast,
  type MachineProfile,
  type OperationSeconds,
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
import {
  formOf,
  isDealt,
  isLate,
  maskedNodes,
  quantise,
  type RingNode,
  type RingNodeOf,
  type RingProgram,
  rowOf,
  workOf,
} from '../backends/ring/index.ts';
import { nodePlatform } from '../party/platform.ts';
import { type Program, size } from '../program/index.ts';
import { measureBetween, measureBundle } from './machine-between.ts';
import { calibrationPrograms, inputsOf, measuredRings, median } from './machine-programs.ts';

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
      if ('receive' in result.value || isLate(node)) {
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

/** Which units an operation's time is made of. */
function unitsOf(side: Side, operation: string): readonly string[] {
  if (operation === 'piecewise') return ['words', 'comparisons', 'windowPoints'];
  const products = operation === 'matrixProduct' || (operation === 'linear' && side === 'server');
  return workUnits.filter((unit) => unit === 'nodes' || unit === 'words' || (products && unit.endsWith('Products')));
}

/** Runs all roles in this process and times each node. Waiting time is not used for anything, so that keys count where they are needed. */
async function timeRuns(
  program: Program,
  ringProgram: RingProgram,
  runs: number,
  times: Times,
): Promise<{ computed: number[]; online: number[] }> {
  const plainly = (): Platform => {
    const { breathe: _, ...platform } = nodePlatform(ringProgram.ring.bits);
    return platform;
  };
  const platforms = { client: plainly(), server: plainly(), dealer: plainly() };
  const { now } = platforms.client;
  const phases = { computed: [] as number[], online: [] as number[] };
  // The first run warms up the engine.
  for (let run = 0; run <= runs; run++) {
    const kept = run === 0 ? new Map() : times;
    let start = 0;
    const { client, server } = await rehearse({
      program: ringProgram,
      platforms,
      ...inputsOf(program),
      observeClient: (protocol) => {
        start = now();
        return timed(protocol, 'client', now, kept);
      },
      observeServer: (protocol) => timed(protocol, 'server', now, kept),
    });
    phases.computed.push(client.seconds + server.seconds);
    phases.online.push((now() - start) / 1000);
  }
  return phases;
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
          keyLevels: workOf(node).keyLevels ?? 0,
          weights: rowOf(node).source === 'server' && masked[from] === 1 ? size(node.shape) : 0,
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
  const emitters = (has: (node: RingNode) => boolean): number[] =>
    ringProgram.nodes.flatMap((node, index) => (has(node) ? [index] : []));
  const dealt = emitters(isDealt);
  const halves = emitters((node) => rowOf(node).masksWeight === true);
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

interface RingMeasured {
  readonly seconds: RingSeconds;
  /** What was in no operation online. */
  readonly rest: Sample[];
}

async function measureRing(ring: { bits: number; fraction: number }): Promise<RingMeasured> {
  const samples = new Map<string, Sample[]>();
  const expanded: Sample[] = [];
  const offline = { dealer: [] as Sample[], prepare: [] as Sample[] };
  const rest: Sample[] = [];
  const platform = nodePlatform(ring.bits);
  const innerPoint = timeInner(platform);
  let last: RingProgram | undefined;
  for (const { program, runs } of calibrationPrograms()) {
    const ringProgram = quantise(program, ring);
    last = ringProgram;
    const times: Times = new Map();
    const { computed, online } = await timeRuns(program, ringProgram, runs, times);
    for (const [key, values] of times) {
      const [side, part, index] = key.split(' ') as [Side, Part, string];
      const node = ringProgram.nodes[Number(index)]!;
      let seconds = median(values);
      if (node.operation === 'lookup' && part === (side === 'client' ? 'after' : 'start')) {
        const points = workOf(node).expandedPoints ?? 0;
        const inner = points * node.parameters.tables.length * innerPoint;
        expanded.push({ amounts: { points }, seconds: Math.max(0, seconds - inner) });
        seconds = inner;
      }
      const name = `${side} ${part} ${formOf(node, ringProgram)}`;
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
    const sent = forecast(ringProgram).total;
    const material = sent.offline.dealerSentBytes + sent.offline.clientSentBytes;
    const messages = sent.online.clientToServerBytes + sent.online.serverToClientBytes;
    const beside = median(online.slice(1).map((seconds, at) => Math.max(0, seconds - computed[at + 1]!)));
    rest.push({ amounts: { nodes: 2 * ringProgram.nodes.length, bytes: material + messages }, seconds: beside });
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
  return { seconds, rest };
}

/** Times this machine's engine, about half a minute on an idle machine: what `sotto cost` turns work into seconds with. */
export async function measureMachine(onStep: (step: string) => void = () => undefined): Promise<MachineProfile> {
  onStep('32-bit words');
  const narrow = await measureRing(measuredRings[32]);
  onStep('64-bit words');
  const wide = await measureRing(measuredRings[64]);
  const online = fitRates([...narrow.rest, ...wide.rest], ['nodes', 'bytes']);
  const [core] = cpus();
  const alone: MachineProfile = {
    name: `${core?.model.trim() ?? 'unknown processor'}, ${cpus().length} cores, Node ${process.versions.node}`,
    frame: { seconds: 0, byteSeconds: 0 },
    bundle: { storedByteSeconds: 0, readSeconds: 0 },
    overhead: { nodeSeconds: online.nodes ?? 0, byteSeconds: online.bytes ?? 0, offlineByteSeconds: 0 },
    firstRun: { offlineSeconds: 0, onlineSeconds: 0 },
    rings: { 32: narrow.seconds, 64: wide.seconds },
  };
  onStep('frames between two processes');
  const between = await measureBetween(alone);
  return { ...alone, ...between, bundle: await measureBundle() };
}
