import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { FaultPlan } from '../../src/net/faulty.ts';
import { controlFrame } from '../../src/party/control.ts';
import type { Role } from '../../src/party/index.ts';
import { type Change, type Crossing, type Outcomes, type PartiesOptions, runParties } from '../../test/party/relay.ts';
import { malformed } from './malform.ts';
import { type Fault, isLineKind, type Moment, phaseOf, type Variant } from './plan.ts';
import type { Seen } from './verdict.ts';

/** Real runs, each with the fault that its plan names: connections lead through this process, one role may be a process of its own. */

export interface Bed {
  /** Models with a text that ends by its length, and one that ends before. */
  readonly models: { readonly whole: string; readonly ending: string };
  readonly promptIds: readonly number[];
  readonly newTokens: number;
  readonly timeoutMilliseconds: number;
  /** A directory of a run's own. */
  readonly directory: (number: number | string) => string;
}

export function partiesOf(bed: Bed, variant: Variant, directory: string): PartiesOptions {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return {
    directory,
    model: variant.ending ? bed.models.ending : bed.models.whole,
    promptIds: bed.promptIds,
    newTokens: bed.newTokens,
    ring: variant.ring,
    timeoutMilliseconds: bed.timeoutMilliseconds,
    // A dealer whose visitor was no peer waits on for its server.
    startMilliseconds: 4 * bed.timeoutMilliseconds,
    ...(variant.setting === 'helper' ? { setting: 'helper' as const } : {}),
  };
}

/** A run without a fault, and the frames that crossed. */
export async function cleanRun(bed: Bed, variant: Variant): Promise<{ outcomes: Outcomes; frames: Moment[] }> {
  const frames: Moment[] = [];
  const outcomes = await runParties({
    ...partiesOf(bed, variant, bed.directory(`clean-${variant.setting}-${variant.ring.bits}-${variant.ending}`)),
    timeoutMilliseconds: 20_000,
    startMilliseconds: 60_000,
    onFrame: ({ from, to, connection, frame, kind }) => void frames.push({ from, to, connection, frame, phase: phaseOf(kind) }),
  });
  for (const { error } of [outcomes.client, outcomes.server, outcomes.dealer]) if (error !== undefined) throw error;
  return { outcomes, frames };
}

const source = ({ variant }: Fault): Role => variant.setting;
const endsOf = (fault: Fault, { client, server, dealer }: Outcomes): Seen['ends'] => [
  { role: 'client', outcome: client },
  { role: 'server', outcome: server },
  { role: source(fault), outcome: dealer },
];
const storedOf = ({ stored }: Outcomes): Seen['stored'] =>
  (['client', 'server'] as const).flatMap((role) => stored[role].map(({ state }) => ({ role, state })));

const isAt = (crossing: Crossing, { from, to, connection, frame }: Moment): boolean =>
  crossing.from === from && crossing.to === to && crossing.connection === connection && crossing.frame === frame;

/** One frame of one line is damaged, lost or held. */
export async function lineFault(bed: Bed, fault: Extract<Fault, { seed: number }>): Promise<Seen> {
  const { from, to, connection, frame } = fault.moment;
  if (!isLineKind(fault.kind)) throw new Error('no fault of a line');
  const plan: FaultPlan = { fault: fault.kind, frame, seed: fault.seed };
  let struckAt: number | undefined;
  const outcomes = await runParties({
    ...partiesOf(bed, fault.variant, bed.directory(fault.number)),
    fault: { from, to, connection, plan },
    onFrame: (crossing) => {
      if (isAt(crossing, fault.moment)) struckAt = performance.now();
    },
  });
  return {
    ends: endsOf(fault, outcomes),
    tokens: outcomes.tokens,
    logits: outcomes.logits,
    stored: storedOf(outcomes),
    culprits: [from, to],
    struckAt,
  };
}

/** A control message comes in another form than any that this version has. */
export async function malformedMessage(bed: Bed, fault: Extract<Fault, { kind: 'malformed' }>): Promise<Seen> {
  let struckAt: number | undefined;
  const outcomes = await runParties({
    ...partiesOf(bed, fault.variant, bed.directory(fault.number)),
    onFrame: (crossing) => {
      if (struckAt !== undefined || !isAt(crossing, fault.moment)) return undefined;
      struckAt = performance.now();
      return { kind: crossing.kind, payload: malformed(crossing.payload, fault.draw) } satisfies Change;
    },
  });
  return {
    ends: endsOf(fault, outcomes),
    tokens: outcomes.tokens,
    logits: outcomes.logits,
    stored: storedOf(outcomes),
    culprits: [fault.moment.from, fault.moment.to],
    struckAt,
  };
}

