import { SottoError } from '../../../errors/index.ts';
import { materialOf, type RingProgram } from '../../ring/index.ts';
import type { Trouble } from '../trouble.ts';
import { type MaterialSource, materialLayout, storedClientCorrelations, storedServerCorrelations } from './bundle.ts';
import type { ClientCorrelations, ServerCorrelations } from './contract.ts';
import { piecesOf } from './pieces.ts';

/** One stream of material, node by node in the program's order. */
export interface MaterialStream {
  read(count: number): Promise<Uint8Array>;
}

/**
 * Material that is used while it is still being made. A node's bytes are kept from when they come to when the node is loaded, and a
 * load waits for bytes that have not come. The streams are read whether or not anybody waits: who sends material is never held up by
 * the run, so it ends, and every load ends with it. The price is memory: as much as the sender is ahead of the run, at most all of the
 * party's material of one run (`materialLayout`).
 */
export class LiveMaterial implements MaterialSource {
  readonly #trouble: Trouble;
  readonly #arrived = new Map<number, Uint8Array>();
  readonly #wanted = new Map<number, (bytes: Uint8Array) => void>();
  #keptBytes = 0;
  #peakBytes = 0;

  constructor(trouble: Trouble) {
    this.#trouble = trouble;
  }

  /** Most bytes that waited for their node at a time. */
  get peakBytes(): number {
    return this.#peakBytes;
  }

  /** Reads a stream to its end. `pieces` gives the offset and the bytes of every node, in order. */
  async follow(stream: MaterialStream, pieces: Iterable<readonly [offset: number, bytes: number]>): Promise<void> {
    for (const [offset, bytes] of pieces) if (bytes > 0) this.#arrive(offset, await stream.read(bytes));
  }

  has(offset: number): boolean {
    return this.#arrived.has(offset);
  }

  read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = this.#arrived.get(offset);
    if (bytes === undefined)
      return this.#trouble.guard(new Promise<Uint8Array>((resolve) => void this.#wanted.set(offset, resolve)));
    if (bytes.length !== length)
      throw new SottoError('usage', `${length} bytes asked for where a node has ${bytes.length}`, {
        remedy: 'this is a defect of sotto: report it',
      });
    this.#arrived.delete(offset);
    this.#keptBytes -= length;
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
}

/** Correlations from streams that come while the run goes on, and the reading of them, which ends when they end. */
export interface Live<C> {
  readonly correlations: C & { ready(node: number): boolean };
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
  const material = new LiveMaterial(trouble);
  const fromHelper = (node: number): number => layout.serverFromDealer[node]!;
  const fromClient = (node: number): number => layout.dealerToServerBytes + layout.serverFromClient[node]!;
  return {
    material,
    correlations: {
      ...storedServerCorrelations({ ...options, layout, source: material }),
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
  const material = new LiveMaterial(trouble);
  const fromHelper = (node: number): number => layout.clientFromDealer[node]!;
  return {
    material,
    correlations: {
      ...storedClientCorrelations({ ...options, layout, source: material }),
      ready: (node) => arrived(material, fromHelper(node), materialOf(program.nodes[node]!, program).dealerToClient),
    },
    reading: material.follow(streams.helper, pieces(program, fromHelper, 'dealerToClient')),
  };
}

const arrived = (material: LiveMaterial, offset: number, bytes: number): boolean => bytes === 0 || material.has(offset);

/** Offset and bytes of every piece of a stream, in order. */
function* pieces(
  program: RingProgram,
  offset: (node: number) => number,
  stream: keyof ReturnType<typeof materialOf>,
): Generator<readonly [number, number]> {
  for (const [index, node] of program.nodes.entries()) {
    let at = offset(index);
    const parts = stream === 'clientToServer' ? [materialOf(node, program)] : piecesOf(node, program);
    for (const part of parts as readonly { readonly [S in typeof stream]?: number }[]) {
      yield [at, part[stream]!];
      at += part[stream]!;
    }
  }
}
