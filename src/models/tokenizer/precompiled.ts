import type { Fields } from './fields.ts';
import { eachGrapheme } from './graphemes.ts';
import type { Work } from './work.ts';

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const base64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const digits = new Int8Array(128).fill(-1);
for (let value = 0; value < 64; value++) digits[base64.charCodeAt(value)] = value;
/** The published maps have some 300 KB. */
const sizeLimitBytes = 2 * 2 ** 20;
/** Bytes of the longest grapheme that is looked up as a whole, and one more. */
const wholeLimitBytes = 6;

/**
 * SentencePiece's normalisation as its models carry it: a double-array trie over UTF-8 bytes whose values are places in a text of
 * replacements, each ended by a zero. A short grapheme is looked up whole, and the *shortest* entry that begins it replaces all of
 * it; a longer one is looked up by its characters. The reference library does the same, remarkable as it is.
 */
export class Charsmap {
  readonly #units: Uint32Array;
  readonly #texts: Uint8Array;
  readonly #fields: Fields;
  /** Replacements by their place. */
  readonly #known = new Map<number, string>();
  /** Whether a printable ASCII character stays what it is. */
  readonly #keepsAscii: boolean;

  constructor(fields: Fields) {
    this.#fields = fields;
    const bytes = this.#decode(fields.string('precompiled_charsmap'));
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const size = bytes.length < 4 ? -1 : view.getUint32(0, true) >>> 2;
    if (size < 1 || 4 + 4 * size > bytes.length) throw this.#damaged();
    this.#units = new Uint32Array(size);
    for (let index = 0; index < size; index++) this.#units[index] = view.getUint32(4 + 4 * index, true);
    this.#texts = bytes.subarray(4 + 4 * size);
    try {
      decoder.decode(this.#texts);
    } catch {
      throw this.#damaged();
    }
    let keeps = true;
    for (let point = 32; point < 127; point++) keeps &&= this.#find(String.fromCharCode(point), 0, 1) < 0;
    this.#keepsAscii = keeps;
  }

  #damaged = () => this.#fields.fail('precompiled_charsmap', 'the map is damaged');

  #decode(text: string): Uint8Array {
    const clean = text.replace(/={1,2}$/, '');
    if (text.length % 4 !== 0 || clean.length % 4 === 1 || text.length > (sizeLimitBytes / 3) * 4) throw this.#damaged();
    const out = new Uint8Array(Math.floor((clean.length * 3) / 4));
    let word = 0;
    let bits = 0;
    let next = 0;
    for (let index = 0; index < clean.length; index++) {
      const digit = digits[clean.charCodeAt(index)] ?? -1;
      if (digit < 0) throw this.#damaged();
      word = ((word << 6) | digit) & 0xffff;
      bits += 6;
      if (bits >= 8) {
        bits -= 8;
        out[next++] = word >> bits;
      }
    }
    return out;
  }

  /** The place of the shortest entry that begins `text[start, end)`, or −1. */
  #find(text: string, start: number, end: number): number {
    const units = this.#units;
    let node = offsetOf(units[0]!);
    for (let at = start; at < end; ) {
      const point = text.codePointAt(at)!;
      at += point > 0xffff ? 2 : 1;
      for (let rest = point > 0xffff ? 3 : point > 0x7ff ? 2 : point > 0x7f ? 1 : 0, first = true; rest >= 0; rest--) {
        const byte = first ? firstByte(point) : 0x80 | ((point >> (6 * rest)) & 0x3f);
        first = false;
        if (byte === 0) return -1;
        node ^= byte;
        const unit = units[node];
        if (unit === undefined) throw this.#damaged();
        if ((unit & 0x800000ff) !== byte) return -1;
        node ^= offsetOf(unit);
        if (((unit >> 8) & 1) === 1) {
          const value = units[node];
          if (value === undefined) throw this.#damaged();
          return value & 0x7fffffff;
        }
      }
    }
    return -1;
  }

  #text(place: number): string {
    let found = this.#known.get(place);
    if (found === undefined) {
      if (place > this.#texts.length) throw this.#damaged();
      const end = this.#texts.indexOf(0, place);
      try {
        found = decoder.decode(this.#texts.subarray(place, end < 0 ? undefined : end));
      } catch {
        throw this.#damaged();
      }
      this.#known.set(place, found);
    }
    return found;
  }

  apply(text: string, work: Work): string {
    if (this.#keepsAscii && /^[ -~]*$/.test(text)) return text;
    let out = '';
    let from = 0;
    const put = (start: number, end: number): boolean => {
      const place = this.#find(text, start, end);
      if (place < 0) return false;
      out += text.slice(from, start) + this.#text(place);
      work.spend(1);
      work.grown(out.length);
      from = end;
      return true;
    };
    eachGrapheme(text, (start, end) => {
      if (end - start < wholeLimitBytes && bytesOf(text, start, end) < wholeLimitBytes && put(start, end)) return;
      if (end - start === 1) return;
      for (let at = start; at < end; ) {
        const next = at + (text.codePointAt(at)! > 0xffff ? 2 : 1);
        put(at, next);
        at = next;
      }
    });
    return from === 0 ? text : out + text.slice(from);
  }

  /** How many units of the mapped text come from the first character, of which the text has `front`. */
  frontOf(text: string, mapped: string, front: number): number {
    const place = this.#find(text, 0, front);
    const image = place < 0 ? text.slice(0, front) : this.#text(place);
    if (image !== '' && mapped.startsWith(image)) return image.length;
    return mapped === '' ? 0 : mapped.codePointAt(0)! > 0xffff ? 2 : 1;
  }
}

const offsetOf = (unit: number): number => (unit >>> 10) << ((unit & 512) >> 6);
const firstByte = (point: number): number =>
  point > 0xffff ? 0xf0 | (point >> 18) : point > 0x7ff ? 0xe0 | (point >> 12) : point > 0x7f ? 0xc0 | (point >> 6) : point;

function bytesOf(text: string, start: number, end: number): number {
  let bytes = 0;
  for (let at = start; at < end; at++) {
    const unit = text.charCodeAt(at);
    bytes += unit > 0x7ff ? ((unit & 0xf800) === 0xd800 ? 2 : 3) : unit > 0x7f ? 2 : 1;
  }
  return bytes;
}
