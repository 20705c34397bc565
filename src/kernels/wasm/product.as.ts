// Matrix products. Both words share the blocking; the packed panels and the tile differ.
//
// u64: there is no fast 64-bit vector product, so the tile computes Winograd's inner product (1968), which halves the products:
//   Σ_p a₁b₁ + a₂b₂ = Σ_p (a₁ + b₂)(a₂ + b₁) − Σ_p a₁a₂ − Σ_p b₁b₂   over pairs p of the inner dimension,
// exact in a ring; the corrections depend on one side only and are computed while packing.
// u32: plain products, the instruction exists.
import { loadWord, storeWord, vectorsEnd } from './elementwise.as';

const TILE_ROWS: i32 = 4;
const TILE_COLUMNS: i32 = sizeof<Word>() == 8 ? 2 : 8;
/** Blocking: a panel of b (DEPTH × COLUMNS) stays in the second-level cache, one of a (ROWS × DEPTH) in the first. */
const DEPTH: i32 = 256;
const COLUMNS: i32 = 256;
const ROWS: i32 = 64;
/** Behind each packed panel: the u64 corrections of its rows or columns. */
const CORRECTION_BYTES: i32 = 32;
/** Fewer rows than this are not worth packing b for (measured). */
const PACKED_ROWS: i32 = sizeof<Word>() == 8 ? 6 : 12;
const PACKED_DEPTH: i32 = 8;

/** The most scratch memory that a product uses. */
export function productScratchBytes(): usize {
  const columnPanels = COLUMNS / TILE_COLUMNS;
  const rowPanels = ROWS / TILE_ROWS;
  return (
    <usize>(columnPanels * (DEPTH * TILE_COLUMNS * <i32>sizeof<Word>() + CORRECTION_BYTES)) +
    <usize>(rowPanels * (DEPTH * TILE_ROWS * <i32>sizeof<Word>() + CORRECTION_BYTES)) +
    <usize>(TILE_ROWS * TILE_COLUMNS) * sizeof<Word>()
  );
}

// @ts-ignore: decorator
@inline
function words(count: i32): usize {
  return <usize>count * sizeof<Word>();
}

/** Four rows of a, interleaved: by pairs (a₁ a₂) for u64, by single words for u32. Missing rows are zeros. */
function packRows(to: usize, a: usize, lda: i32, depth: i32, rows: i32): void {
  for (let r = 0; r < TILE_ROWS; r++) {
    let p = a + words(r * lda);
    if (sizeof<Word>() == 8) {
      let q = to + <usize>r * 16;
      let correction: u64 = 0;
      const pairsEnd = q + <usize>(depth >> 1) * 64;
      if (r >= rows) {
        for (; q < pairsEnd; q += 64) v128.store(q, v128.splat<u64>(0));
      } else {
        for (; q < pairsEnd; q += 64, p += 16) {
          const a1 = load<u64>(p);
          const a2 = load<u64>(p, 8);
          store<u64>(q, a1);
          store<u64>(q, a2, 8);
          correction += a1 * a2;
        }
      }
      if (depth & 1) {
        store<u64>(q, r < rows ? load<u64>(p) : 0);
        store<u64>(q, 0, 8);
      }
      store<u64>(to + <usize>((depth + 1) >> 1) * 64 + <usize>r * 8, correction);
    } else {
      let q = to + <usize>r * 4;
      const end = q + <usize>depth * 16;
      if (r >= rows) for (; q < end; q += 16) store<u32>(q, 0);
      else for (; q < end; q += 16, p += 4) store<u32>(q, load<u32>(p));
    }
  }
}

