import type { Block } from '../../kernels/index.ts';
import type { Prg } from '../../math/random.ts';
import type { Channel, Frame } from '../../net/contract.ts';
import type { Tensor } from '../../program/index.ts';
import { seedBytes } from '../cost/index.ts';
import { type RingNodeOf, rowOf, type Side } from '../ring/index.ts';
import {
  type MaterialSource,
  materialLayout,
  storedClientCorrelations,
  storedServerCorrelations,
} from './correlations/bundle.ts';
import type { ClientCorrelations, ServerCorrelations } from './correlations/contract.ts';
import { withLease } from './lease.ts';
import type { Ledger } from './ledger.ts';
import type { Arriving } from './operations/row.ts';
import { clientOf, type Party, serverOf } from './party.ts';
import type { Protocol } from './protocol.ts';
import { encodeWeight, machine, type Platform, type Session } from './roles.ts';
import { runParty } from './runner.ts';

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
    return await clientParty({ ...platform, kernels }, session, run, storedClientCorrelations(stored)).finally(() =>
      prg.close?.(),
    );
  });
}

/** The client's side of a run with any source of correlations, on leased kernels. */
export async function clientParty(
  platform: Platform,
  session: Session,
  run: Omit<ClientRun, 'bundle'>,
  correlations: ClientCorrelations & Arriving,
): Promise<Ledger> {
  const inputs = new Map<string, Tensor>();
  const party = clientOf({
    ...machine(platform, session),
    correlations,
    cipher: platform.cipher,
    input: (name) => {
      const value = inputs.get(name)!;
      inputs.delete(name);
      return value;
    },
    output: run.output,
  });
  return await runOf(platform, session, run, correlations, party, {
    side: 'client',
    source: (name) => run.input(name).then((value) => void inputs.set(name, value)),
  });
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
    return await serverParty({ ...platform, kernels }, session, run, storedServerCorrelations(stored)).finally(() =>
      prg.close?.(),
    );
  });
}

/** The server's side of a run with any source of correlations, on leased kernels. */
export async function serverParty(
  platform: Platform,
  session: Session,
  run: Omit<ServerRun, 'bundle'>,
  correlations: ServerCorrelations & Arriving,
): Promise<Ledger> {
  const weights = new Map<number, Block>();
  const party = serverOf({
    ...machine(platform, session),
    correlations,
    cipher: platform.cipher,
    weight: (node) => {
      const block = weights.get(node)!;
      weights.delete(node);
      return block;
    },
  });
  return await runOf(platform, session, run, correlations, party, {
    side: 'server',
    source: (name, index) =>
      run.weight(name).then((tensor) => {
        const node = session.program.nodes[index] as RingNodeOf<'serverInput'>;
        weights.set(index, encodeWeight(platform, session.program, node, tensor));
      }),
  });
}

interface Own {
  readonly side: Side;
  /** Makes a tensor of this side's ready, by its name and node. */
  readonly source: (name: string, index: number) => Promise<void>;
}

/** One party through a run: its tensors and its material are loaded as nodes come to them, keys are expanded while the peer is waited for. */
async function runOf(
  platform: Platform,
  session: Session,
  run: Pick<ClientRun & ServerRun, 'channel' | 'observe' | 'interrupt'>,
  correlations: Arriving,
  party: Party,
  { side, source }: Own,
): Promise<Ledger> {
  const running = runParty({
    ...machine(platform, session),
    side,
    protocol: run.observe?.(party.protocol) ?? party.protocol,
    channel: run.channel,
    now: platform.now,
    ...idleWork(platform, party),
    reached: (frames) => correlations.reached?.(frames),
    ...(run.interrupt === undefined ? {} : { interrupt: run.interrupt }),
    load: (node) =>
      rowOf(node).source === side && 'name' in node.parameters ? source(node.parameters.name, node.index) : party.load(node),
  });
  return await running.finally(() => party.end());
}

function idleWork({ breathe }: Platform, party: Party): { idle?: () => Promise<boolean> } {
  if (breathe === undefined) return {};
  return {
    idle: async () => {
      const worked = await party.ahead();
      await breathe();
      return worked;
    },
  };
}
