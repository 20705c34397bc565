import { frameHeaderBytes } from '../../net/frame.ts';
import type { Network } from '../../net/shaped.ts';
import { size } from '../../program/index.ts';
import {
  formOf,
  isLate,
  maskedNodes,
  maskedWeights,
  materialOf,
  packedBytes,
  ReadyNodes,
  type RingNode,
  type RingProgram,
  rowOf,
  type Side,
  schedule,
  wordBitsOf,
  workOf,
} from '../ring/index.ts';
import { type Setting, streamChunkBytes } from './forecast.ts';
import { amountsOf, type MachineProfile, type RingSeconds, secondsFor } from './machine.ts';

/** Seconds of a run's online phase, and what they consist of; the parties' computing overlaps with nothing but the other's. */
export interface OnlineSeconds {
  readonly seconds: number;
  /** Bytes over the bandwidth plus latency of every frame that was waited for. */
  readonly networkSeconds: number;
  readonly clientComputeSeconds: number;
  readonly serverComputeSeconds: number;
}
export interface RunSeconds {
  readonly setup: number;
  readonly offline: number;
  readonly online: OnlineSeconds;
}

/** One party's clock: it runs what is ready before it speaks, and expands the keys of lookups while it waits. */
class Party {
  now = 0;
  computed = 0;
  readonly #program: RingProgram;
  readonly #side: Side;
  readonly #machine: MachineProfile;
  readonly #rates: RingSeconds;
  readonly #loaded: Uint8Array;
  readonly #ready: ReadyNodes;
  /** Nodes that have started and wait for their peer's word. */
  readonly #waiting = new Set<number>();
  readonly #heard = new Set<number>();
  readonly #receives: Uint8Array;
  readonly #ahead: number[];
  /** Seconds of expanding that are left, by lookup. */
  readonly #expanding = new Map<number, number>();

