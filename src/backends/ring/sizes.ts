/** Who a message between the two parties is from and to. */
export type Direction = 'clientToServer' | 'serverToClient';

/** Packed fields of a message, one behind the other: `count` elements of `width` bits each. */
export type Fields = readonly { readonly count: number; readonly width: number }[];
export type Messages = { readonly [D in Direction]?: Fields };

/** Bytes of correlated material that one node needs, by who sends them to whom in the offline phase. */
export interface Material {
  readonly dealerToServer: number;
  readonly dealerToClient: number;
  readonly clientToServer: number;
}

/** Part of one node's material: its rows, and the bytes to each party. */
export interface Piece {
  readonly first: number;
  readonly rows: number;
  readonly dealerToServer: number;
  readonly dealerToClient: number;
}

/** ⌈count·width / 8⌉: fields are packed without gaps and padded to whole bytes. */
export const packedBytes = (count: number, width: number): number => Math.ceil((count * width) / 8);

/** 32-bit words serve rings up to 32 bits, 64-bit words the wider ones. */
export const wordBitsOf = (ringBits: number): 32 | 64 => (ringBits <= 32 ? 32 : 64);
