import { loadavg } from 'node:os';
import process from 'node:process';
import { type Platform, rehearse } from '../src/backends/mpc/index.ts';
import { quantise } from '../src/backends/ring/index.ts';
import type { RingKernels } from '../src/kernels/index.ts';
import { randomInputs } from '../src/models/index.ts';
import { nodePlatform } from '../src/party/platform.ts';
import { size, type Tensor, trace } from '../src/program/index.ts';
import { summarise } from './measure.ts';

const wireShape = [128, 256] as const;
const layers = 4;
const widths = [256, 512, 1024, 2048];
const runs = 9;

/** Processor time, which other processes on the machine do not lengthen. */
function processorMilliseconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** `layers` times a matrix and a square on wires of one shape; a matrix of width w reads them as rows of w. */
export const grown = (width: number, wires: readonly [number, number] = wireShape) =>
  trace((ops) => {
    let x = ops.input('x', [...wires], 'client');
    for (let at = 0; at < layers; at++) {
      const rows = ops.reshape(x, [size(wires) / width, width]);
      const mixed = ops.matmul(rows, ops.input(`private/w${at}`, [width, width], 'server'));
      x = ops.square(ops.reshape(mixed, [...wires]));
    }
    return { y: x };
  });

/** The same kernels, counting the multiplications of matrix products and the words of everything else. */
export function counting(kernels: RingKernels, counts: { products: number; words: number }): RingKernels {
  return new Proxy(kernels, {
    get(target, name) {
      const value = Reflect.get(target, name, target) as unknown;
      if (typeof value !== 'function') return value;
      return (...values: unknown[]) => {
        if (name === 'matmul') {
          const { batch, m, k, n } = values[3] as { batch: number; m: number; k: number; n: number };
          counts.products += batch * m * k * n;
        } else if (name !== 'allocate' && name !== 'free' && name !== 'bytes') {
          const first = values[0] as { length?: number };
          counts.words += first.length ?? 0;
        }
        return (value as (...values: unknown[]) => unknown).apply(target, values);
      };
    },
  });
}

/**
 * What the client does online where only the number of weights grows: the wires have one shape, the matrices between them are 1, 4, 16 and
 * 64 times as large. All roles run in this process; seconds are processor time of each party's own
 * computing.
 */
export async function clientWork(): Promise<object> {
  const rows: object[] = [];
  const measurements = [];
  for (const width of widths) {
    const program = grown(width);
    const ringProgram = quantise(program, { bits: 64, fraction: 16 });
    const weights = randomInputs(program, 1);
    const input: Tensor = {
      shape: [...wireShape],
      values: Float64Array.from({ length: size(wireShape) }, (_, at) => Math.sin(at)),
    };
    const counts = { products: 0, words: 0 };
    const [client, server, dealer] = [0, 1, 2].map(() => ({ ...nodePlatform(64), now: processorMilliseconds })) as [
      Platform,
      Platform,
      Platform,
    ];
    const seconds = { client: [] as number[], server: [] as number[] };
    let bytes = 0;
    let offline = 0;
    for (let run = 0; run <= runs; run++) {
      const made = await rehearse({
        program: ringProgram,
        platforms: { client: { ...client, kernels: counting(client.kernels, counts) }, server, dealer },
        weight: async (name) => weights.get(name)!,
        input: async () => {
          // The first thing that a client does online.
          Object.assign(counts, { products: 0, words: 0 });
          return input;
        },
      });
      bytes = made.measured.online.clientToServerBytes + made.measured.online.serverToClientBytes;
      offline = made.measured.offline.clientSentBytes;
      // The first run warms up.
      if (run === 0) continue;
      seconds.client.push(made.client.seconds);
      seconds.server.push(made.server.seconds);
    }
    const weightCount = layers * width ** 2;
    const [own, theirs] = [
      summarise(`${weightCount} weights: client computes online`, 's', seconds.client),
      summarise(`${weightCount} weights: server computes online`, 's', seconds.server),
    ];
    measurements.push(own, theirs);
    rows.push({
      weights: weightCount,
      onlineBytes: bytes,
      clientMatrixProducts: counts.products,
      clientKernelWords: counts.words,
      clientSeconds: own.median,
      serverSeconds: theirs.median,
      clientOfflineBytes: offline,
    });
  }
  return { measurements, rows, loadAverage: loadavg()[0] };
}
