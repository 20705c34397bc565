import type { Channel } from '../../src/net/contract.ts';

export const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export const plain = (channel: Channel): Channel => ({
  peer: channel.peer,
  counters: channel.counters,
  send: (kind, payload) => channel.send(kind, payload),
  receive: () => channel.receive(),
  close: (reason) => channel.close(reason),
});

/** A pair without room on the way: a send ends once the other end has received the frame. */
export const unbuffered = ([first, second]: [Channel, Channel]): [Channel, Channel] => {
  const end = (own: Channel, other: Channel): Channel => ({
    ...plain(own),
    send: async (kind, payload) => {
      await own.send(kind, payload);
      const sent = own.counters.sentFrames;
      while (other.counters.receivedFrames < sent) await breathe();
    },
  });
  return [end(first, second), end(second, first)];
};

/** Fails the test, not the suite's patience, where something hangs. */
export const within = async <T>(milliseconds: number, work: Promise<T>): Promise<T> => {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`still going after ${milliseconds} ms`)), milliseconds);
  });
  return await Promise.race([work, late]).finally(() => clearTimeout(timer));
};