/** TILE_COLUMNS columns of b; for u64 two rows (b₁, b₂) stand side by side. Missing columns are zeros. */
function packColumns(to: usize, b: usize, ldb: i32, depth: i32, columns: i32): void {
  const row = words(ldb);
  if (sizeof<Word>() == 8) {
    let correction = v128.splat<u64>(0);
    const full = columns == 2;
    for (let p = depth >> 1; p > 0; p--, b += 2 * row, to += 32) {
      const b1 = full ? v128.load(b) : loadWord(b);
      const b2 = full ? v128.load(b + row) : loadWord(b + row);
      v128.store(to, b1);
      v128.store(to, b2, 16);
      correction = i64x2.add(correction, i64x2.mul(b1, b2));
    }
    if (depth & 1) {
      v128.store(to, full ? v128.load(b) : loadWord(b));
      v128.store(to, v128.splat<u64>(0), 16);
      to += 32;
    }
    v128.store(to, correction);
    return;
  }
  if (columns == TILE_COLUMNS) {
    for (; depth > 0; depth--, b += row, to += 32) {
      v128.store(to, v128.load(b));
      v128.store(to, v128.load(b, 16), 16);
    }
    return;
  }
  for (; depth > 0; depth--, b += row, to += 32) {
    for (let c = 0; c < TILE_COLUMNS; c++) store<u32>(to + <usize>c * 4, c < columns ? load<u32>(b + <usize>c * 4) : 0);
  }
}

// @ts-ignore: decorator
@inline
function term64(a1: usize, b1: v128, b2: v128): v128 {
  return i64x2.mul(i64x2.add(b2, v128.load_splat<u64>(a1)), i64x2.add(b1, v128.load_splat<u64>(a1, 8)));
}

/** c (4 × 2) = a panel · b panel, plus c when `accumulate`. */
function tile64(pairs: i32, a: usize, b: usize, c: usize, row: usize, accumulate: bool): void {
  const rowCorrections = a + <usize>pairs * 64;
  const correction = v128.load(b + <usize>pairs * 32);
  let c0 = i64x2.neg(i64x2.add(correction, v128.load_splat<u64>(rowCorrections)));
  let c1 = i64x2.neg(i64x2.add(correction, v128.load_splat<u64>(rowCorrections, 8)));
  let c2 = i64x2.neg(i64x2.add(correction, v128.load_splat<u64>(rowCorrections, 16)));
  let c3 = i64x2.neg(i64x2.add(correction, v128.load_splat<u64>(rowCorrections, 24)));
  for (; a < rowCorrections; a += 64, b += 32) {
    const b1 = v128.load(b);
    const b2 = v128.load(b, 16);
    c0 = i64x2.add(c0, term64(a, b1, b2));
    c1 = i64x2.add(c1, term64(a + 16, b1, b2));
    c2 = i64x2.add(c2, term64(a + 32, b1, b2));
    c3 = i64x2.add(c3, term64(a + 48, b1, b2));
  }
  if (accumulate) {
    c0 = i64x2.add(c0, v128.load(c));
    c1 = i64x2.add(c1, v128.load(c + row));
    c2 = i64x2.add(c2, v128.load(c + 2 * row));
    c3 = i64x2.add(c3, v128.load(c + 3 * row));
  }
  v128.store(c, c0);
  v128.store(c + row, c1);
  v128.store(c + 2 * row, c2);
  v128.store(c + 3 * row, c3);
}

