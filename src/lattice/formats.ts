import { hexToBytes } from '@noble/hashes/utils.js';
import { SottoError } from '../errors/index.ts';
import { type Ciphertext, ciphertextPurpose } from './ciphertext.ts';
import { digitPurpose, type PublicKey, publicPurpose, type SwitchingKey } from './keys.ts';
import type { RlweParameters } from './parameters.ts';
import type { Polynomial, Rns } from './rns.ts';
import { type LatticeRandomness, seedBytes, uniformFromSeed } from './sampling.ts';

/*
 * What goes over a wire, little endian:
 *
 *   0   'sRLW'                   4 bytes
 *   4   version, now 1           1
 *   5   kind                     1
 *   6   level                    1   of a ciphertext; that of the first prime of all in keys
 *   7   0                        1
 *   8   automorphism             4   of a switching key; 0 for the square's, and in the other kinds
 *   12  parameters' name        16
 *   28  seed                    32   where the kind has one
 *   …   limbs, each n residues at the bits of its prime, without gaps
 *
 * A uniform half travels as its seed. Sizes follow from kind, level and parameters alone; every other size is refused before anything is read.
 */
export type WireKind = 'public key' | 'switching key' | 'ciphertext' | 'seeded ciphertext';
const kinds: readonly WireKind[] = ['public key', 'switching key', 'ciphertext', 'seeded ciphertext'];
const magic = 'sRLW';
const version = 1;
const headBytes = 28;

/** Ring indices of the limbs that travel. */
function travelling(parameters: RlweParameters, kind: WireKind, level: number): number[] {
  const own = Array.from({ length: level + 1 }, (_, i) => i);
  const all = [...parameters.q, ...parameters.p].map((_, i) => i);
  if (kind === 'switching key') return parameters.digits.flatMap(() => all);
  return kind === 'ciphertext' ? [...own, ...own] : own;
}

const limbBytes = ({ n, q, p }: RlweParameters, index: number): number =>
  (n * BigInt([...q, ...p][index]!).toString(2).length) / 8;

/** Exactly as many bytes as `encode…` gives. */
export function wireBytes(parameters: RlweParameters, kind: WireKind, level = parameters.q.length - 1): number {
  const limbs = travelling(parameters, kind, level).reduce((sum, index) => sum + limbBytes(parameters, index), 0);
  return headBytes + (kind === 'ciphertext' ? 0 : seedBytes) + limbs;
}

interface Head {
  readonly kind: WireKind;
  readonly level: number;
  readonly automorphism: number;
  readonly seed: Uint8Array | undefined;
}

function write(rns: Rns, { kind, level, automorphism, seed }: Head, polynomials: readonly Polynomial[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(wireBytes(rns.parameters, kind, level));
  const view = new DataView(out.buffer);
  out.set(new TextEncoder().encode(magic));
  out.set([version, kinds.indexOf(kind), level], 4);
  view.setUint32(8, automorphism, true);
  out.set(hexToBytes(rns.parameters.name), 12);
  let at = headBytes;
  if (seed !== undefined) {
    out.set(seed, at);
    at += seedBytes;
  }
  for (const polynomial of polynomials)
    rns.each(polynomial, (ring, limb) => {
      const packed = rns.kernels.pack(ring, limb);
      out.set(packed, at);
      at += packed.length;
    });
  return out;
}

const refused = (reason: string): SottoError =>
  new SottoError('input', reason, { remedy: 'both sides must run the same version of sotto with the same parameters' });

/** The head, checked to the byte against the parameters and the kind that is due; the rest is exactly as long as it must be. */
function readHead(parameters: RlweParameters, bytes: Uint8Array, due: WireKind): Head {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < headBytes || new TextDecoder().decode(bytes.subarray(0, 4)) !== magic)
    throw refused('the message is no lattice message');
  if (bytes[4] !== version) throw refused(`the message has version ${bytes[4]} of the lattice format, not ${version}`);
  const kind = kinds[bytes[5]!];
  if (kind !== due) throw refused(`the message is a ${kind ?? 'thing of no known kind'} where a ${due} was due`);
  const name = hexToBytes(parameters.name);
  if (!name.every((byte, i) => bytes[12 + i] === byte)) throw refused('the message was made under other parameters');
  const level = bytes[6]!;
  const automorphism = view.getUint32(8, true);
  const top = parameters.q.length - 1;
  const levels = due === 'ciphertext' || due === 'seeded ciphertext' ? level <= top : level === top;
  const element = automorphism === 0 || (due === 'switching key' && automorphism < 2 * parameters.n && automorphism % 2 === 1);
  if (!levels || !element || bytes[7] !== 0) throw refused('the head of the message is none that these parameters allow');
  const expected = wireBytes(parameters, due, level);
  if (bytes.length !== expected) throw refused(`the ${due} has ${bytes.length} bytes instead of ${expected}`);
  const seed = due === 'ciphertext' ? undefined : bytes.slice(headBytes, headBytes + seedBytes);
  return { kind, level, automorphism, seed };
}

