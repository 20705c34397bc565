/** One loop of a strided copy; strides in words, of the dense side and of the other. */
export interface Dimension {
  readonly size: number;
  readonly dense: number;
  readonly far: number;
}

/**
 * The loops of a gather or scatter, outermost first, at least two: dimensions of size 1 dropped, neighbours merged that step as one,
 * and, where the other side is contiguous along a dimension that is not among the last two, that dimension moved there, so that the
 * copy is a transpose in tiles instead of single words. Undefined where there is nothing to copy.
 */
export function stridedTable(shape: readonly number[], strides: readonly number[]): Dimension[] | undefined {
  const loops: Dimension[] = [];
  let dense = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    const size = shape[d]!;
    if (size === 0) return undefined;
    if (size === 1) continue;
    const far = strides[d]!;
    const inner = loops[0];
    if (inner !== undefined && far === inner.far * inner.size) loops[0] = { ...inner, size: size * inner.size };
    else loops.unshift({ size, dense, far });
    dense *= size;
  }
  while (loops.length < 2) loops.unshift({ size: 1, dense: 0, far: 0 });
  const contiguous = loops.findIndex(({ far }) => far === 1);
  if (contiguous >= 0 && contiguous < loops.length - 2) loops.splice(-1, 0, ...loops.splice(contiguous, 1));
  return loops;
}
