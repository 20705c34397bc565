import { SottoError } from '../errors/index.ts';

/** Whose half of the correlations a bundle holds. */
export type BundleOwner = 'client' | 'server';

/** What a bundle of correlated material is for. */
export interface BundleHeader {
  /** 16 random bytes in hexadecimal. */
  readonly id: string;
  /** Hash of the program (32 bytes in hexadecimal), which fixes all shapes and lengths. */
  readonly program: string;
  readonly ring: { readonly bits: number; readonly fraction: number };
  /** Of a server's half: the masked copy that it was made from (32 bytes in hexadecimal). Server and dealer know it, no client. */
  readonly copy?: string | undefined;
  /** The party whose half of the material this is. */
  readonly createdFor: BundleOwner;
  /** Of material made ahead: what its seeds were derived from beside program and id. */
  readonly nonces?: { readonly client: string; readonly server: string; readonly dealer: string };
  /** Of a server's half made ahead: what opens the client's half at the dealer (32 bytes in hexadecimal). */
  readonly ticket?: string | undefined;
  /** Of a client's half made ahead, at the dealer: what the ticket opens (16 bytes in hexadecimal). */
  readonly commitment?: string | undefined;
}

/** Version 1 named the masked copy to clients as well, and lay unsealed. */
export const headerVersion = 2;

/** A header as it lies on disk, with the material's length and SHA-256. */
export interface StoredHeader extends BundleHeader {
  readonly version: typeof headerVersion;
  readonly materialBytes: number;
  readonly materialSha256: string;
}

/** Longest header file that is read. */
export const maximumHeaderBytes = 4096;

export function isBundleId(id: unknown): id is string {
  return typeof id === 'string' && /^[0-9a-f]{32}$/.test(id);
}

/** Throws an `input` error naming the first field that does not hold what it must. */
export function checkBundleHeader(header: unknown): BundleHeader {
  const { id, program, ring, copy, createdFor, nonces, ticket, commitment, ...rest } = fields(header, 'header');
  if (!isBundleId(id)) refuse('id', 'is not 16 bytes in lower-case hexadecimal');
  const { bits, fraction, ...otherRing } = fields(ring, 'ring');
  if (!isInteger(bits, 2, 64)) refuse('ring.bits', 'is no integer in 2 … 64');
  if (!isInteger(fraction, 0, bits - 1)) refuse('ring.fraction', 'is no integer below ring.bits');
  if (!isHash(program)) refuse('program', 'is no SHA-256 in lower-case hexadecimal');
  if (copy !== undefined && !isHash(copy)) refuse('copy', 'is not 32 bytes in lower-case hexadecimal');
  if (createdFor !== 'client' && createdFor !== 'server') refuse('createdFor', 'is neither client nor server');
  nothingElse(otherRing);
  nothingElse(rest);
  if (ticket !== undefined && !isHash(ticket)) refuse('ticket', 'is not 32 bytes in lower-case hexadecimal');
  if (commitment !== undefined && !isBundleId(commitment)) refuse('commitment', 'is not 16 bytes in lower-case hexadecimal');
  const named = {
    ...(copy === undefined ? {} : { copy }),
    ...(ticket === undefined ? {} : { ticket }),
    ...(commitment === undefined ? {} : { commitment }),
  };
  const checked = { id, program, ring: { bits, fraction }, ...named, createdFor } as const;
  if (nonces === undefined) return checked;
  const { client, server, dealer, ...otherNonces } = fields(nonces, 'nonces');
  nothingElse(otherNonces);
  if (!isBundleId(client) || !isBundleId(server) || !isBundleId(dealer))
    refuse('nonces', 'are not 16 bytes in lower-case hexadecimal each');
  return { ...checked, nonces: { client, server, dealer } };
}

/** Reads a header file's bytes. Every byte is hostile: throws an `input` error that names the field. */
export function parseBundleHeader(bytes: Uint8Array): StoredHeader {
  if (bytes.length > maximumHeaderBytes) refuse('header', `is longer than ${maximumHeaderBytes} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    refuse('header', 'is no JSON');
  }
  const { version, materialBytes, materialSha256, ...header } = fields(value, 'header');
  if (version === 1) refuse('version', 'is 1, of an older sotto, whose material is not used any more');
  if (version !== headerVersion) refuse('version', `is not ${headerVersion}`);
  if (!isInteger(materialBytes, 0, Number.MAX_SAFE_INTEGER)) refuse('materialBytes', 'is no length');
  if (!isHash(materialSha256)) refuse('materialSha256', 'is no SHA-256 in lower-case hexadecimal');
  return { version, ...checkBundleHeader(header), materialBytes, materialSha256 };
}

export function encodeBundleHeader(header: StoredHeader): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(header, null, 2)}\n`);
}

function isHash(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
}

function isInteger(value: unknown, least: number, most: number): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most;
}

function fields(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(name, 'is no object');
  return value as Record<string, unknown>;
}

function nothingElse(rest: Record<string, unknown>): void {
  const extra = Object.keys(rest)[0];
  if (extra !== undefined) refuse(extra.slice(0, 40), 'is no field of a bundle header');
}

function refuse(field: string, reason: string): never {
  throw new SottoError('input', `the bundle header's ${field} ${reason}`, {
    place: { field },
    remedy: 'burn this bundle and make new correlations',
  });
}
