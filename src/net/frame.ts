import { SottoError } from '../errors/index.ts';
import { type Checksum, crc32 } from './checksum.ts';
import { defaultMaximumPayloadBytes, type Frame } from './contract.ts';

/**
 * The codec of frames. Header, 16 bytes, little endian:
 *   0      magic and version (0x51)
 *   1      kind
 *   2 … 3  reserved, zero
 *   4 … 7  payload length in bytes
 *   8 … 11 sequence number modulo 2^32: 0, 1, 2, … in each direction
 *  12 … 15 CRC-32 of the twelve bytes before and the payload
 * The sequence number finds lost, repeated and swapped frames, the checksum damaged ones: a flipped bit of a masked word would be a wrong
 * answer that nobody notices. Neither is authentication, which belongs to the layer below (TLS).
 */
export const frameHeaderBytes = 16;
const magic = 0x51;
const checksumAt = 12;

/** The header of one frame. Throws a `usage` error where kind, length or sequence number do not fit. */
export function encodeFrameHeader(
  kind: number,
  payload: Uint8Array,
  sequence: number,
  checksum: Checksum = crc32,
): Uint8Array<ArrayBuffer> {
  if (!Number.isInteger(kind) || kind < 0 || kind > 255) {
    throw new SottoError('usage', `${kind} is no frame kind`, { remedy: 'use an integer in 0 … 255' });
  }
  if (payload.length > 0xffffffff || !Number.isSafeInteger(sequence)) {
    throw new SottoError('usage', 'the frame is longer than 2^32 − 1 bytes', { remedy: 'split it' });
  }
  const header = new Uint8Array(frameHeaderBytes);
  const view = new DataView(header.buffer);
  header[0] = magic;
  header[1] = kind;
  view.setUint32(4, payload.length, true);
  view.setUint32(8, sequence % 2 ** 32, true);
  view.setUint32(checksumAt, checksum(payload, checksum(header.subarray(0, checksumAt))), true);
  return header;
}

/**
 * Turns arbitrary chunks of bytes back into frames. A header is checked as soon as it is complete and before its payload is allocated;
 * one payload at a time is under way, so the decoder holds at most `maximumPayloadBytes`. A refusal is final: every later `push` throws it again.
 */
export class FrameDecoder {
  /** May change between frames. */
  maximumPayloadBytes: number;
  readonly #peer: string;
  readonly #checksum: Checksum;
  readonly #header = new Uint8Array(frameHeaderBytes);
  readonly #view = new DataView(this.#header.buffer);
  #headerFilled = 0;
  #payload: Uint8Array<ArrayBuffer> | null = null;
  #payloadLength = 0;
  #payloadFilled = 0;
  #sequence = 0;
  #refusal: SottoError | null = null;

  constructor(peer: string, maximumPayloadBytes = defaultMaximumPayloadBytes, checksum: Checksum = crc32) {
    this.#peer = peer;
    this.#checksum = checksum;
    this.maximumPayloadBytes = maximumPayloadBytes;
  }

  /** Whether bytes of an unfinished frame are held: an end of the stream here is a truncation. */
  get midFrame(): boolean {
    return this.#headerFilled > 0;
  }

  /** The frames that `chunk` completes. The chunk belongs to the decoder from here on. Throws a `peer` error at the first wrong byte. */
  push(chunk: Uint8Array): Frame[] {
    if (this.#refusal) throw this.#refusal;
    const frames: Frame[] = [];
    let at = 0;
    while (at < chunk.length || (this.#headerFilled === frameHeaderBytes && this.#payloadLength === 0)) {
      if (this.#headerFilled < frameHeaderBytes) {
        const taken = Math.min(frameHeaderBytes - this.#headerFilled, chunk.length - at);
        this.#header.set(chunk.subarray(at, at + taken), this.#headerFilled);
        this.#headerFilled += taken;
        at += taken;
        if (this.#headerFilled < frameHeaderBytes) break;
        this.#checkHeader();
      } else {
        at = this.#fillPayload(chunk, at);
        if (this.#payloadFilled === this.#payloadLength) frames.push(this.#finishFrame());
      }
    }
    return frames;
  }

  #checkHeader(): void {
    const header = this.#header;
    if (header[0] !== magic) this.#refuse(`a frame starts with byte 0x${header[0]!.toString(16)}, not 0x${magic.toString(16)}`);
    if (header[2] !== 0 || header[3] !== 0) this.#refuse('the reserved bytes of a frame are not zero');
    const sequence = this.#view.getUint32(8, true);
    if (sequence !== this.#sequence) this.#refuse(`frame ${sequence} came where frame ${this.#sequence} was due`);
    const length = this.#view.getUint32(4, true);
    if (length > this.maximumPayloadBytes) {
      this.#refuse(`a frame announces ${length} bytes, more than the ${this.maximumPayloadBytes} that this channel takes`);
    }
    this.#payloadLength = length;
    this.#payloadFilled = 0;
    this.#payload = null;
  }

  #fillPayload(chunk: Uint8Array, at: number): number {
    const length = this.#payloadLength;
    if (length === 0) return at;
    if (this.#payload === null) {
      // A chunk that is exactly the payload (the in-memory pipe's) is taken as it is.
      if (at === 0 && chunk.length === length && chunk.buffer.byteLength === length && chunk.buffer instanceof ArrayBuffer) {
        this.#payload = new Uint8Array(chunk.buffer);
        this.#payloadFilled = length;
        return length;
      }
      this.#payload = new Uint8Array(length);
    }
    const taken = Math.min(length - this.#payloadFilled, chunk.length - at);
    this.#payload.set(chunk.subarray(at, at + taken), this.#payloadFilled);
    this.#payloadFilled += taken;
    return at + taken;
  }

  #finishFrame(): Frame {
    const frame = { kind: this.#header[1]!, payload: this.#payload ?? new Uint8Array(0) };
    const checksum = this.#checksum(frame.payload, this.#checksum(this.#header.subarray(0, checksumAt)));
    if (checksum !== this.#view.getUint32(checksumAt, true)) this.#refuse(`frame ${this.#sequence} was damaged on its way`);
    this.#payload = null;
    this.#headerFilled = 0;
    this.#payloadLength = 0;
    this.#payloadFilled = 0;
    this.#sequence = (this.#sequence + 1) % 2 ** 32;
    return frame;
  }

  #refuse(reason: string): never {
    this.#payload = null;
    this.#refusal = new SottoError('peer', reason, {
      place: { party: this.#peer },
      remedy: 'run the same version of sotto on both sides and connect to no other program',
    });
    throw this.#refusal;
  }
}
