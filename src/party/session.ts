import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js';
import type { MaterialSink, MaterialSource, Session } from '../backends/mpc/index.ts';
import type { RingProgram } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';
import type { BundleHeader, BundleStore, BundleWriter } from './bundles.ts';
import { type Control, receiveControl, sendControl } from './control.ts';

export const nonce = (): string => bytesToHex(crypto.getRandomValues(new Uint8Array(16)));

/**
 * What a client shows the dealer to join its session, and the nonce in its request that commits to it: who is told only the nonce, or the
 * session's name, cannot join in its place.
 */
export function freshTicket(): { readonly ticket: string; readonly nonce: string } {
  const ticket = bytesToHex(crypto.getRandomValues(new Uint8Array(32)));
  return { ticket, nonce: commitmentTo(ticket) };
}

/** The first 16 bytes of SHA-256 over a label and the ticket. */
export const commitmentTo = (ticket: string): string =>
  bytesToHex(sha256(concatBytes(utf8ToBytes('sotto ticket/v1'), hexToBytes(ticket)))).slice(0, 32);

/**
 * How all parties of a run name it in what they log and report, so that their logs can be joined: 12 hexadecimal digits of SHA-256 over a label
 * and the bundle's id. It opens nothing: no message carries it, no party looks anything up by it, and the id is not found from it.
 */
export const runName = (bundle: string): string =>
  bytesToHex(sha256(concatBytes(utf8ToBytes('sotto session in logs/v1'), hexToBytes(bundle)))).slice(0, 12);

/** What binds every seed of a run to it: program, bundle and a nonce of each party. */
export function sessionOf(program: RingProgram, agreed: Pick<Control<'session'>, 'program' | 'bundle' | 'nonces'>): Session {
  const { client, server, dealer } = agreed.nonces;
  const context = [agreed.program, agreed.bundle, client, server, dealer].map((hex) => hexToBytes(hex));
  return { program, context };
}

/** Both sides tell each other that their half of the bundle is claimed for good, before the first byte of the run. */
async function confirmClaims(channel: Channel, bundle: string): Promise<void> {
  await sendControl(channel, { type: 'claimed', bundle });
  const theirs = await receiveControl(channel, 'claimed');
  if (theirs.bundle !== bundle)
    throw new SottoError('material', `claimed the bundle ${theirs.bundle}, this party ${bundle}`, {
      place: { party: channel.peer },
      remedy: 'start the run again: both bundles are burned',
    });
}

/** What a run needs of a store: a party's durable one, or the memory of a page, which keeps nothing. */
export type RunStore = Pick<BundleStore, 'write' | 'claim' | 'burn'> & {
  open(id: string): Promise<MaterialSource & { close(): Promise<void> }>;
};

/** What a bundle goes through: it is filled, claimed by both sides, and used in one run. */
export interface BundleLife<T> {
  readonly fill: (sink: MaterialSink) => Promise<void>;
  readonly run: (bundle: MaterialSource) => Promise<T>;
  /** A bundle that was made ahead and is claimed already: its material comes first, and the run goes by its id. */
  readonly ahead?: { readonly id: string; readonly bytes: number; readonly source: MaterialSource } | undefined;
}

/** One material behind another. */
const joined = (first: { readonly bytes: number; readonly source: MaterialSource }, second: MaterialSource): MaterialSource => ({
  async read(offset, length) {
    if (offset >= first.bytes) return await second.read(offset - first.bytes, length);
    if (offset + length <= first.bytes) return await first.source.read(offset, length);
    throw new Error('a read crosses from one bundle to the next');
  },
});

/**
 * Stores a bundle, claims it durably, runs, and burns it: after a whole run, after an error in any phase, and after a text that ended
 * early alike. Returns undefined where the run ended with an error of class `ended`. Throws a `material` error, and burns nothing, where
 * the id is known already: it is another run's.
 */
export async function runBundle<T>(
  store: RunStore,
  header: BundleHeader,
  channel: Channel,
  ended: new (...parameters: never[]) => Error,
  { fill, run, ahead }: BundleLife<T>,
): Promise<T | undefined> {
  const writer = await store.write(header);
  try {
    await filled(writer, fill);
    await store.claim(header.id, { program: header.program, ring: header.ring, copy: header.copy });
    await confirmClaims(channel, ahead?.id ?? header.id);
    const reader = await store.open(header.id);
    try {
      return await run(ahead === undefined ? reader : joined(ahead, reader));
    } finally {
      await reader.close();
    }
  } catch (error) {
    if (error instanceof ended) return undefined;
    throw error;
  } finally {
    await store.burn(header.id);
  }
}

async function filled(writer: BundleWriter, fill: (sink: MaterialSink) => Promise<void>): Promise<void> {
  try {
    await fill((bytes) => writer.append(bytes));
  } catch (error) {
    await writer.abort();
    throw error;
  }
  await writer.finish();
}