/** One field of one control message says something else. */
export async function forgedField(bed: Bed, fault: Extract<Fault, { kind: 'program' }>): Promise<Seen> {
  let struckAt: number | undefined;
  const outcomes = await runParties({
    ...partiesOf(bed, fault.variant, bed.directory(fault.number)),
    onFrame: (crossing) => {
      if (struckAt !== undefined || crossing.from !== fault.from || crossing.kind !== controlFrame) return undefined;
      const message = JSON.parse(new TextDecoder().decode(crossing.payload));
      if (message.type !== fault.message) return undefined;
      struckAt = performance.now();
      forge(message, fault.field.split('.'));
      return { kind: controlFrame, payload: new TextEncoder().encode(JSON.stringify(message)) } satisfies Change;
    },
  });
  return {
    ends: endsOf(fault, outcomes),
    tokens: outcomes.tokens,
    logits: outcomes.logits,
    stored: storedOf(outcomes),
    // Who joins a session by the name that it was given is all that the dealer sees.
    culprits: fault.field === 'bundle' ? [fault.from, 'client'] : [fault.from],
    struckAt,
  };
}

function forge(message: Record<string, unknown>, [name, ...rest]: readonly string[]): void {
  const value = message[name!];
  if (rest.length > 0) forge(value as Record<string, unknown>, rest);
  else
    message[name!] =
      typeof value === 'number' ? value + 1 : `${value === undefined ? '' : value}`.replace(/^./, (c) => (c === '0' ? '1' : '0'));
}

/** Brings `dist` up to the sources: a role started from there takes a third of the time that loading its sources takes. */
export function build(): void {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const { status, stdout } = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', '-b'], {
    cwd: root,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stdout);
}

function forkBuilt(execArgv: readonly string[] = []): ChildProcess {
  return fork(fileURLToPath(new URL('../../dist/party/role.js', import.meta.url)), [], {
    execArgv: [...execArgv],
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
}

/** A role process that has loaded and listens for its order. */
async function readyRole(preload: string): Promise<ChildProcess> {
  const child = forkBuilt(['--import', `data:text/javascript,${encodeURIComponent(`${tellsWhenReady}\n${preload}`)}`]);
  await once(child, 'message');
  return child;
}
const tellsWhenReady = `
  const ready = (event) => {
    if (event !== 'message') return;
    process.off('newListener', ready);
    process.send({ type: 'ready' });
  };
  process.on('newListener', ready);
`;

/** Processes that are ready before they are wanted: starting one takes longer than a run. */
export class Spares {
  readonly #ready: Promise<ChildProcess>[] = [];
  readonly #count: number;

  constructor(count: number) {
    this.#count = count;
  }

  async take(): Promise<ChildProcess> {
    while (this.#ready.length <= this.#count) this.#ready.push(readyRole(''));
    return await this.#ready.shift()!;
  }

  async end(): Promise<void> {
    for (const child of await Promise.all(this.#ready.splice(0))) child.kill('SIGKILL');
  }
}

/** Both clocks of a process jump when it gets the signal. */
const jumping = (milliseconds: number): string => `
    import { performance } from 'node:perf_hooks';
    let ahead = 0;
    const own = performance.now.bind(performance);
    performance.now = () => own() + ahead;
    const Real = Date;
    globalThis.Date = class extends Real {
      constructor(...given) { if (given.length === 0) super(Real.now() + ahead); else super(...given); }
      static now() { return Real.now() + ahead; }
    };
    process.on('SIGUSR2', () => { ahead = ${milliseconds}; });
  `;

type OfProcess = Extract<Fault, { victim: Role; moment: Moment }>;

/** One role runs as a process and is killed, stopped, started again, held for a while, or has its clocks moved. */
export async function processFault(bed: Bed, fault: OfProcess, spares: Spares): Promise<Seen & { readonly outcomes: Outcomes }> {
  const spare = fault.kind === 'clock' ? await readyRole(jumping(fault.milliseconds)) : await spares.take();
  // The same order again goes to a process that is new to it.
  const second = fault.kind === 'restart' ? await spares.take() : undefined;
  const children = [spare, ...(second === undefined ? [] : [second])];
  let strike = (): void => {};
  let struckAt: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  const outcomes = await runParties({
    ...partiesOf(bed, fault.variant, bed.directory(fault.number)),
    apart: fault.victim,
    forkApart: () => children.shift() ?? forkBuilt(),
    onApart: (child, again) => {
      strike = () => {
        if (fault.kind === 'clock') child.kill('SIGUSR2');
        else if (fault.kind === 'kill') child.kill('SIGKILL');
        else if (fault.kind === 'restart') {
          child.kill('SIGKILL');
          void once(child, 'exit').then(again);
        } else child.kill('SIGSTOP');
        if (fault.kind === 'pause') timer = setTimeout(() => child.kill('SIGCONT'), fault.timeouts * bed.timeoutMilliseconds);
      };
      // Where the moment is before its start, it is struck as soon as it has its order.
      if (struckAt !== undefined) strike();
    },
    onFrame: (crossing) => {
      if (struckAt !== undefined || !isAt(crossing, fault.moment)) return;
      struckAt = performance.now();
      strike();
    },
  });
  clearTimeout(timer);
  for (const child of [spare, second]) child?.kill('SIGKILL');
  return {
    outcomes,
    ends: endsOf(fault, outcomes),
    tokens: outcomes.tokens,
    logits: outcomes.logits,
    stored: storedOf(outcomes),
    culprits: fault.kind === 'clock' ? [] : [fault.victim],
    victim: fault.kind === 'clock' ? undefined : fault.victim,
    struckAt,
  };
}

/** Where a role's store lies in a run's directory. */
export const stateOf = (directory: string, role: 'client' | 'server'): string => join(directory, role);
