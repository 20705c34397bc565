import type { Block } from '../../../kernels/index.ts';
import type { Pads } from '../random.ts';
import type { EncryptBlocks } from './dpf.ts';

/**
 * A source of correlated randomness, as the two parties of the online protocol see it. Each correlation is an oblivious linear
 * evaluation: the client holds one factor, the server the other, and each gets an additive share of the product. The client's shares
 * are pads; the server's are pads plus corrections. The dealer and the helper implement this; a two-party source will.
 */
export interface ServerCorrelations {
  /** b of openings and wrap bits, σ of lookups, point function seeds. */
  readonly pads: Pads<'server'>;
  /** Makes the corrections of a node ready; everything below then answers at once. Of a piecewise polynomial, the first piece. */
  load(node: number): Promise<void>;
  /** Makes the next piece of a piecewise polynomial ready (pieces.ts). */
  more(node: number): Promise<void>;
  /** c_s with c_c + c_s = x_c · W. */
  linear(node: number, length: number, width: number): Block;
  /** q_s of squares and products. */
  product(node: number, length: number, width: number): Block;
  /** q_s modulo 2^width of a wrap bit, q_c + q_s = m_c · b. */
  bit(node: number, length: number, width: number): Block;
  /** Several corrections of one node, each `length` words of its own width. */
  fields(node: number, length: number, widths: readonly number[]): Block[];
  /** Correction words of the point functions of a lookup, or a piece of the comparison functions of a piecewise polynomial. */
  lookup(node: number): Uint8Array;
}

export interface ClientCorrelations {
  readonly pads: Pads<'client'>;
  load(node: number): Promise<void>;
  more(node: number): Promise<void>;
  lookup(node: number): Uint8Array;
}

/** The cipher that point functions are expanded with. */
export type PointFunctionCipher = EncryptBlocks;
