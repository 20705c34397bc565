import { SottoError } from '../../errors/index.ts';
import { BlockCounts } from '../../kernels/index.ts';
import type { Channel, Frame } from '../../net/contract.ts';
import { frameHeaderBytes } from '../../net/frame.ts';
import {
  type Direction,
  type Hop,
  isLate,
  type Message,
  mostFrameBytes,
  packedBytes,
  ReadyNodes,
  type Side,
  schedule,
} from '../ring/index.ts';
import { FrameReader, FrameWriter } from './frames.ts';
import { Ledger } from './ledger.ts';
import { type Held, type Machine, type NumberedNode, nothing, type Protocol, type Step } from './protocol.ts';

/** The kind of every online frame on the client–server channel. */
export const onlineFrame = 1;

export interface RunOptions extends Machine {
  readonly side: Side;
  readonly protocol: Protocol;
  readonly channel: Channel;
  /** Makes ready what a node reads besides its inputs: weights, material, the client's next input. */
  readonly load: (node: NumberedNode) => Promise<void> | undefined;
  /** Milliseconds, for the ledger. */
  readonly now: () => number;
  /** One piece of work that will be needed later, done while the peer is waited for; false where there is none. */
  readonly idle?: () => Promise<boolean>;
  /** Is told how many frames have gone, both ways, before the next one is waited for or sent. */
  readonly reached?: ((frames: number) => void) | undefined;
  /** What a frame of another kind in the middle of a run means; the run ends with the error that this returns. */
  readonly interrupt?: (frame: Frame) => Error;
}

/**
 * Runs one party's protocol. Every node whose inputs are there runs; what the nodes say is packed into one frame a hop, in the order
 * that `schedule` fixes for both parties. A frame of another size than the schedule's is a `peer` error.
 */
export async function runParty(options: RunOptions): Promise<Ledger> {
  const run = new Run(options);
  try {
    await run.all(schedule(options.program));
  } finally {
    run.end();
  }
  return run.ledger;
}

class Run {
  readonly ledger = new Ledger();
  readonly #options: RunOptions;
  readonly #nodes: NumberedNode[];
  readonly #values: (Held | undefined)[];
  readonly #held: BlockCounts;
  readonly #uses: Int32Array;
  readonly #ready: ReadyNodes;
  readonly #waiting = new Map<number, Step>();
  /** Steps whose message comes before their work: they go on when it is on its way. */
  readonly #deferred = new Map<number, Step>();
  readonly #outbox = new Map<number, Uint8Array>();
  readonly #inbox = new Map<number, Uint8Array>();
  /** Every frame that goes out, one after the other. */
  #frame = new Uint8Array(0);

