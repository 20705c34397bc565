import { SottoError } from '../../errors/index.ts';
import type { Block, RingKernels } from '../../kernels/index.ts';
import type { EntropySource, KeyDerivation, Prg, PrgFactory } from '../../math/random.ts';
import type { Channel } from '../../net/contract.ts';
import { size, type Tensor } from '../../program/index.ts';
import { masterBytes, seedBytes, tagBytes } from '../cost/index.ts';
import { encodingBits, maskedWeights, packedBytes, type RingNodeOf, type RingProgram, unencodable } from '../ring/index.ts';
import { materialLayout } from './correlations/bundle.ts';
import type { PointFunctionCipher } from './correlations/contract.ts';
import { deal } from './correlations/dealer.ts';
import { prepare } from './correlations/prepare.ts';
import { weightKey, weightMask } from './correlations/weights.ts';
import { pads } from './random.ts';
import { StreamReader, StreamWriter } from './stream.ts';

/** Frame kinds of setup and offline streams. */
export const setupFrame = 2;
export const offlineFrame = 3;

/** What a role is given by its platform. Every role has kernels of its own. */
export interface Platform {
  readonly kernels: RingKernels;
  readonly entropy: EntropySource;
  readonly derive: KeyDerivation;
  readonly prg: PrgFactory;
  readonly cipher: PointFunctionCipher;
  /** Milliseconds. */
  readonly now: () => number;
  /** Lets input and output happen; where it is given, waiting time is used for work that will be needed later. */
  readonly breathe?: () => Promise<void>;
}

/** What all three roles agree on before a run. `context` binds seeds to the session: program hash and the handshake's nonces. */
export interface Session {
  readonly program: RingProgram;
  readonly context: readonly Uint8Array[];
}

/** What protocols, correlations and the runner have of a platform and a session. */
export const machine = (platform: Platform, { program }: Session) => ({ kernels: platform.kernels, ring: program.ring, program });
const pairSeed = (platform: Platform, session: Session, master: Uint8Array, pair: 'client' | 'server'): Uint8Array<ArrayBuffer> =>
  platform.derive(master, `sotto correlations ${pair}/v1`, session.context);

/** Encodes a weight as ring words: what the server loads, folds and masks. */
export function encodeWeight(platform: Platform, program: RingProgram, node: RingNodeOf<'serverInput'>, tensor: Tensor): Block {
  const { name, factor, fraction } = node.parameters;
  if (tensor.values.length !== size(node.shape))
    throw new SottoError('model', `${tensor.values.length} values where the shape is [${node.shape}]`, {
      place: { tensor: name },
      remedy: 'check that the checkpoint fits its config.json',
    });
  const block = platform.kernels.allocate(size(node.shape));
  const values = factor === 1 ? tensor.values : Float64Array.from(tensor.values, (value) => value * factor);
  const reals = values instanceof Float32Array || values instanceof Float64Array ? values : Float64Array.from(values);
  try {
    platform.kernels.encode(block, reals, fraction, encodingBits(node, program));
  } catch (error) {
    platform.kernels.free(block);
    throw unencodable(error, node);
  }
  return block;
}

/** What shows that both ends of a stream mean one session, before anything is computed with its seed. */
function masterTag(platform: Platform, session: Session, master: Uint8Array): Uint8Array {
  const derived = platform.derive(master, 'sotto correlations tag/v1', session.context);
  const tag = derived.slice(0, tagBytes);
  derived.fill(0);
  return tag;
}

/**
 * A party's seed of a run, from the dealer's master, which is cleared. Material of another session, played back or made under other
 * nonces, is a `material` error that names who sent it.
 */
export async function receivedSeed(
  platform: Platform,
  session: Session,
  stream: Pick<StreamReader, 'read'>,
  { pair, sender }: { pair: 'client' | 'server'; sender: string },
): Promise<Uint8Array<ArrayBuffer>> {
  const master = await stream.read(seedBytes);
  const tag = await stream.read(tagBytes);
  if (masterTag(platform, session, master).some((byte, at) => byte !== tag[at])) {
    master.fill(0);
    throw new SottoError('material', 'sent material of another session', {
      place: { party: sender },
      remedy: 'start the run again',
    });
  }
  const seed = pairSeed(platform, session, master, pair);
  master.fill(0);
  return seed;
}

