import type { ChannelEnd } from '../../src/backends/mpc/index.ts';
import type { Channel } from '../../src/net/contract.ts';

export const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export const plain = (channel: Channel): Channel => ({
  peer: channel.peer,
  counters: channel.counters,
  send: (kind, payload) => channel.send(kind, payload),
  receive: () => channel.receive(),
  close: (reason) => channel.close(reason),
});

/** An end of a pair without room on the way: a send ends once the other end has received the frame. */
const waiting = (own: Channel, other: () => Channel): Channel => ({
  ...plain(own),
  send: async (kind, payload) => {
    await own.send(kind, payload);
    const sent = own.counters.sentFrames;
    while (other().counters.receivedFrames < sent) await breathe();
  },
});

export const unbuffered = ([first, second]: [Channel, Channel]): [Channel, Channel] => [
  waiting(first, () => second),
  waiting(second, () => first),
];

const others: Readonly<Record<ChannelEnd, ChannelEnd>> = {
  ...{ clientServer: 'serverClient', serverClient: 'clientServer', clientDealer: 'dealerClient', dealerClient: 'clientDealer' },
  ...{ serverDealer: 'dealerServer', dealerServer: 'serverDealer' },
  ...{ clientMaterial: 'serverMaterial', serverMaterial: 'clientMaterial' },
};

/** The same for all channels of a rehearsal. */
export const unbufferedEnds = () => {
  const ends = new Map<ChannelEnd, Channel>();
  return (name: ChannelEnd, channel: Channel): Channel => {
    ends.set(name, channel);
    return waiting(channel, () => ends.get(others[name])!);
  };
};

/** Fails the test, not the suite's patience, where something hangs. */
export const within = async <T>(milliseconds: number, work: Promise<T>): Promise<T> => {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`still going after ${milliseconds} ms`)), milliseconds);
  });
  return await Promise.race([work, late]).finally(() => clearTimeout(timer));
};
