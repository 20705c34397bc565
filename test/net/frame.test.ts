import { crc32 as nodeChecksum } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { crc32 } from '../../src/net/checksum.ts';
import type { Frame } from '../../src/net/contract.ts';
import { encodeFrameHeader, FrameDecoder, frameHeaderBytes } from '../../src/net/frame.ts';

const bytes = (...values: number[]) => new Uint8Array(values);
const encoded = (frames: { kind: number; payload: Uint8Array }[], from = 0) =>
  new Uint8Array(Buffer.concat(frames.flatMap(({ kind, payload }, i) => [encodeFrameHeader(kind, payload, from + i), payload])));

function bitwiseCrc(values: readonly number[]): number {
  let crc = 0xffffffff;
  for (const value of values) {
    crc ^= value;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
const anyFrames = fc.array(
  fc.record({ kind: fc.integer({ min: 0, max: 255 }), payload: fc.uint8Array({ maxLength: 100, size: 'max' }) }),
  {
    maxLength: 8,
  },
);

function inPieces(stream: Uint8Array, cuts: number[]): Uint8Array[] {
  const places = [0, ...cuts.map((cut) => cut % (stream.length + 1)).sort((a, b) => a - b), stream.length];
  return places.slice(1).map((place, i) => stream.slice(places[i], place));
}

describe('the frame codec', () => {
  it('writes the header that the format states', () => {
    const header = encodeFrameHeader(7, bytes(9, 8, 7), 2 ** 32 + 0x01020304);
    expect(header.subarray(0, 12)).toEqual(bytes(0x51, 7, 0, 0, 3, 0, 0, 0, 4, 3, 2, 1));
    // Another implementation's CRC-32, over header and payload.
    expect(new DataView(header.buffer).getUint32(12, true)).toBe(bitwiseCrc([...header.subarray(0, 12), 9, 8, 7]));
    for (const kind of [256, -1, 0.5]) expect(() => encodeFrameHeader(kind, bytes(), 0)).toThrow(SottoError);
  });

  it('takes a faster checksum that gives the same: sockets use the one of Node', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300, size: 'max' }), fc.nat(), (payload, sequence) => {
        expect(encodeFrameHeader(3, payload, sequence, nodeChecksum)).toEqual(encodeFrameHeader(3, payload, sequence));
      }),
    );
    const decoder = new FrameDecoder('server', 100, nodeChecksum);
    const stream = encoded([{ kind: 1, payload: bytes(1, 2, 3) }]);
    expect(decoder.push(stream)).toEqual([{ kind: 1, payload: bytes(1, 2, 3) }]);
    const damaged = encoded([{ kind: 1, payload: bytes(1, 2, 3) }], 1);
    damaged[frameHeaderBytes]! ^= 1;
    expect(() => decoder.push(damaged)).toThrow(/damaged/);
  });

  it('has the published CRC-32, in one piece or in two, at every alignment', () => {
    expect(crc32(new TextEncoder().encode('123456789'))).toBe(0xcbf43926);
    expect(crc32(bytes())).toBe(0);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100, size: 'max' }), fc.nat(), fc.nat(9), (value, cut, offset) => {
        const moved = new Uint8Array(offset + value.length);
        moved.set(value, offset);
        expect(crc32(moved.subarray(offset))).toBe(bitwiseCrc([...value]));
        const at = cut % (value.length + 1);
        expect(crc32(value.subarray(at), crc32(value.subarray(0, at)))).toBe(bitwiseCrc([...value]));
      }),
    );
  });

  it('refuses a frame with any one bit changed', () => {
    const payload = bytes(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
    const stream = encoded([
      { kind: 3, payload },
      { kind: 4, payload: bytes() },
    ]);
    for (let bit = 0; bit < 8 * stream.length; bit++) {
      const changed = stream.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      const decoder = new FrameDecoder('server', 100);
      let whole = 0;
      try {
        whole = decoder.push(changed).length;
        // A longer length waits for more: the end of the stream, or the next frame's bytes, then tell.
        expect(decoder.midFrame, `bit ${bit}`).toBe(true);
      } catch (error) {
        expect(error).toMatchObject({ name: 'SottoError', kind: 'peer', place: { party: 'server' } });
      }
      expect(whole, `bit ${bit}`).toBeLessThan(2);
    }
  });

  it('gives back the same frames however the stream is cut', () => {
    fc.assert(
      fc.property(anyFrames, fc.array(fc.nat()), (frames, cuts) => {
        const decoder = new FrameDecoder('server', 1000);
        const found: Frame[] = inPieces(encoded(frames), cuts).flatMap((piece) => decoder.push(piece));
        expect(found.map(({ kind, payload }) => ({ kind, payload: [...payload] }))).toEqual(
          frames.map(({ kind, payload }) => ({ kind, payload: [...payload] })),
        );
        expect(decoder.midFrame).toBe(false);
      }),
    );
  });

  it('refuses a wrong magic byte, reserved bytes that are set, and a sequence number that is not due', () => {
    const header = (change: (bytes: Uint8Array) => void, sequence = 0) => {
      const made = encodeFrameHeader(1, bytes(), sequence);
      change(made);
      return () => new FrameDecoder('server').push(made);
    };
    expect(header(() => {})).not.toThrow();
    expect(header((h) => h.fill(0, 0, 1))).toThrow(/server.*starts with/);
    expect(header((h) => h.fill(1, 2, 3))).toThrow(/reserved/);
    expect(header((h) => h.fill(1, 3, 4))).toThrow(/reserved/);
    expect(header(() => {}, 1)).toThrow(/frame 1 came where frame 0 was due/);
    expect(
      header(() => {}, 2 ** 32),
      'it counts modulo 2^32',
    ).not.toThrow();
    const decoder = new FrameDecoder('server');
    decoder.push(encodeFrameHeader(0, bytes(), 0));
    expect(() => decoder.push(encodeFrameHeader(0, bytes(), 0))).toThrow(/frame 0 came where frame 1 was due/);
    expect(() => decoder.push(encodeFrameHeader(0, bytes(), 1)), 'a refusal is final').toThrow(/frame 0 came/);
  });

  it('refuses a payload over its bound when the header is complete, before any of it arrives or is allocated', () => {
    const announcing = (length: number, sequence: number) => {
      const header = encodeFrameHeader(0, bytes(), sequence);
      new DataView(header.buffer).setUint32(4, length, true);
      return header;
    };
    const decoder = new FrameDecoder('server', 100);
    expect(decoder.push(encoded([{ kind: 0, payload: new Uint8Array(100) }]))).toHaveLength(1);
    expect(() => new FrameDecoder('server', 100).push(announcing(101, 0))).toThrow(/announces 101 bytes/);
    const before = process.memoryUsage().arrayBuffers;
    expect(() => decoder.push(announcing(0xffffffff, 1))).toThrow(/announces 4294967295 bytes/);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20);
  });

  it('answers any bytes with frames within the bound or a typed error, and allocates no more than it was given plus the bound', () => {
    const hostile = fc.oneof(
      fc.uint8Array({ maxLength: 300, size: 'max' }),
      fc
        .tuple(anyFrames, fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 3 }))
        .map(([frames, changes]) => {
          const stream = encoded(frames);
          for (const [place, value] of changes) if (stream.length > 0) stream[place % stream.length] = value;
          return stream;
        }),
    );
    fc.assert(
      fc.property(hostile, fc.array(fc.nat(), { maxLength: 5 }), (stream, cuts) => {
        const decoder = new FrameDecoder('client', 64);
        let total = 0;
        try {
          for (const piece of inPieces(stream, cuts)) {
            for (const frame of decoder.push(piece)) {
              expect(frame.payload.length).toBeLessThanOrEqual(64);
              total += frameHeaderBytes + frame.payload.length;
            }
          }
        } catch (error) {
          expect(error).toMatchObject({ name: 'SottoError', kind: 'peer', place: { party: 'client' } });
        }
        expect(total).toBeLessThanOrEqual(stream.length);
      }),
      { numRuns: 2000 },
    );
  });
});
