import type { Channel } from '../../net/contract.ts';
import { sectionsOf } from '../cost/index.ts';
import { liveClientCorrelations, liveServerCorrelations } from './correlations/live.ts';
import { withLease } from './lease.ts';
import type { Ledger } from './ledger.ts';
import {
  clientHalves,
  dealStreams,
  type MaterialWriter,
  offlineFrame,
  type Platform,
  receivedSeed,
  type Session,
} from './roles.ts';
import { type ClientRun, clientParty, type ServerRun, serverParty } from './roles-online.ts';
import { SectionReader, SectionWriter } from './stream.ts';
import { Trouble } from './trouble.ts';

/**
 * The helper setting: three parties, one of them corrupted at most. The dealer's messages, made by a third server while the run goes on,
 * over connections of its own. The setup is the dealer's; the online protocol and its channel are the same. docs/protocols/helper.md.
 *
 * Every run has a session of its own: its context must hold a fresh id and a fresh nonce of each party. Nothing is stored.
 */

/** Lets input and output happen after every message, since making the next one may take long. */
const breathing = ({ breathe }: Platform, writer: MaterialWriter, trouble = new Trouble()): MaterialWriter => ({
  async write(bytes) {
    await trouble.guard(writer.write(bytes));
    await breathe?.();
  },
  finish: () => trouble.guard(writer.finish()),
});

/** The helper's part of a run: sends, and receives nothing. */
export async function helperLive(
  platform: Platform,
  session: Session,
  channels: { readonly client: Channel; readonly server: Channel },
  masked: ReadonlyMap<string, Uint8Array>,
): Promise<void> {
  const sections = sectionsOf(session.program);
  const writers = {
    client: breathing(platform, new SectionWriter(channels.client, offlineFrame, sections.helperToClient)),
    server: breathing(platform, new SectionWriter(channels.server, offlineFrame, sections.helperToServer)),
  };
  await dealStreams(platform, session, writers, masked);
}

export interface ClientLiveRun extends Omit<ClientRun, 'bundle'> {
  readonly helper: Channel;
  /** To the server, for material only: a connection beside `channel`, as closed to the helper as that. */
  readonly material: Channel;
  readonly maskSeed: Uint8Array;
  /** Material that is kept for later before the helper is held up; 32 MiB where absent. */
  readonly keptBytes?: number | undefined;
}

/**
 * The client's run: reads keys, sends its halves of linear maps and computes at once. Throws the first error of any of them, once all of
 * them have ended; the channels are the caller's to close.
 */
export function clientLive(platform: Platform, session: Session, run: ClientLiveRun): Promise<Ledger> {
  return withLease(platform.kernels, async (kernels) => {
    const leased = { ...platform, kernels };
    const { program } = session;
    const sections = sectionsOf(program);
    const fromHelper = new SectionReader(run.helper, offlineFrame, sections.helperToClient);
    const seed = await receivedSeed(leased, session, fromHelper, { pair: 'client', sender: run.helper.peer });
    const prg = leased.prg(seed);
    seed.fill(0);
    const trouble = new Trouble();
    const options = { kernels, program, prg, trouble, keptBytes: run.keptBytes };
    const { correlations, reading } = liveClientCorrelations(options, { helper: fromHelper });
    const toServer = breathing(leased, new SectionWriter(run.material, offlineFrame, sections.clientToServer), trouble);
    const halves = clientHalves(leased, session, prg, run.maskSeed, toServer);
    const guarded = {
      ...run,
      channel: trouble.guarded(run.channel),
      input: (name: string) => trouble.guard(run.input(name)),
    };
    return await completed(trouble, clientParty(leased, session, guarded, correlations), [reading], [halves]).finally(() =>
      prg.close?.(),
    );
  });
}

export interface ServerLiveRun extends Omit<ServerRun, 'bundle'> {
  readonly helper: Channel;
  /** From the client, for material only. */
  readonly material: Channel;
  readonly keptBytes?: number | undefined;
}

/** The server's run: reads both streams of material and computes at once. Errors as `clientLive`. */
export function serverLive(platform: Platform, session: Session, run: ServerLiveRun): Promise<Ledger> {
  return withLease(platform.kernels, async (kernels) => {
    const leased = { ...platform, kernels };
    const { program } = session;
    const sections = sectionsOf(program);
    const fromHelper = new SectionReader(run.helper, offlineFrame, sections.helperToServer);
    const fromClient = new SectionReader(run.material, offlineFrame, sections.clientToServer);
    const seed = await receivedSeed(leased, session, fromHelper, { pair: 'server', sender: run.helper.peer });
    const prg = leased.prg(seed);
    seed.fill(0);
    const trouble = new Trouble();
    const { correlations, reading } = liveServerCorrelations(
      { kernels, program, prg, trouble, keptBytes: run.keptBytes },
      { helper: fromHelper, client: fromClient },
    );
    const guarded = {
      ...run,
      channel: trouble.guarded(run.channel),
      weight: (name: string) => trouble.guard(run.weight(name)),
    };
    return await completed(trouble, serverParty(leased, session, guarded, correlations), [reading], []).finally(() =>
      prg.close?.(),
    );
  });
}

/**
 * The run's ledger, once everything beside it is done too. After a failure the run and the `computing` are waited for, which use
 * kernels, and the `reading` is not: it ends with its channel.
 */
async function completed(
  trouble: Trouble,
  running: Promise<Ledger>,
  reading: readonly Promise<unknown>[],
  computing: readonly Promise<unknown>[],
): Promise<Ledger> {
  const read = Promise.all(reading);
  read.catch((error: unknown) => trouble.raise(error));
  await trouble.together([running, ...computing]);
  await read;
  return await running;
}
