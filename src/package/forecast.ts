import {
  type Costs,
  forecast,
  type MachineProfile,
  perLayer,
  type RunSeconds,
  runSeconds,
  type ScopeCosts,
  type Setting,
} from '../backends/cost/index.ts';
import { privateProgram as privateRing, type RingParameters } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import { jobProgram } from '../jobs/index.ts';
import { writesText } from '../models/families/index.ts';
import { type ModelShape, type Plan, traceShape } from '../models/index.ts';
import type { Network } from '../net/shaped.ts';
import type { Program } from '../program/index.ts';
import type { LoadedModel } from './model.ts';

/** How long a run is, in tokens; of an encoder or a vision transformer without new tokens. */
export interface RunLength {
  readonly promptTokens: number;
  readonly newTokens: number;
  /** A text of secret length stands in the prompt's tokens. */
  readonly padded?: boolean | undefined;
  /** What a text's client learns of each step; all logits where absent. */
  readonly reveal?: 'logits' | 'token' | undefined;
}

/** Seconds on a network alone; what the parties compute comes on top. */
export interface NetworkSeconds {
  readonly setup: number;
  readonly offline: number;
  readonly online: number;
}

/** What a private run will send and how long it will take. */
export interface RunForecast {
  readonly perLayer: readonly ScopeCosts[];
  readonly total: Costs;
  /** Of parties that each have a core of a machine, on a network. */
  readonly seconds?: RunSeconds;
}

/** What bytes are turned into seconds with. */
export interface Timing {
  readonly network: Network;
  readonly machine: MachineProfile;
}

/** The run that is forecast: ring, length, setting, and the machine and network where seconds are wanted. */
export interface ForecastOptions {
  readonly ring: RingParameters;
  readonly run: RunLength;
  readonly setting?: Setting;
  /** Of a run that notices values out of range, as runs do unless they are told not to. */
  readonly rangeFlags?: boolean | undefined;
  /** Seconds are forecast where it is given. */
  readonly timing?: Timing;
}

/** What a private run of a loaded model would send, under its own plan or another one. Weights are not read. */
export function forecastModel(
  model: Pick<LoadedModel, 'config' | 'plan'>,
  { run, plan = model.plan, ...options }: ForecastOptions & { plan?: Plan },
): RunForecast {
  const { config } = model;
  const task = writesText(config) ? 'generate' : 'classify';
  return forecastProgram(jobProgram(config, plan, { task, ...run }), options);
}

/** The same for dimensions without weights. */
export function forecastShape(shape: ModelShape, { run, plan, ...options }: ForecastOptions & { plan: Plan }): RunForecast {
  if (shape.kind === 'encoder' && run.newTokens > 1)
    throw new SottoError('usage', `${shape.name} is an encoder: it writes nothing`, {
      place: { field: 'newTokens' },
      remedy: 'leave the number of new tokens out',
    });
  return forecastProgram(traceShape(shape, plan, run), options);
}

function forecastProgram(
  program: Program,
  { ring, setting, timing, rangeFlags = true }: Omit<ForecastOptions, 'run'>,
): RunForecast {
  const ringProgram = privateRing(program, ring, { rangeFlags });
  const bytes = { perLayer: perLayer(ringProgram), total: forecast(ringProgram, setting).total };
  if (timing === undefined) return bytes;
  return { ...bytes, seconds: runSeconds(ringProgram, timing.machine, timing.network, setting) };
}

/** Bytes over the bandwidth, one direction after the other, and half a round trip for every hop. Computing is not in it. */
export function networkSeconds({ setup, offline, online }: Costs, network: Network): NetworkSeconds {
  const transfer = (...bytes: number[]): number => (8 * bytes.reduce((sum, one) => sum + one, 0)) / network.bitsPerSecond;
  return {
    setup: transfer(setup.clientSentBytes, setup.serverSentBytes, setup.dealerSentBytes),
    offline: transfer(offline.clientSentBytes, offline.serverSentBytes, offline.dealerSentBytes),
    online: transfer(online.clientToServerBytes, online.serverToClientBytes) + (online.hops * network.roundTripSeconds) / 2,
  };
}
