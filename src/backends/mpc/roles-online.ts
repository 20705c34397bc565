import type { Block } from '../../kernels/index.ts';
import type { Prg } from '../../math/random.ts';
import type { Channel, Frame } from '../../net/contract.ts';
import type { Tensor } from '../../program/index.ts';
import { seedBytes } from '../cost/index.ts';
import { isDealt } from '../ring/index.ts';
import { clientProtocol } from './client.ts';
import {
  type MaterialSource,
  materialLayout,
  storedClientCorrelations,
  storedServerCorrelations,
} from './correlations/bundle.ts';
import type { ClientCorrelations, ServerCorrelations } from './correlations/contract.ts';
import { withLease } from './lease.ts';
import type { Ledger } from './ledger.ts';
import { type Ahead, Lookups } from './lookup.ts';
import type { Protocol } from './protocol.ts';
import { encodeWeight, machine, type Platform, type Session } from './roles.ts';
import { runParty } from './runner.ts';
import { serverProtocol } from './server.ts';

/** The generator of a stored bundle; the copy of its seed is cleared. */
async function storedPrg(platform: Platform, bundle: MaterialSource): Promise<Prg> {
  const seed = await bundle.read(0, seedBytes);
  const prg = platform.prg(seed);
  seed.fill(0);
  return prg;
}

/** Material after the seed. */
const afterSeed = (source: MaterialSource): MaterialSource => ({
  read: (offset, length) => source.read(seedBytes + offset, length),
});

export interface ClientRun {
  readonly channel: Channel;
  readonly bundle: MaterialSource;
  /** The client's inputs, asked for by name when the run comes to them. */
  readonly input: (name: string) => Promise<Tensor>;
  readonly output: (name: string, value: Tensor) => void;
  /** Lets a test look at what this party computes; the run uses what it returns. */
  readonly observe?: (protocol: Protocol) => Protocol;
}

export function clientOnline(platform: Platform, session: Session, run: ClientRun): Promise<Ledger> {
  return withLease(platform.kernels, async (kernels) => {
    const { program } = session;
    const prg = await storedPrg(platform, run.bundle);
    const stored = { kernels, program, layout: materialLayout(program), source: afterSeed(run.bundle), prg };
    return await clientParty({ ...platform, kernels }, session, run, storedClientCorrelations(stored));
  });
}

/** The client's side of a run with any source of correlations, on leased kernels. */
export async function clientParty(
  platform: Platform,
  session: Session,
  run: Omit<ClientRun, 'bundle'>,
  correlations: ClientCorrelations & Ahead,
): Promise<Ledger> {
  const inputs = new Map<string, Tensor>();
  const lookups = new Lookups({ ...machine(platform, session), party: 0, cipher: platform.cipher, correlations });
  const protocol = clientProtocol({
    ...machine(platform, session),
    correlations,
    cipher: platform.cipher,
    lookups,
    input: (name) => {
      const value = inputs.get(name)!;
      inputs.delete(name);
      return value;
    },
    output: run.output,
  });
  const running = runParty({
    ...machine(platform, session),
    side: 'client',
    protocol: run.observe?.(protocol) ?? protocol,
    channel: run.channel,
    now: platform.now,
    ...idleWork(platform, lookups),
    reached: (frames) => correlations.reached?.(frames),
    load: (node) => {
      if (node.operation === 'lookup') return lookups.load(node.index);
      if (node.operation === 'piecewise') return correlations.load(node.index);
      if (node.operation !== 'clientInput') return undefined;
      return run.input(node.parameters.name).then((value) => void inputs.set(node.parameters.name, value));
    },
  });
  return await running.finally(() => lookups.end());
}

export interface ServerRun {
  readonly channel: Channel;
  readonly bundle: MaterialSource;
  readonly weight: (name: string) => Promise<Tensor>;
  /** The client may end a run early with a frame of its own kind. */
  readonly interrupt?: (frame: Frame) => Error;
  readonly observe?: (protocol: Protocol) => Protocol;
}

export function serverOnline(platform: Platform, session: Session, run: ServerRun): Promise<Ledger> {
  return withLease(platform.kernels, async (kernels) => {
    const { program } = session;
    const prg = await storedPrg(platform, run.bundle);
    const stored = { kernels, program, layout: materialLayout(program), source: afterSeed(run.bundle), prg };
    return await serverParty({ ...platform, kernels }, session, run, storedServerCorrelations(stored));
  });
}

/** The server's side of a run with any source of correlations, on leased kernels. */
export async function serverParty(
  platform: Platform,
  session: Session,
  run: Omit<ServerRun, 'bundle'>,
  correlations: ServerCorrelations & Ahead,
): Promise<Ledger> {
  const { program } = session;
  const weights = new Map<number, Block>();
  const lookups = new Lookups({ ...machine(platform, session), party: 1, cipher: platform.cipher, correlations });
  const protocol = serverProtocol({
    ...machine(platform, session),
    correlations,
    cipher: platform.cipher,
    lookups,
    weight: (node) => {
      const block = weights.get(node)!;
      weights.delete(node);
      return block;
    },
  });
  const running = runParty({
    ...machine(platform, session),
    side: 'server',
    protocol: run.observe?.(protocol) ?? protocol,
    channel: run.channel,
    now: platform.now,
    ...idleWork(platform, lookups),
    reached: (frames) => correlations.reached?.(frames),
    ...(run.interrupt === undefined ? {} : { interrupt: run.interrupt }),
    load: (node) => {
      if (node.operation === 'serverInput')
        return run
          .weight(node.parameters.name)
          .then((tensor) => void weights.set(node.index, encodeWeight(platform, program, node, tensor)));
      if (node.operation === 'lookup') return lookups.load(node.index);
      return isDealt(node) ? correlations.load(node.index) : undefined;
    },
  });
  return await running.finally(() => lookups.end());
}

/** Expands lookups while the peer is waited for. */
function idleWork({ breathe }: Platform, lookups: Lookups): { idle?: () => Promise<boolean> } {
  if (breathe === undefined) return {};
  return {
    idle: async () => {
      const worked = await lookups.ahead();
      await breathe();
      return worked;
    },
  };
}
