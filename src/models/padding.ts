import type { Ops, Ref, Tensor } from '../program/index.ts';

/**
 * Texts of secret length: the client fills a prompt up to a public number of positions and shares a mask that says which of them count.
 * docs/protocols/padding.md derives what is computed of it.
 */
export interface Padding {
  /** 0/1, what a key counts for with each query; broadcasts to the scores (…, Hkv, G·Q, K). */
  readonly keep: Ref;
  /** 1 where a place before a causal text sees itself, 0 elsewhere; asked for where its score of 0 would leave its row empty. */
  readonly alone?: (() => Ref) | undefined;
  /** `keep` over the number of keys that count, of the same shape: asked for where rows are centred. */
  readonly shares: () => Ref;
  /** One over the number of keys that count, (G·Q, 1) or (1, 1): asked for where a sum is taken for a mean. */
  readonly inverseLengths: () => Ref;
}

/** Names of the client's inputs; those of a decoded token have its number behind. */
export const paddingInputs = { mask: 'padding.mask', shares: 'padding.shares', inverse: 'padding.inverse' } as const;
const step = (name: string, at: number): string => (at === 0 ? name : `${name}.${at}`);

/** Shares and inverses are fed times this power of two, so that they lose no more bits in long rows than in short ones. */
export const paddingScale = (positions: number): number => 2 ** Math.ceil(Math.log2(positions));

/** The client's mask of `positions` positions as integers, (positions): one-hot rows of two, of which the second place is read. */
export function paddingMask(ops: Ops<Ref>, positions: number): Ref {
  const flags = ops.oneHot(ops.input(paddingInputs.mask, [positions], 'client', 'index'), 2);
  return ops.reshape(ops.slice(flags, 1, 1, 2), [positions]);
}

/** What the client feeds of its lengths, declared where a layer first asks for it. `rows` queries of one head over `keys`. */
export function paddingRows(
  ops: Ops<Ref>,
  at: number,
  { rows, keys, positions }: { rows: number; keys: number; positions: number },
): { readonly shares: () => Ref; readonly inverseLengths: () => Ref } {
  const fed = (name: string, width: number): (() => Ref) =>
    memo(() => ops.scale(ops.input(step(name, at), [rows, width], 'client'), 1 / paddingScale(positions)));
  return { shares: fed(paddingInputs.shares, keys), inverseLengths: fed(paddingInputs.inverse, 1) };
}

/** The same node whenever it is asked for: what many layers read is shared, and opened, once. */
export function memo(make: () => Ref): () => Ref {
  let made: Ref | undefined;
  return () => (made ??= make());
}

/** Rows (Q, K) of one head repeated for the `groups` heads that share keys: (G·Q, K). */
export function forGroups(ops: Ops<Ref>, rows: Ref, groups: number): Ref {
  const [queries, keys] = ops.shape(rows) as [number, number];
  if (groups === 1 || queries === 1) return rows;
  return ops.reshape(ops.broadcast(ops.reshape(rows, [1, queries, keys]), [groups, queries, keys]), [groups * queries, keys]);
}

/** What a client knows of its own lengths. */
export interface PaddedLengths {
  readonly kind: 'causal' | 'encoder';
  /** Tokens that count. */
  readonly real: number;
  /** Positions of the prompt; a causal text stands at their end, an encoder's at their beginning. */
  readonly positions: number;
  /** New tokens of a causal text. */
  readonly newTokens: number;
}

/** The client's input of a name that padding declares; undefined for every other name. */
export function paddingInput(name: string, lengths: PaddedLengths): Tensor | undefined {
  if (name === paddingInputs.mask) return maskOf(lengths);
  const [, part, at = '0'] = /^padding\.(shares|inverse)(?:\.(\d+))?$/.exec(name) ?? [];
  if (part === undefined) return undefined;
  const rows = countedRows(lengths, Number(at));
  if (part === 'inverse') return columns(rows.map(({ scale, counted }) => Float64Array.of(scale / counted)));
  return columns(rows.map(({ scale, counted, from, to, keys }) => new Float64Array(keys).fill(scale / counted, from, to)));
}

function maskOf({ kind, real, positions }: PaddedLengths): Tensor {
  const values = new Int32Array(positions);
  if (kind === 'causal') values.fill(1, positions - real);
  else values.fill(1, 0, real);
  return { shape: [positions], values };
}

function columns(rows: readonly Float64Array[]): Tensor {
  const width = rows[0]!.length;
  const values = new Float64Array(rows.length * width);
  for (const [at, row] of rows.entries()) values.set(row, at * width);
  return { shape: [rows.length, width], values };
}

/** Which keys count for each query of a step: those from `from` to `to` of `keys`. */
function countedRows({ kind, real, positions, newTokens }: PaddedLengths, at: number) {
  const scale = paddingScale(positions + newTokens);
  if (kind === 'encoder') return [{ scale: paddingScale(positions), counted: real, from: 0, to: real, keys: positions }];
  const first = positions - real;
  const row = (position: number, keys: number) => {
    // A place before the text sees itself: it stays an ordinary row, and nobody looks at it.
    const from = position < first ? position : first;
    return { scale, counted: position + 1 - from, from, to: position + 1, keys };
  };
  if (at > 0) return [row(positions + at - 1, positions + at)];
  return Array.from({ length: positions }, (_, position) => row(position, positions));
}

/** A prompt filled up: before a causal text its own first token, behind an encoder's text `filler`. */
export function paddedIds(ids: readonly number[], { kind, positions }: PaddedLengths, filler = ids[0]!): readonly number[] {
  const filling = Array.from({ length: positions - ids.length }, () => filler);
  return kind === 'causal' ? [...filling, ...ids] : [...ids, ...filling];
}
