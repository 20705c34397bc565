import type { Channel } from './contract.ts';

export interface RecordedFrame {
  readonly direction: 'sent' | 'received';
  readonly kind: number;
  readonly payload: Uint8Array<ArrayBuffer>;
}

/** A channel that keeps a copy of every frame it carried, in the order in which this side saw them: one party's view. */
export interface RecordedChannel extends Channel {
  readonly frames: readonly RecordedFrame[];
}

/** Wraps a channel; memory grows with everything sent, so this is for tests. */
export function recorded(channel: Channel): RecordedChannel {
  const frames: RecordedFrame[] = [];
  return {
    peer: channel.peer,
    counters: channel.counters,
    gone: channel.gone,
    security: channel.security,
    frames,
    send(kind, payload) {
      frames.push({ direction: 'sent', kind, payload: new Uint8Array(payload) });
      return channel.send(kind, payload);
    },
    async receive() {
      const frame = await channel.receive();
      frames.push({ direction: 'received', kind: frame.kind, payload: new Uint8Array(frame.payload) });
      return frame;
    },
    close: (reason) => channel.close(reason),
  };
}