/** c (4 × 8) = a panel · b panel, plus c when `accumulate`. */
function tile32(depth: i32, a: usize, b: usize, c: usize, row: usize, accumulate: bool): void {
  let c00 = v128.splat<u32>(0);
  let c01 = c00;
  let c10 = c00;
  let c11 = c00;
  let c20 = c00;
  let c21 = c00;
  let c30 = c00;
  let c31 = c00;
  if (accumulate) {
    c00 = v128.load(c);
    c01 = v128.load(c, 16);
    c10 = v128.load(c + row);
    c11 = v128.load(c + row, 16);
    c20 = v128.load(c + 2 * row);
    c21 = v128.load(c + 2 * row, 16);
    c30 = v128.load(c + 3 * row);
    c31 = v128.load(c + 3 * row, 16);
  }
  const end = a + <usize>depth * 16;
  for (; a < end; a += 16, b += 32) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    const a0 = v128.load_splat<u32>(a);
    c00 = i32x4.add(c00, i32x4.mul(a0, b0));
    c01 = i32x4.add(c01, i32x4.mul(a0, b1));
    const a1 = v128.load_splat<u32>(a, 4);
    c10 = i32x4.add(c10, i32x4.mul(a1, b0));
    c11 = i32x4.add(c11, i32x4.mul(a1, b1));
    const a2 = v128.load_splat<u32>(a, 8);
    c20 = i32x4.add(c20, i32x4.mul(a2, b0));
    c21 = i32x4.add(c21, i32x4.mul(a2, b1));
    const a3 = v128.load_splat<u32>(a, 12);
    c30 = i32x4.add(c30, i32x4.mul(a3, b0));
    c31 = i32x4.add(c31, i32x4.mul(a3, b1));
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
  v128.store(c + row, c10);
  v128.store(c + row, c11, 16);
  v128.store(c + 2 * row, c20);
  v128.store(c + 2 * row, c21, 16);
  v128.store(c + 3 * row, c30);
  v128.store(c + 3 * row, c31, 16);
}

// @ts-ignore: decorator
@inline
function tile(depth: i32, a: usize, b: usize, c: usize, row: usize, accumulate: bool): void {
  if (sizeof<Word>() == 8) tile64((depth + 1) >> 1, a, b, c, row, accumulate);
  else tile32(depth, a, b, c, row, accumulate);
}

/** A tile at the lower or right edge: computed aside, and only its real words are written. */
function edge(depth: i32, a: usize, b: usize, c: usize, ldc: i32, accumulate: bool, aside: usize, rows: i32, columns: i32): void {
  tile(depth, a, b, aside, words(TILE_COLUMNS), false);
  for (let r = 0; r < rows; r++) {
    for (let j = 0; j < columns; j++) {
      const to = c + words(r * ldc + j);
      const value = load<Word>(aside + words(r * TILE_COLUMNS + j));
      store<Word>(to, accumulate ? load<Word>(to) + value : value);
    }
  }
}

/** Returns the bytes of scratch that hold copies of the operands. */
function packed(
  out: usize, a: usize, b: usize, m: i32, k: i32, n: i32, lda: i32, ldb: i32, ldc: i32, accumulate: bool, scratch: usize,
): usize {
  const depthLimit = min(DEPTH, (k + 1) & ~1);
  const columnPanel = words(depthLimit * TILE_COLUMNS) + CORRECTION_BYTES;
  const rowPanel = words(depthLimit * TILE_ROWS) + CORRECTION_BYTES;
  const panels = (min(COLUMNS, n) + TILE_COLUMNS - 1) / TILE_COLUMNS;
  const aPanels = scratch + <usize>panels * columnPanel;
  const aside = aPanels + <usize>((min(ROWS, m) + TILE_ROWS - 1) / TILE_ROWS) * rowPanel;
  for (let j0 = 0; j0 < n; j0 += COLUMNS) {
    const j1 = min(j0 + COLUMNS, n);
    for (let p = 0; p < k; p += DEPTH) {
      const depth = min(DEPTH, k - p);
      const add = accumulate || p > 0;
      for (let j = j0, to = scratch; j < j1; j += TILE_COLUMNS, to += columnPanel) {
        packColumns(to, b + words(p * ldb + j), ldb, depth, min(TILE_COLUMNS, j1 - j));
      }
      for (let i0 = 0; i0 < m; i0 += ROWS) {
        const i1 = min(i0 + ROWS, m);
        for (let i = i0, to = aPanels; i < i1; i += TILE_ROWS, to += rowPanel) packRows(to, a + words(i * lda + p), lda, depth, i1 - i);
        for (let j = j0, bp = scratch; j < j1; j += TILE_COLUMNS, bp += columnPanel) {
          for (let i = i0, ap = aPanels; i < i1; i += TILE_ROWS, ap += rowPanel) {
            const c = out + words(i * ldc + j);
            const rows = min(TILE_ROWS, i1 - i);
            const columns = min(TILE_COLUMNS, j1 - j);
            if (rows == TILE_ROWS && columns == TILE_COLUMNS) tile(depth, ap, bp, c, words(ldc), add);
            else edge(depth, ap, bp, c, ldc, add, aside, rows, columns);
          }
        }
      }
    }
  }
  return aside - scratch + words(TILE_ROWS * TILE_COLUMNS);
}

