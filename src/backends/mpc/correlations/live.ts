import { SottoError } from '../../../errors/index.ts';
import { sectionEnds } from '../../cost/index.ts';
import { materialOf, piecesOf, type RingProgram } from '../../ring/index.ts';
import type { Trouble } from '../trouble.ts';
import { type MaterialSource, materialLayout, storedClientCorrelations, storedServerCorrelations } from './bundle.ts';
import type { ClientCorrelations, ServerCorrelations } from './contract.ts';
import { dueAfter } from './hold-back.ts';

/** One stream of material, node by node in the program's order. */
export interface MaterialStream {
  read(count: number): Promise<Uint8Array>;
}

/** A piece of a stream: where it lies in the material, and after how many frames of the run it must be let through. */
export interface Coming {
  readonly offset: number;
  readonly bytes: number;
  readonly dueAfter: number;
}

/** As much is kept for later; a piece that comes when less is kept is read too. */
const mostKeptBytes = 32 * 2 ** 20;

/**
 * Material that is used while it is still being made. A node's bytes are kept from when they come to when the node is loaded, and a
 * load waits for bytes that have not come. Where 32 MiB wait for their node, the streams are not read on, which holds up the sender,
 * unless somebody here waits for a load or the piece is due (hold-back.ts): then nobody who sends material is held up by the run, so every load ends.
 */
export class LiveMaterial implements MaterialSource {
  readonly #trouble: Trouble;
  readonly #arrived = new Map<number, Uint8Array>();
  readonly #wanted = new Map<number, (bytes: Uint8Array) => void>();
  readonly #limitBytes: number;
  readonly #paused = new Set<() => void>();
  #keptBytes = 0;
  #peakBytes = 0;
  #frames = 0;

  constructor(trouble: Trouble, limitBytes = mostKeptBytes) {
    this.#trouble = trouble;
    this.#limitBytes = limitBytes;
  }

  /** Most bytes that waited for their node at a time. */
  get peakBytes(): number {
    return this.#peakBytes;
  }

  /** Reads a stream to its end. */
  async follow(stream: MaterialStream, pieces: Iterable<Coming>): Promise<void> {
    for (const { offset, bytes, dueAfter } of pieces) {
      if (bytes === 0) continue;
      while (this.#keptBytes >= this.#limitBytes && this.#wanted.size === 0 && dueAfter > this.#frames)
        await this.#trouble.guard(new Promise<void>((resolve) => void this.#paused.add(resolve)));
      this.#arrive(offset, await stream.read(bytes));
    }
  }

  /** So many frames of the run have gone, both ways. */
  reached(frames: number): void {
    this.#frames = frames;
    this.#goOn();
  }

  #goOn(): void {
    for (const resume of this.#paused) resume();
    this.#paused.clear();
  }

  has(offset: number): boolean {
    return this.#arrived.has(offset);
  }

  read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = this.#arrived.get(offset);
    if (bytes === undefined) {
      const coming = this.#trouble.guard(new Promise<Uint8Array>((resolve) => void this.#wanted.set(offset, resolve)));
      this.#goOn();
      return coming;
    }
    if (bytes.length !== length)
      throw new SottoError('usage', `${length} bytes asked for where a node has ${bytes.length}`, {
        remedy: 'this is a defect of sotto: report it',
      });
    this.#arrived.delete(offset);
    this.#keptBytes -= length;
    this.#goOn();
    return Promise.resolve(bytes);
  }

  #arrive(offset: number, bytes: Uint8Array): void {
    const wanted = this.#wanted.get(offset);
    if (wanted !== undefined) {
      this.#wanted.delete(offset);
      wanted(bytes);
      return;
    }
    this.#arrived.set(offset, bytes);
    this.#keptBytes += bytes.length;
    this.#peakBytes = Math.max(this.#peakBytes, this.#keptBytes);
  }
}

type Stored = Parameters<typeof storedClientCorrelations>[0];
export interface LiveOptions extends Pick<Stored, 'kernels' | 'program' | 'prg'> {
  readonly trouble: Trouble;
  readonly keptBytes?: number | undefined;
}

/** Correlations from streams that come while the run goes on, and the reading of them, which ends when they end. */
export interface Live<C> {
  readonly correlations: C & { ready(node: number): boolean; reached(frames: number): void };
  readonly reading: Promise<unknown>;
  readonly material: LiveMaterial;
}

/** The server's: corrections from the helper, halves of linear maps from the client. */
export function liveServerCorrelations(
  options: LiveOptions,
  streams: { readonly helper: MaterialStream; readonly client: MaterialStream },
): Live<ServerCorrelations> {
  const { program, trouble } = options;
  const layout = materialLayout(program);
  const material = new LiveMaterial(trouble, options.keptBytes);
  const fromHelper = (node: number): number => layout.serverFromDealer[node]!;
  const fromClient = (node: number): number => layout.dealerToServerBytes + layout.serverFromClient[node]!;
  return {
    material,
    correlations: {
      ...storedServerCorrelations({ ...options, layout, source: material }),
      reached: (frames) => material.reached(frames),
      ready: (node) => {
        const { dealerToServer, clientToServer } = materialOf(program.nodes[node]!, program);
        return arrived(material, fromHelper(node), dealerToServer) && arrived(material, fromClient(node), clientToServer);
      },
    },
    reading: Promise.all([
      material.follow(streams.helper, pieces(program, fromHelper, 'dealerToServer')),
      material.follow(streams.client, pieces(program, fromClient, 'clientToServer')),
    ]),
  };
}

/** The client's: keys from the helper. */
export function liveClientCorrelations(
  options: LiveOptions,
  streams: { readonly helper: MaterialStream },
): Live<ClientCorrelations> {
  const { program, trouble } = options;
  const layout = materialLayout(program);
  const material = new LiveMaterial(trouble, options.keptBytes);
  const fromHelper = (node: number): number => layout.clientFromDealer[node]!;
  return {
    material,
    correlations: {
      ...storedClientCorrelations({ ...options, layout, source: material }),
      reached: (frames) => material.reached(frames),
      ready: (node) => arrived(material, fromHelper(node), materialOf(program.nodes[node]!, program).dealerToClient),
    },
    reading: material.follow(streams.helper, pieces(program, fromHelper, 'dealerToClient')),
  };
}

const arrived = (material: LiveMaterial, offset: number, bytes: number): boolean => bytes === 0 || material.has(offset);

/**
 * Every piece of a stream, in order. A node's first piece may be loaded before the node's own message is sent, and its end may go out with
 * the second one, so these are due with the node. The others are used up by both parties as they come, once that message has gone: only
 * a later section makes them due.
 */
function* pieces(
  program: RingProgram,
  offset: (node: number) => number,
  stream: 'dealerToServer' | 'dealerToClient' | 'clientToServer',
): Generator<Coming> {
  const due = dueAfter(program);
  const ends = sectionEnds(program);
  for (const [index, node] of program.nodes.entries()) {
    if (stream === 'clientToServer') {
      yield { offset: offset(index), bytes: materialOf(node, program).clientToServer, dueAfter: due[index]! };
      continue;
    }
    let at = offset(index);
    if (index >= ends[0]!) ends.shift();
    for (const [number, piece] of piecesOf(node, program).entries()) {
      // A node of several pieces ends its section.
      yield { offset: at, bytes: piece[stream], dueAfter: due[number < 2 ? index : ends[0]!]! };
      at += piece[stream];
    }
  }
}