const weightNodes = (program: RingProgram): RingNodeOf<'serverInput'>[] =>
  maskedWeights(program).map((index) => program.nodes[index] as RingNodeOf<'serverInput'>);

// --- setup: once per model and pair ---

/** The server masks its weights: V = W − A to the dealer, A's seed to the client. */
export async function serverSetup(
  platform: Platform,
  session: Session,
  channels: { client: Channel; dealer: Channel },
  weight: (name: string) => Promise<Tensor>,
): Promise<void> {
  const seed = new Uint8Array(seedBytes);
  platform.entropy(seed);
  try {
    await sendMaskSeed(channels.client, seed);
    await sendMasked(platform, session, channels.dealer, seed, weight);
  } finally {
    seed.fill(0);
  }
}

/** A's seed to the client. */
export async function sendMaskSeed(client: Channel, seed: Uint8Array): Promise<void> {
  const toClient = new StreamWriter(client, setupFrame);
  await toClient.write(seed);
  await toClient.finish();
}

/**
 * V = W − A to the dealer, of the program's weights that `held` does not name yet (by `weightKey`); the names are added. One seed serves one
 * set of weights in one ring, for one dealer and any number of programs and clients.
 */
export async function sendMasked(
  platform: Platform,
  { program }: Session,
  dealer: Channel,
  seed: Uint8Array,
  weight: (name: string) => Promise<Tensor>,
  held: Set<string> = new Set(),
): Promise<void> {
  const { kernels } = platform;
  const toDealer = new StreamWriter(dealer, setupFrame);
  for (const node of weightNodes(program)) {
    if (held.has(weightKey(node))) continue;
    held.add(weightKey(node));
    const block = encodeWeight(platform, program, node, await weight(node.parameters.name));
    const mask = weightMask(kernels, node, seed, platform);
    kernels.subtract(block, block, mask);
    const bytes = kernels.pack(block, program.ring.bits);
    kernels.free(mask);
    kernels.free(block);
    await toDealer.write(bytes);
  }
  await toDealer.finish();
}

/** A's seed, the caller's to clear once the offline phase is over. */
export async function clientSetup(_: Platform, __: Session, channels: { server: Channel }): Promise<Uint8Array> {
  return await new StreamReader(channels.server, setupFrame, seedBytes).read(seedBytes);
}

/** The dealer keeps V packed, by weight: what `held` lacks comes, and is added. */
export async function dealerSetup(
  _: Platform,
  { program }: Session,
  channels: { server: Channel },
  held: Map<string, Uint8Array> = new Map(),
): Promise<Map<string, Uint8Array>> {
  const stream = new StreamReader(channels.server, setupFrame, maskedBytes(program, held));
  const fresh = new Map<string, Uint8Array>();
  for (const node of weightNodes(program))
    if (!held.has(weightKey(node)) && !fresh.has(weightKey(node)))
      fresh.set(weightKey(node), await stream.read(packedBytes(size(node.shape), program.ring.bits)));
  for (const [key, bytes] of fresh) held.set(key, bytes);
  return held;
}

/** Bytes of V that a dealer who holds these still needs for a program. */
export function maskedBytes(program: RingProgram, held: { has(key: string): boolean } = new Set<string>()): number {
  const missing = new Map<string, number>();
  for (const node of weightNodes(program))
    if (!held.has(weightKey(node))) missing.set(weightKey(node), packedBytes(size(node.shape), program.ring.bits));
  return [...missing.values()].reduce((sum, bytes) => sum + bytes, 0);
}

// --- offline: once per run ---

/** Where a stream of material goes. */
export interface MaterialWriter {
  write(bytes: Uint8Array): Promise<void>;
  finish(): Promise<void>;
}

export async function dealerOffline(
  platform: Platform,
  session: Session,
  channels: { client: Channel; server: Channel },
  masked: ReadonlyMap<string, Uint8Array>,
): Promise<void> {
  const [client, server] = [channels.client, channels.server].map((channel) => new StreamWriter(channel, offlineFrame));
  await dealStreams(platform, session, { client: client!, server: server! }, masked);
}