  constructor(options: RunOptions) {
    this.#options = options;
    this.#nodes = options.program.nodes.map((node, index) => ({ ...node, index }) as NumberedNode);
    this.#values = new Array(this.#nodes.length);
    this.#held = new BlockCounts(options.kernels);
    this.#uses = new Int32Array(this.#nodes.length);
    for (const node of this.#nodes) for (const input of node.inputs) this.#uses[input]!++;
    this.#ready = new ReadyNodes(options.program, options.side);
  }

  async all(hops: readonly Hop[]): Promise<void> {
    const most = hops.reduce((bytes, hop) => Math.max(bytes, isMine(hop.direction, this.#options.side) ? hop.bytes : 0), 0);
    this.#frame = new Uint8Array(Math.min(most, mostFrameBytes));
    for (const [frames, hop] of hops.entries()) {
      this.#options.reached?.(frames);
      await this.#compute();
      if (isMine(hop.direction, this.#options.side)) await this.#send(hop);
      else await this.#receive(hop);
    }
    this.#options.reached?.(hops.length);
    await this.#compute();
    if (this.#waiting.size > 0) this.#broken('the schedule ended with steps still waiting');
  }

  end(): void {
    this.#held.releaseAll();
  }

  #broken(reason: string): never {
    throw new SottoError('peer', reason, {
      place: { party: this.#options.channel.peer },
      remedy: 'check that both parties run the same version of sotto',
    });
  }

  async #compute(): Promise<void> {
    for (let ready = this.#ready.take(); ready.length > 0; ready = this.#ready.take())
      for (const index of ready) await this.#start(this.#nodes[index]!);
  }

  async #start(node: NumberedNode): Promise<void> {
    const inputs: Held[] = [];
    for (const input of node.inputs) inputs.push(this.#values[input] ?? (await this.#plain(this.#nodes[input]!)));
    const loading = this.#options.load(node);
    if (loading !== undefined) await loading;
    const more = this.#timed(node, () => {
      const result = this.#apply(node, inputs);
      if ('next' in result) return this.#advance(node, result, undefined);
      this.#settle(node, result);
      return undefined;
    });
    if (more !== undefined) await more;
  }

  #timed<T>(node: NumberedNode, work: () => T): T {
    const start = this.#options.now();
    const result = work();
    this.ledger.at(node.scope).seconds += (this.#options.now() - start) / 1000;
    return result;
  }

  #apply(node: NumberedNode, inputs: Held[]): Held | Step {
    return (this.#options.protocol[node.operation] as (node: NumberedNode, ...inputs: Held[]) => Held | Step)(node, ...inputs);
  }

  /** A server's plaintext and the moves of it, where they are first read: they hold nobody up and are not in memory before. */
  async #plain(node: NumberedNode): Promise<Held> {
    const inputs: Held[] = [];
    for (const input of node.inputs) inputs.push(this.#values[input] ?? (await this.#plain(this.#nodes[input]!)));
    const loading = this.#options.load(node);
    if (loading !== undefined) await loading;
    const result = this.#apply(node, inputs) as Held;
    this.#keep(node, result);
    return result;
  }

  /** Runs a step until it waits for bytes that are not there, or is done; a promise where it goes on once more material is loaded. */
  #advance(node: NumberedNode, step: Step, received: Uint8Array | undefined): Promise<void> | undefined {
    let result = received === undefined ? step.next() : step.next(received);
    while (!result.done) {
      if ('send' in result.value) {
        this.#outbox.set(node.index, result.value.send);
        if (isLate(node)) {
          this.#deferred.set(node.index, step);
          return undefined;
        }
        result = step.next(empty);
        continue;
      }
      if ('load' in result.value) return this.#loaded(node, step, result.value.load());
      const bytes = this.#inbox.get(node.index);
      if (bytes === undefined) {
        this.#waiting.set(node.index, step);
        return undefined;
      }
      this.#inbox.delete(node.index);
      result = step.next(bytes);
    }
    this.#settle(node, result.value);
    return undefined;
  }

  async #loaded(node: NumberedNode, step: Step, loading: Promise<void>): Promise<void> {
    await loading;
    await this.#timed(node, () => this.#advance(node, step, empty));
  }

  #keep(node: NumberedNode, value: Held): void {
    if (value.block !== undefined) this.#held.hold(value.block);
    this.#values[node.index] = value;
    for (const input of node.inputs) this.#used(input);
    if (this.#uses[node.index] === 0) this.#drop(node.index);
  }

  #settle(node: NumberedNode, value: Held): void {
    this.#keep(node, value);
    this.#ready.settle(node.index);
  }

  #used(index: number): void {
    if (--this.#uses[index]! === 0) this.#drop(index);
  }

  #drop(index: number): void {
    const block = this.#values[index]?.block;
    if (block !== undefined) this.#held.release(block);
    this.#values[index] = nothing;
  }

  async #send(hop: Hop): Promise<void> {
    const { channel } = this.#options;
    const frames = new FrameWriter(hop.bytes, this.#frame, async (frame) => {
      await channel.send(onlineFrame, frame);
      this.ledger.frame(hop.direction, frame.length + frameHeaderBytes);
    });
    for (const message of hop.messages) {
      const bytes = this.#outbox.get(message.node);
      const { scope } = this.#nodes[message.node]!;
      if (bytes === undefined || bytes.length !== message.bytes)
        throw new SottoError('usage', `a message of ${bytes?.length ?? 'no'} bytes where ${message.bytes} are declared`, {
          place: { scope },
          remedy: 'this is a defect of sotto: report it with the scope',
        });
      this.#outbox.delete(message.node);
      this.ledger.message(message.node, scope, hop.direction, bytes.length);
      const sending = frames.write(bytes);
      if (sending !== undefined) await sending;
    }
    if (!hop.follows) this.ledger.hops += 1;
    for (const { node } of hop.messages) {
      const step = this.#deferred.get(node);
      if (step === undefined) continue;
      this.#deferred.delete(node);
      await this.#timed(this.#nodes[node]!, () => this.#advance(this.#nodes[node]!, step, empty));
    }
  }

  async #nextFrame(): Promise<Frame> {
    const { channel, idle } = this.#options;
    const arriving = channel.receive();
    if (idle === undefined) return await arriving;
    let arrived = false;
    const note = (): void => {
      arrived = true;
    };
    arriving.then(note, note);
    while (!arrived && (await idle()));
    return await arriving;
  }

  /** The next frame's payload, which must have so many bytes. */
  async #payload(hop: Hop, bytes: number): Promise<Uint8Array> {
    const frame = await this.#nextFrame();
    if (frame.kind !== onlineFrame && this.#options.interrupt !== undefined) throw this.#options.interrupt(frame);
    if (frame.kind !== onlineFrame) this.#broken(`a frame of kind ${frame.kind} in the middle of a run`);
    if (frame.payload.length !== bytes)
      this.#broken(`a frame of ${frame.payload.length} bytes where the program asks for ${bytes}`);
    this.ledger.frame(hop.direction, bytes + frameHeaderBytes);
    return frame.payload;
  }

  async #receive(hop: Hop): Promise<void> {
    const frames = new FrameReader(hop.bytes, (bytes) => this.#payload(hop, bytes));
    for (const message of hop.messages) {
      const node = this.#nodes[message.node]!;
      const bytes = frames.held(message.bytes) ?? (await frames.read(message.bytes));
      if (!paddedWithZeros(bytes, message)) this.#broken('a message whose padding is not zero');
      this.ledger.message(message.node, node.scope, hop.direction, bytes.length);
      const step = this.#waiting.get(message.node);
      if (step === undefined) this.#inbox.set(message.node, bytes);
      else {
        this.#waiting.delete(message.node);
        await this.#timed(node, () => this.#advance(node, step, bytes));
      }
    }
    if (!hop.follows) this.ledger.hops += 1;
  }
}

const empty = new Uint8Array(0);

/** Whether the bits behind the last word of every field are zero: kernels refuse others, without knowing whose bytes they are. */
function paddedWithZeros(bytes: Uint8Array, { fields }: Message): boolean {
  let end = 0;
  return fields.every(({ count, width }) => {
    end += packedBytes(count, width);
    const used = (count * width) % 8;
    return used === 0 || bytes[end - 1]! >> used === 0;
  });
}
const isMine = (direction: Direction, side: Side): boolean => (direction === 'clientToServer') === (side === 'client');