/** Reads polynomials limb by limb. Throws an `input` error at a residue that is not below its prime, and frees what was read. */
function readPolynomials(
  rns: Rns,
  bytes: Uint8Array,
  from: number,
  shapes: readonly { readonly level: number; readonly special: boolean }[],
): Polynomial[] {
  const polynomials: Polynomial[] = [];
  let at = from;
  try {
    for (const { level, special } of shapes) {
      const polynomial = rns.allocate(level, special);
      polynomials.push(polynomial);
      rns.each(polynomial, (ring, limb) => {
        const length = (ring.n * ring.bits) / 8;
        rns.kernels.unpack(ring, limb, bytes.subarray(at, at + length));
        at += length;
      });
    }
    return polynomials;
  } catch (error) {
    rns.free(...polynomials);
    throw error;
  }
}

export function encodeCiphertext(rns: Rns, { c0, c1, seed }: Ciphertext): Uint8Array<ArrayBuffer> {
  const { level } = c0;
  if (seed === undefined) return write(rns, { kind: 'ciphertext', level, automorphism: 0, seed }, [c0, c1]);
  return write(rns, { kind: 'seeded ciphertext', level, automorphism: 0, seed }, [c0]);
}

/** Throws an `input` error at anything that is no ciphertext of these parameters. `seeded`: what the protocol says is due. */
export function decodeCiphertext(
  rns: Rns,
  randomness: Pick<LatticeRandomness, 'prg' | 'derive'>,
  bytes: Uint8Array,
  due: 'ciphertext' | 'seeded ciphertext',
): Ciphertext {
  const { level, seed } = readHead(rns.parameters, bytes, due);
  const shape = { level, special: false };
  if (seed === undefined) {
    const [c0, c1] = readPolynomials(rns, bytes, headBytes, [shape, shape]);
    return { c0: c0!, c1: c1! };
  }
  const [c0] = readPolynomials(rns, bytes, headBytes + seedBytes, [shape]);
  return { c0: c0!, c1: uniformFromSeed(rns, randomness, seed, ciphertextPurpose, shape), seed };
}

export function encodePublicKey(rns: Rns, { b, seed }: PublicKey): Uint8Array<ArrayBuffer> {
  return write(rns, { kind: 'public key', level: rns.topLevel, automorphism: 0, seed }, [b]);
}

export function decodePublicKey(rns: Rns, randomness: Pick<LatticeRandomness, 'prg' | 'derive'>, bytes: Uint8Array): PublicKey {
  const head = readHead(rns.parameters, bytes, 'public key');
  const shape = { level: rns.topLevel, special: false };
  const [b] = readPolynomials(rns, bytes, headBytes + seedBytes, [shape]);
  const seed = head.seed!;
  return { b: b!, a: uniformFromSeed(rns, randomness, seed, publicPurpose, shape), seed };
}

export function encodeSwitchingKey(rns: Rns, { element, digits, seed }: SwitchingKey): Uint8Array<ArrayBuffer> {
  return write(
    rns,
    { kind: 'switching key', level: rns.topLevel, automorphism: element, seed },
    digits.map(({ b }) => b),
  );
}

export function decodeSwitchingKey(
  rns: Rns,
  randomness: Pick<LatticeRandomness, 'prg' | 'derive'>,
  bytes: Uint8Array,
): SwitchingKey {
  const head = readHead(rns.parameters, bytes, 'switching key');
  const element = head.automorphism;
  const shape = { level: rns.topLevel, special: true };
  const halves = readPolynomials(
    rns,
    bytes,
    headBytes + seedBytes,
    rns.parameters.digits.map(() => shape),
  );
  const seed = head.seed!;
  const digits = halves.map((b, d) => ({ b, a: uniformFromSeed(rns, randomness, seed, digitPurpose(element, d), shape) }));
  return { element, digits, seed };
}
