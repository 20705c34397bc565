import { SottoError } from '../errors/index.ts';
import type { Alarm, Channel, Pipe } from '../net/contract.ts';
import { framedChannel } from '../net/framed.ts';

/** What is used of a browser's WebSocket. */
export interface PageSocket {
  binaryType: string;
  readonly readyState: number;
  readonly bufferedAmount: number;
  onopen: ((event: never) => unknown) | null;
  onmessage: ((event: never) => unknown) | null;
  onclose: ((event: never) => unknown) | null;
  onerror: ((event: never) => unknown) | null;
  send(bytes: Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
}

export interface PageChannelOptions {
  readonly peer: string;
  readonly timeoutMilliseconds: number;
  readonly maximumPayloadBytes?: number;
}

const open = 1;
const closed = 3;
/** Messages have no more, in either direction. */
const messageBytes = 2 ** 18;
/** What may wait to be sent before a sender waits, and how often it looks: a page is not told when bytes have gone. */
const bufferedBytes = 2 ** 20;
const lookMilliseconds = 5;
/** A page cannot hold a sender back. What it has not read yet may grow to this; then the sender has broken the turns of the protocol. */
const unreadBytes = 128 * 2 ** 20;

const alarm: Alarm = (milliseconds, expired) => {
  const timer = setTimeout(expired, milliseconds);
  return () => clearTimeout(timer);
};

/** Waits for a WebSocket that is being opened. A browser does not say why one fails, so the error names what may be wrong. */
export function pageChannel(socket: PageSocket, url: string, options: PageChannelOptions): Promise<Channel> {
  const { peer, timeoutMilliseconds } = options;
  socket.binaryType = 'arraybuffer';
  // From now on, so that nothing that comes with the opening is lost.
  const pipe = socketPipe(socket, peer);
  return new Promise((resolve, reject) => {
    const failed = (reason: string) => {
      cancel();
      pipe.destroy();
      const remedy = `start the ${peer}; check the address, its certificate in this browser, and that it takes pages of this origin`;
      reject(new SottoError('peer', `the ${peer} ${reason}`, { place: { party: peer }, remedy }));
    };
    const cancel = alarm(timeoutMilliseconds, () => failed(`did not answer at ${url} within ${timeoutMilliseconds} ms`));
    socket.onopen = () => {
      cancel();
      const { maximumPayloadBytes } = options;
      const timeout = { milliseconds: timeoutMilliseconds, alarm };
      resolve(framedChannel(pipe, { peer, timeout, ...(maximumPayloadBytes === undefined ? {} : { maximumPayloadBytes }) }));
    };
    pipe.broken.then(() => failed(`cannot be reached at ${url}`));
  });
}

/** `broken` resolves when the socket has closed. */
function socketPipe(socket: PageSocket, peer: string): Pipe & { broken: Promise<void> } {
  const chunks: Uint8Array[] = [];
  let unread = 0;
  let failure: SottoError | null = null;
  let ended = false;
  let wake: (() => void) | null = null;
  const awaken = () => {
    wake?.();
    wake = null;
  };
  const refuse = (reason: string) => {
    failure ??= new SottoError('peer', `the ${peer} ${reason}`, {
      place: { party: peer },
      remedy: 'run the same version of sotto on both sides and connect to no other program',
    });
    socket.close();
    awaken();
  };
  socket.onmessage = ({ data }: { data: unknown }) => {
    if (!(data instanceof ArrayBuffer)) return refuse('sent a text message');
    if (data.byteLength > messageBytes) return refuse(`sent a message of ${data.byteLength} bytes`);
    unread += data.byteLength;
    if (unread > unreadBytes) return refuse(`sent ${unread} bytes that nobody had asked for yet`);
    if (data.byteLength > 0) chunks.push(new Uint8Array(data));
    awaken();
  };
  // A close follows, and says no less.
  socket.onerror = () => undefined;
  const broken = new Promise<void>((resolve) => {
    socket.onclose = () => {
      ended = true;
      awaken();
      resolve();
    };
  });
  const drained = async () => {
    while (socket.bufferedAmount > bufferedBytes && socket.readyState === open)
      await new Promise((resolve) => setTimeout(resolve, lookMilliseconds));
  };
  return {
    broken,
    async write(parts) {
      for (const message of messagesOf(parts)) {
        await drained();
        if (socket.readyState !== open) throw new Error('the WebSocket is closed');
        // It copies: the caller may reuse its bytes at once.
        socket.send(message);
      }
      await drained();
    },
    async read() {
      for (;;) {
        const chunk = failure ? undefined : chunks.shift();
        if (chunk) {
          unread -= chunk.length;
          return chunk;
        }
        if (failure) throw failure;
        if (ended || socket.readyState === closed) return null;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    async end() {
      socket.close(1000);
      await broken;
    },
    destroy: () => {
      if (socket.readyState !== closed) socket.close();
    },
  };
}

/** A frame below this goes out as one message, behind its header. */
const joinedBytes = 16_384;

function messagesOf(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer>[] {
  const bytes = parts.reduce((sum, part) => sum + part.length, 0);
  if (parts.length > 1 && bytes <= joinedBytes) {
    const message = new Uint8Array(bytes);
    let at = 0;
    for (const part of parts) {
      message.set(part, at);
      at += part.length;
    }
    return [message];
  }
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  for (const part of parts as readonly Uint8Array<ArrayBuffer>[])
    for (let at = 0; at < part.length; at += messageBytes) pieces.push(part.subarray(at, at + messageBytes));
  return pieces;
}