  constructor(program: RingProgram, side: Side, machine: MachineProfile, receives: Uint8Array) {
    const rates = machine.rings[wordBitsOf(program.ring.bits)];
    this.#machine = machine;
    this.#program = program;
    this.#side = side;
    this.#rates = rates;
    this.#receives = receives;
    const { nodes } = program;
    this.#ready = new ReadyNodes(program, side);
    this.#loaded = new Uint8Array(nodes.length);
    this.#ahead = nodes.flatMap((node, index) => (workOf(node).expandedPoints === undefined ? [] : [index]));
    for (const index of this.#ahead)
      this.#expanding.set(index, (workOf(nodes[index]!).expandedPoints ?? 0) * rates.expandedPoint);
  }

  compute(): void {
    for (let ready = this.#ready.take(); ready.length > 0; ready = this.#ready.take())
      for (const index of ready) this.#start(index);
  }

  /** Waits for a frame; what is left of the time until then goes to keys that will be needed. */
  waitUntil(time: number): void {
    for (let next = this.#ahead[0]; next !== undefined && this.now < time; next = this.#ahead[0]) {
      const left = this.#expanding.get(next) ?? 0;
      const done = Math.min(left, time - this.now);
      this.#take(done);
      this.#expanding.set(next, left - done);
      if (done === left) this.#ahead.shift();
    }
    this.now = Math.max(this.now, time);
  }

  hear(index: number): void {
    if (this.#waiting.delete(index)) this.#finish(index);
    else this.#heard.add(index);
  }

  /** After its frame has gone: what is computed behind a masked argument. */
  said(index: number): void {
    if (isLate(this.#program.nodes[index]!)) this.#finish(index);
  }

  #take(seconds: number): void {
    this.now += seconds;
    this.computed += seconds;
  }

  #plain(index: number): void {
    if (this.#loaded[index] === 1) return;
    this.#loaded[index] = 1;
    const node = this.#program.nodes[index]!;
    for (const input of node.inputs) this.#plain(input);
    if (this.#side === 'client') return;
    if (rowOf(node).source === 'server') this.#take(size(node.shape) * this.#rates.encodedWeight);
    else this.#spend(index, 'start');
  }

  #spend(index: number, part: 'start' | 'after'): void {
    const node = this.#program.nodes[index]!;
    const rates = this.#rates[this.#side][formOf(node, this.#program)]?.[part];
    if (rates !== undefined) this.#take(secondsFor(amountsOf(node, this.#program), rates));
  }

  /** Taking up a node, and reading its part of the bundle. */
  #load(index: number): void {
    const { overhead, bundle } = this.#machine;
    const { dealerToServer, dealerToClient, clientToServer } = materialOf(this.#program.nodes[index]!, this.#program);
    const parts = this.#side === 'client' ? [dealerToClient] : [dealerToServer, clientToServer];
    this.now += overhead.nodeSeconds;
    for (const bytes of parts) if (bytes > 0) this.now += bundle.readSeconds + bytes * overhead.byteSeconds;
  }

  #start(index: number): void {
    const node = this.#program.nodes[index]!;
    for (const input of node.inputs) if (this.#program.nodes[input]!.state === 'server') this.#plain(input);
    this.#load(index);
    this.#spend(index, 'start');
    const later = this.#receives[index] === 1 || (isLate(node) && this.#side === 'server');
    if (!later) {
      this.#expanded(index);
      this.#ready.settle(index);
    } else if (this.#heard.delete(index)) this.#finish(index);
    else this.#waiting.add(index);
  }

  #finish(index: number): void {
    this.#waiting.delete(index);
    this.#expanded(index);
    this.#spend(index, 'after');
    this.#ready.settle(index);
  }

  /** What is left of its keys. */
  #expanded(index: number): void {
    this.#take(this.#expanding.get(index) ?? 0);
    this.#expanding.delete(index);
  }
}

/**
 * How long the online phase takes: both parties' programs and the schedule, walked through on a machine's speeds and a network's latency
 * and bandwidth. Each party has a core of its own.
 */
export function onlineSeconds(program: RingProgram, machine: MachineProfile, network: Network): OnlineSeconds {
  const hops = schedule(program);
  const marks = { client: new Uint8Array(program.nodes.length), server: new Uint8Array(program.nodes.length) };
  for (const { direction, messages } of hops) {
    const to = direction === 'clientToServer' ? marks.server : marks.client;
    for (const { node } of messages) to[node] = 1;
  }
  const parties = {
    client: new Party(program, 'client', machine, marks.client),
    server: new Party(program, 'server', machine, marks.server),
  };
  const linkFree = { clientToServer: 0, serverToClient: 0 };
  let onNetwork = 0;
  for (const hop of hops) {
    const [from, to] = hop.direction === 'clientToServer' ? [parties.client, parties.server] : [parties.server, parties.client];
    from.compute();
    to.compute();
    const bytes = hop.bytes + frameHeaderBytes;
    const handling = machine.frame.seconds + bytes * machine.frame.byteSeconds;
    const leaves = Math.max(from.now, linkFree[hop.direction]);
    linkFree[hop.direction] = leaves + (8 * bytes) / network.bitsPerSecond;
    const arrives = linkFree[hop.direction] + network.roundTripSeconds / 2 + handling;
    onNetwork += Math.max(0, arrives - Math.max(from.now, to.now));
    to.waitUntil(arrives);
    for (const { node } of hop.messages) from.said(node);
    for (const { node } of hop.messages) to.hear(node);
  }
  parties.client.compute();
  parties.server.compute();
  return {
    seconds: Math.max(parties.client.now, parties.server.now),
    networkSeconds: onNetwork,
    clientComputeSeconds: parties.client.computed,
    serverComputeSeconds: parties.server.computed,
  };
}

/** As much as is under way on a connection before its writer waits. */
const bufferBytes = 8 * 2 ** 20;

const pieceBytes = 2 ** 22;

/** One stream of material behind its writer's clock. */
class Stream {
  free = 0;
  readonly #network: Network;

  constructor(network: Network) {
    this.#network = network;
  }
  /** The time at which the writer may go on. */
  write(now: number, bytes: number): number {
    if (bytes === 0) return now;
    this.free = Math.max(this.free, now) + (8 * bytes) / this.#network.bitsPerSecond;
    return Math.max(now, this.free - (8 * bufferBytes) / this.#network.bitsPerSecond);
  }
}

/** The dealer and the client make material side by side; it is over when the server has stored both streams and the client its own. */
export function offlineSeconds(program: RingProgram, machine: MachineProfile, network: Network): number {
  const rates = machine.rings[wordBitsOf(program.ring.bits)];
  const masked = maskedNodes(program);
  const streams = { server: new Stream(network), client: new Stream(network), halves: new Stream(network) };
  let [dealer, client, stored] = [0, 0, 0];
  for (const [index, node] of program.nodes.entries()) {
    const weights = rowOf(node).source === 'server' && masked[index] === 1 ? size(node.shape) : 0;
    const amounts = { ...amountsOf(node, program), keyLevels: workOf(node).keyLevels ?? 0, weights };
    const material = materialOf(node, program);
    dealer += secondsFor(amounts, rates.dealer);
    // Large material goes out in pieces, to both in turn.
    const pieces = Math.max(1, Math.ceil(Math.max(material.dealerToServer, material.dealerToClient) / pieceBytes));
    for (let piece = 0; piece < pieces; piece++) {
      dealer = streams.server.write(dealer, material.dealerToServer / pieces);
      dealer = streams.client.write(dealer, material.dealerToClient / pieces);
    }
    client += secondsFor(
      {
        ...amounts,
        panelProducts: maskedOnly(node, amounts.panelProducts),
        rowProducts: maskedOnly(node, amounts.rowProducts),
      },
      rates.prepare,
    );
    client = streams.halves.write(client, material.clientToServer);
    stored += Math.max(material.dealerToServer + material.clientToServer, material.dealerToClient);
  }
  const arrived = Math.max(dealer, client, streams.server.free, streams.client.free, streams.halves.free);
  return (
    arrived + network.roundTripSeconds / 2 + stored * (machine.bundle.storedByteSeconds + machine.overhead.offlineByteSeconds)
  );
}

/** Products of masked weights are what a client makes before a run. */
const maskedOnly = (node: RingNode, products: number): number => (rowOf(node).masksWeight === true ? products : 0);

/** The server masks its weights and sends them to the dealer, once a model. */
export function setupSeconds(program: RingProgram, machine: MachineProfile, network: Network): number {
  const rates = machine.rings[wordBitsOf(program.ring.bits)];
  const stream = new Stream(network);
  let now = 0;
  for (const index of maskedWeights(program)) {
    const count = size(program.nodes[index]!.shape);
    now += count * rates.maskedWeight;
    for (let left = packedBytes(count, program.ring.bits); left > 0; left -= streamChunkBytes) {
      const bytes = Math.min(left, streamChunkBytes);
      now = stream.write(now + bytes * machine.frame.byteSeconds, bytes);
    }
  }
  return Math.max(now, stream.free) + network.roundTripSeconds / 2;
}

/**
 * All three phases of a run. With a helper, material comes while the run goes on: there is no offline phase, and the run takes as long as
 * the slower of the two.
 */
export function runSeconds(
  program: RingProgram,
  machine: MachineProfile,
  network: Network,
  setting: Setting = 'dealer',
): RunSeconds {
  const offline = offlineSeconds(program, machine, network);
  const online = onlineSeconds(program, machine, network);
  const setup = setupSeconds(program, machine, network);
  if (setting === 'dealer') return { setup, offline, online };
  return { setup, offline: 0, online: { ...online, seconds: Math.max(online.seconds, offline) } };
}