/** A fresh master seed to each party, then every node's corrections and keys in the program's order. */
export async function dealStreams(
  platform: Platform,
  session: Session,
  writers: { client: MaterialWriter; server: MaterialWriter },
  masked: ReadonlyMap<string, Uint8Array>,
): Promise<void> {
  const { kernels, entropy, prg } = platform;
  const prgs = [];
  for (const pair of ['client', 'server'] as const) {
    const master = new Uint8Array(seedBytes);
    entropy(master);
    await writers[pair].write(master);
    await writers[pair].write(masterTag(platform, session, master));
    const seed = pairSeed(platform, session, master, pair);
    prgs.push(prg(seed));
    master.fill(0);
    seed.fill(0);
  }
  try {
    await deal({
      ...machine(platform, session),
      clientPads: pads(kernels, prgs[0]!),
      serverPads: pads(kernels, prgs[1]!),
      cipher: platform.cipher,
      maskedWeight: async (node) => {
        const block = kernels.allocate(size(node.shape));
        kernels.unpack(block, masked.get(weightKey(node))!, session.program.ring.bits);
        return block;
      },
      toServer: (bytes) => writers.server.write(bytes),
      toClient: (bytes) => writers.client.write(bytes),
    });
  } finally {
    for (const each of prgs) each.close?.();
  }
  await writers.server.finish();
  await writers.client.finish();
}

/** Where a party stores its bundle as it comes: the derived seed first. The bytes are the caller's again once it resolves. */
export type MaterialSink = (bytes: Uint8Array) => Promise<void>;

export async function clientOffline(
  platform: Platform,
  session: Session,
  channels: { server: Channel; dealer: Channel },
  maskSeed: Uint8Array,
  sink: MaterialSink,
): Promise<void> {
  const layout = materialLayout(session.program);
  const fromDealer = new StreamReader(channels.dealer, offlineFrame, masterBytes + layout.dealerToClientBytes);
  const seed = await receivedSeed(platform, session, fromDealer, { pair: 'client', sender: channels.dealer.peer });
  await sink(seed);
  const prg = platform.prg(seed);
  seed.fill(0);
  const halves = clientHalves(platform, session, prg, maskSeed, new StreamWriter(channels.server, offlineFrame));
  // Both directions at once: the dealer may wait for this stream to be read before it goes on with the server's.
  await Promise.all([fromDealer.forEach(sink), halves.finally(() => prg.close?.())]);
}

/** The client's half of the linear correlations, to the server. */
export async function clientHalves(
  platform: Platform,
  session: Session,
  prg: Prg,
  maskSeed: Uint8Array,
  toServer: MaterialWriter,
): Promise<void> {
  await prepare({
    ...machine(platform, session),
    pads: pads(platform.kernels, prg),
    mask: async (node) => weightMask(platform.kernels, node, maskSeed, platform),
    toServer: (bytes) => toServer.write(bytes),
  });
  await toServer.finish();
}

export async function serverOffline(
  platform: Platform,
  session: Session,
  channels: { client: Channel; dealer: Channel },
  sink: MaterialSink,
): Promise<void> {
  await serverFromDealer(platform, session, channels.dealer, sink);
  await serverFromClient(session, channels.client, sink);
}

/** The first part of the server's bundle: its seed and the dealer's corrections and keys. No client is needed for it. */
export async function serverFromDealer(platform: Platform, session: Session, dealer: Channel, sink: MaterialSink): Promise<void> {
  const layout = materialLayout(session.program);
  const fromDealer = new StreamReader(dealer, offlineFrame, masterBytes + layout.dealerToServerBytes);
  const seed = await receivedSeed(platform, session, fromDealer, { pair: 'server', sender: dealer.peer });
  await sink(seed);
  seed.fill(0);
  await fromDealer.forEach(sink);
}

/** The rest: the client's halves of linear maps. */
export async function serverFromClient({ program }: Session, client: Channel, sink: MaterialSink): Promise<void> {
  await new StreamReader(client, offlineFrame, materialLayout(program).clientToServerBytes).forEach(sink);
}
