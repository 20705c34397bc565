/**
 * NormalFloat 4 (Dettmers et al., arXiv 2305.14314): the sixteen levels, equally likely under a normal distribution whose largest
 * magnitude is 1, with the float32 values that bitsandbytes publishes.
 */
export const nf4Levels: readonly number[] = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
];

/** A row for every byte, (256, 2): the levels of its high and its low half. */
export const nf4Pairs: Float64Array = Float64Array.from(
  { length: 512 },
  (_, i) => nf4Levels[i % 2 === 0 ? i >> 5 : (i >> 1) & 15]!,
);

/** How many bytes and scales a matrix of so many elements has. */
export const nf4Sizes = (elements: number, block: number): { bytes: number; blocks: number } => ({
  bytes: Math.ceil(elements / 2),
  blocks: Math.ceil(elements / block),
});
