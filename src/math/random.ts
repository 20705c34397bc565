/** Contracts for randomness. Platforms implement them (Node: AES-128-CTR; browsers: WebCrypto or ChaCha); portable code only receives them. */

/** Fills bytes with values that nobody can predict (the operating system's generator). */
export type EntropySource = (bytes: Uint8Array<ArrayBuffer>) => void;

/** A pseudorandom generator with numbered streams. The same seed and stream give the same bytes on every platform that names the same `algorithm`. */
export interface Prg {
  readonly algorithm: string;
  /** Overwrites `out` with the bytes of stream `stream` (an integer in [0, 2^53)) from its start on. A stream is for one purpose, once. */
  fill(stream: number, out: Uint8Array<ArrayBuffer>): void;
  /** Clears the key, as far as the language allows. No stream comes after it. Generators without a key have none to clear. */
  close?(): void;
}

/** `seed` has 32 bytes. */
export type PrgFactory = (seed: Uint8Array) => Prg;

/** One-way key derivation with domain separation: 32 bytes from a secret and labels (HKDF-SHA-256). */
export type KeyDerivation = (secret: Uint8Array, label: string, context: readonly Uint8Array[]) => Uint8Array<ArrayBuffer>;