/** One row: out (n) += Σ_p a[p] · b[p], four rows of b at a time, so that b streams through once and out stays in the cache. */
function rowProduct(out: usize, a: usize, b: usize, k: i32, n: i32, ldb: i32): void {
  const row = words(ldb);
  const end = out + words(n);
  const last = vectorsEnd(out, <usize>n);
  let p = 0;
  for (; p + 4 <= k; p += 4, a += words(4), b += 4 * row) {
    const a0 = v128.load_splat<Word>(a);
    const a1 = v128.load_splat<Word>(a + words(1));
    const a2 = v128.load_splat<Word>(a + words(2));
    const a3 = v128.load_splat<Word>(a + words(3));
    let q = b;
    let c = out;
    for (; c < last; c += 16, q += 16) {
      const left = v128.add<Word>(v128.mul<Word>(a0, v128.load(q)), v128.mul<Word>(a1, v128.load(q + row)));
      const right = v128.add<Word>(v128.mul<Word>(a2, v128.load(q + 2 * row)), v128.mul<Word>(a3, v128.load(q + 3 * row)));
      v128.store(c, v128.add<Word>(v128.load(c), v128.add<Word>(left, right)));
    }
    for (; c < end; c += words(1), q += words(1)) {
      const left = v128.add<Word>(v128.mul<Word>(a0, loadWord(q)), v128.mul<Word>(a1, loadWord(q + row)));
      const right = v128.add<Word>(v128.mul<Word>(a2, loadWord(q + 2 * row)), v128.mul<Word>(a3, loadWord(q + 3 * row)));
      storeWord(c, v128.add<Word>(loadWord(c), v128.add<Word>(left, right)));
    }
  }
  for (; p < k; p++, a += words(1), b += row) {
    const a0 = v128.load_splat<Word>(a);
    let q = b;
    let c = out;
    for (; c < last; c += 16, q += 16) v128.store(c, v128.add<Word>(v128.load(c), v128.mul<Word>(a0, v128.load(q))));
    for (; c < end; c += words(1), q += words(1)) storeWord(c, v128.add<Word>(loadWord(c), v128.mul<Word>(a0, loadWord(q))));
  }
}

/**
 * out[i] = a[i]·b[i] for `batch` matrices that stand `strideOut`, `strideA`, `strideB` words apart; rows of a, b and out are `lda`,
 * `ldb` and `ldc` words apart, so that workers can take a part of the rows or columns. Adds to out when `accumulate`. Clears its scratch.
 */
export function product(
  out: usize, a: usize, b: usize, batch: i32, m: i32, k: i32, n: i32, lda: i32, ldb: i32, ldc: i32,
  strideA: i32, strideB: i32, strideOut: i32, accumulate: bool, scratch: usize,
): void {
  let used: usize = 0;
  for (let i = 0; i < batch; i++, out += words(strideOut), a += words(strideA), b += words(strideB)) {
    if (m >= PACKED_ROWS && k >= PACKED_DEPTH && n >= TILE_COLUMNS) {
      used = packed(out, a, b, m, k, n, lda, ldb, ldc, accumulate, scratch);
      continue;
    }
    for (let r = 0; r < m; r++) {
      const row = out + words(r * ldc);
      if (!accumulate) memory.fill(row, 0, words(n));
      rowProduct(row, a + words(r * lda), b, k, n, ldb);
    }
  }
  if (used > 0) memory.fill(scratch, 0, used);
}
