import { size } from '../../../program/index.ts';
import { times } from '../exact.ts';
import type { RingRow } from './row.ts';

/**
 * Masks a pinned value of Z_2^modulus and gives it to the client: Ê = e − 2^modulus·[top bit of e] − 2^(modulus − 2). Where a `range` of
 * signed integers is given, `fixed` refuses values outside of it; a run sees none of it.
 */
export const openNarrow: RingRow<
  'openNarrow',
  { readonly modulus: number; readonly range?: readonly [low: number, high: number] }
> = {
  messages: ({ shape, parameters }) => ({ serverToClient: [{ count: size(shape), width: parameters.modulus }] }),
  meaning: ({ guard }, node, x) => {
    const { modulus, range } = node.parameters;
    if (x!.most >= 2 ** (modulus - 2)) guard.fail(node, x!.most, 'a value of');
    if (range !== undefined) for (const value of guard.integers(x!.block)) guard.between(node, value, range);
    return x!;
  },
};

const positive = (widths: readonly number[]): number[] => widths.filter((width) => width > 0);

/** Ê → 1 − [top bit of e], which both sides know. */
export const openedSign: RingRow<'openedSign', { readonly modulus: number }> = { meaning: (_, __, x) => x! };

/** (x, Ê, sign) → A with x = Ê + A in the whole ring: the carry of the masks is a correlation, nothing is sent. */
export const unmask: RingRow<'unmask', { readonly modulus: number }> = {
  /** The carry of the masks and the top bit of α: what is multiplied by 2^m counts modulo 2^(L − m). */
  corrections: ({ parameters: { modulus } }, { ring }) => [ring.bits - modulus, ring.bits - modulus],
  meaning: (_, __, x) => x!,
};

/** (Ê, A) → Ê + A, floating in the whole ring. */
export const widen: RingRow<'widen', object> = { meaning: (_, __, ___, x) => x! };

/** (Ê, A, sign) → (Ê + A)². */
export const narrowSquare: RingRow<'narrowSquare', { readonly modulus: number }> = {
  /** α², and its top bit times α; and the bit, where its square counts. */
  corrections: ({ parameters: { modulus } }, { ring }) => positive([ring.bits, ring.bits - modulus, ring.bits - 2 * modulus]),
  meaning: (exact, node, _, x) => times(exact, node, x!, x!),
};

/** (Ê, A, sign) of x, then of y → (Ê + A)·(Ê + A), elementwise. */
export const narrowProduct: RingRow<'narrowProduct', { readonly moduli: readonly [number, number] }> = {
  /** α_x α_y, and the top bits times the other's α where an operand is narrow; and both bits, where their product counts. */
  corrections: ({ parameters: { moduli } }, { ring }) =>
    positive([ring.bits, ...moduli.map((modulus) => ring.bits - modulus), ring.bits - moduli[0] - moduli[1]]),
  meaning: (exact, node, _, x, __, ___, y) => times(exact, node, x!, y!),
};
