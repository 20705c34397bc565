import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import type { Frame } from '../../src/net/contract.ts';
import { encodeFrameHeader, FrameDecoder, frameHeaderBytes } from '../../src/net/frame.ts';

const bytes = (...values: number[]) => new Uint8Array(values);
const encoded = (frames: { kind: number; payload: Uint8Array }[], from = 0) =>
  new Uint8Array(
    Buffer.concat(frames.flatMap(({ kind, payload }, i) => [encodeFrameHeader(kind, payload.length, from + i), payload])),
  );
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
    expect(encodeFrameHeader(7, 0x01020304, 2 ** 32 + 5)).toEqual(bytes(0x51, 7, 0, 0, 4, 3, 2, 1, 5, 0, 0, 0, 1, 0, 0, 0));
    for (const [kind, length] of [
      [256, 0],
      [-1, 0],
      [0.5, 0],
      [0, 2 ** 32],
    ] as const)
      expect(() => encodeFrameHeader(kind, length, 0)).toThrow(SottoError);
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
      const made = encodeFrameHeader(1, 0, sequence);
      change(made);
      return () => new FrameDecoder('server').push(made);
    };
    expect(header(() => {})).not.toThrow();
    expect(header((h) => h.fill(0, 0, 1))).toThrow(/server.*starts with/);
    expect(header((h) => h.fill(1, 2, 3))).toThrow(/reserved/);
    expect(header((h) => h.fill(1, 3, 4))).toThrow(/reserved/);
    expect(header(() => {}, 1)).toThrow(/frame 1 came where frame 0 was due/);
    expect(header(() => {}, 2 ** 32)).toThrow(/was due/);
    const decoder = new FrameDecoder('server');
    decoder.push(encodeFrameHeader(0, 0, 0));
    expect(() => decoder.push(encodeFrameHeader(0, 0, 0))).toThrow(/frame 0 came where frame 1 was due/);
    expect(() => decoder.push(encodeFrameHeader(0, 0, 1)), 'a refusal is final').toThrow(/frame 0 came/);
  });

  it('refuses a payload over its bound when the header is complete, before any of it arrives or is allocated', () => {
    const decoder = new FrameDecoder('server', 100);
    expect(decoder.push(encoded([{ kind: 0, payload: new Uint8Array(100) }]))).toHaveLength(1);
    expect(() => new FrameDecoder('server', 100).push(encodeFrameHeader(0, 101, 0))).toThrow(/announces 101 bytes/);
    const before = process.memoryUsage().arrayBuffers;
    expect(() => decoder.push(encodeFrameHeader(0, 0xffffffff, 1))).toThrow(/announces 4294967295 bytes/);
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
