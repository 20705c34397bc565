import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import type { Pipe } from '../../src/net/contract.ts';
import { encodeFrameHeader, frameHeaderBytes } from '../../src/net/frame.ts';
import { framedChannel } from '../../src/net/framed.ts';

/** What a channel keeps of a hostile peer's bytes: at most three payloads of the bound, whatever comes and nobody receives. */
const mebibyte = 2 ** 20;
const bound = 4 * mebibyte;

/** A peer that sends for ever, in chunks, what `bytes` gives; it is asked for the next chunk only when the channel reads. */
function hostile(chunks: () => Uint8Array | null): Pipe & { taken(): number } {
  let taken = 0;
  let ended = false;
  let stop = (): void => {};
  const over = new Promise<null>((resolve) => {
    stop = () => {
      ended = true;
      resolve(null);
    };
  });
  return {
    taken: () => taken,
    write: async () => {},
    read: async () => {
      // As a socket does: other things happen between two reads.
      await new Promise((resolve) => setImmediate(resolve));
      const chunk = ended ? null : chunks();
      if (chunk === null) return await over;
      taken += chunk.length;
      return chunk;
    },
    end: async () => stop(),
    destroy: () => stop(),
  };
}

setFlagsFromString('--expose-gc');
const collect: () => void = runInNewContext('gc');

/** Bytes of array buffers that appear while `channels` many read all that they want to. */
async function grown(channels: number, make: () => Uint8Array | null): Promise<number> {
  collect();
  const before = process.memoryUsage().arrayBuffers;
  const opened = Array.from({ length: channels }, () =>
    framedChannel(hostile(make), { peer: 'stranger', maximumPayloadBytes: bound }),
  );
  for (let turn = 0; turn < 400; turn++) await new Promise((resolve) => setImmediate(resolve));
  collect();
  const after = process.memoryUsage().arrayBuffers;
  await Promise.all(opened.map((channel) => channel.close()));
  return after - before;
}

/** A stream of frames of one size, right in every byte, cut into chunks of 64 KiB. */
function flood(payloadBytes: number): () => Uint8Array {
  const payload = new Uint8Array(payloadBytes);
  let sequence = 0;
  let rest = new Uint8Array(0);
  return () => {
    while (rest.length < 65_536) {
      const header = encodeFrameHeader(1, payload, sequence++);
      const next = new Uint8Array(rest.length + header.length + payload.length);
      next.set(rest);
      next.set(header, rest.length);
      next.set(payload, rest.length + header.length);
      rest = next;
    }
    const chunk = rest.slice(0, 65_536);
    rest = rest.slice(65_536);
    return chunk;
  };
}

describe('what a hostile peer makes a channel keep', () => {
  it('is one payload where frames are announced and do not come', async () => {
    const announced = (): (() => Uint8Array | null) => {
      const header = encodeFrameHeader(1, new Uint8Array(bound), 0);
      const chunks: Uint8Array[] = [header, Uint8Array.of(1)];
      return () => chunks.shift() ?? null;
    };
    const channels = 6;
    const each = Array.from({ length: channels }, announced);
    let turn = 0;
    const bytes = await grown(channels, () => each[turn++ % channels]!());
    expect(bytes).toBeLessThan(channels * (bound + mebibyte));
  });

  it.each([0, 1000, mebibyte, bound])(
    'is at most two payloads of the bound, and one under way, where frames of %i bytes come and nobody receives',
    async (size) => {
      const pipe = hostile(flood(size));
      const channel = framedChannel(pipe, { peer: 'stranger', maximumPayloadBytes: bound });
      let taken = -1;
      // Until it takes no more: everything that it keeps is something that it took, or the payload that was announced last.
      while (pipe.taken() !== taken) {
        taken = pipe.taken();
        for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve));
      }
      expect(taken).toBeGreaterThan(0);
      expect(taken).toBeLessThan(2 * bound + 2 * 65_536);
      await channel.close();
    },
  );

  it('is nothing where more is announced than the bound, by one byte or by gigabytes', async () => {
    for (const length of [bound + 1, 2 ** 31, 2 ** 32 - 1]) {
      const header = new Uint8Array(frameHeaderBytes);
      header[0] = 0x51;
      new DataView(header.buffer).setUint32(4, length, true);
      const chunks: Uint8Array[] = [header, new Uint8Array(100)];
      const channel = framedChannel(
        hostile(() => chunks.shift() ?? null),
        { peer: 'stranger', maximumPayloadBytes: bound },
      );
      await expect(channel.receive()).rejects.toMatchObject({
        kind: 'peer',
        reason: expect.stringContaining(`announces ${length} bytes`),
      });
    }
  });
});
