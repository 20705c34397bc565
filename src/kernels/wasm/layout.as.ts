// Strided reads and writes, and sums over an axis. Strides are in words.
import { LANES, loadWord, storeWord, vectorsEnd } from './elementwise.as';

/** Runs of at least this many bytes are left to the engine's own copy; shorter ones are not worth the call. */
const BULK_BYTES: usize = 512;
/** Transposes go by square tiles of this many words, so that both sides stay in the first-level cache. */
const TILE: i32 = 32;

// @ts-ignore: decorator
@inline
function copyRow(to: usize, from: usize, length: usize): void {
  if (length * sizeof<Word>() >= BULK_BYTES) {
    memory.copy(to, from, length * sizeof<Word>());
    return;
  }
  const end = to + length * sizeof<Word>();
  const last = vectorsEnd(to, length);
  for (; to < last; to += 16, from += 16) v128.store(to, v128.load(from));
  for (; to < end; to += sizeof<Word>(), from += sizeof<Word>()) store<Word>(to, load<Word>(from));
}

// @ts-ignore: decorator
@inline
function at(base: usize, words: i32): usize {
  return base + <usize>words * sizeof<Word>();
}

/** A square of LANES × LANES words, transposed in registers. */
// @ts-ignore: decorator
@inline
function transposeSquare(to: usize, toRow: usize, from: usize, fromColumn: usize): void {
  const c0 = v128.load(from);
  const c1 = v128.load(from + fromColumn);
  if (sizeof<Word>() == 8) {
    v128.store(to, v128.shuffle<u64>(c0, c1, 0, 2));
    v128.store(to + toRow, v128.shuffle<u64>(c0, c1, 1, 3));
    return;
  }
  const c2 = v128.load(from + 2 * fromColumn);
  const c3 = v128.load(from + 3 * fromColumn);
  const low01 = v128.shuffle<u32>(c0, c1, 0, 4, 1, 5);
  const high01 = v128.shuffle<u32>(c0, c1, 2, 6, 3, 7);
  const low23 = v128.shuffle<u32>(c2, c3, 0, 4, 1, 5);
  const high23 = v128.shuffle<u32>(c2, c3, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<u64>(low01, low23, 0, 2));
  v128.store(to + toRow, v128.shuffle<u64>(low01, low23, 1, 3));
  v128.store(to + 2 * toRow, v128.shuffle<u64>(high01, high23, 0, 2));
  v128.store(to + 3 * toRow, v128.shuffle<u64>(high01, high23, 1, 3));
}

/** to[r·toRow + c] = from[r + c·fromColumn]. */
function transpose(to: usize, toRow: i32, from: usize, fromColumn: i32, rows: i32, columns: i32): void {
  const lanes = <i32>LANES;
  for (let r0 = 0; r0 < rows; r0 += TILE) {
    const r1 = min(r0 + TILE, rows);
    const rSquares = r0 + ((r1 - r0) & ~(lanes - 1));
    for (let c0 = 0; c0 < columns; c0 += TILE) {
      const c1 = min(c0 + TILE, columns);
      const cSquares = c0 + ((c1 - c0) & ~(lanes - 1));
      for (let r = r0; r < rSquares; r += lanes) {
        for (let c = c0; c < cSquares; c += lanes) {
          transposeSquare(at(to, r * toRow + c), at(0, toRow), at(from, r + c * fromColumn), at(0, fromColumn));
        }
        for (let c = cSquares; c < c1; c++) {
          for (let i = r; i < r + lanes; i++) store<Word>(at(to, i * toRow + c), load<Word>(at(from, i + c * fromColumn)));
        }
      }
      for (let r = rSquares; r < r1; r++) {
        for (let c = c0; c < c1; c++) store<Word>(at(to, r * toRow + c), load<Word>(at(from, r + c * fromColumn)));
      }
    }
  }
}

/** to[r·toRow + c·toColumn] = from[r·fromRow + c·fromColumn]. */
function plane(
  to: usize, toRow: i32, toColumn: i32, from: usize, fromRow: i32, fromColumn: i32, rows: i32, columns: i32,
): void {
  if (toColumn == 1 && fromColumn == 1) {
    for (let r = 0; r < rows; r++) copyRow(at(to, r * toRow), at(from, r * fromRow), <usize>columns);
  } else if (toColumn == 1 && fromRow == 1) {
    transpose(to, toRow, from, fromColumn, rows, columns);
  } else if (fromColumn == 1 && toRow == 1) {
    transpose(to, toColumn, from, fromRow, columns, rows);
  } else {
    for (let r = 0; r < rows; r++) {
      let p = at(to, r * toRow);
      let q = at(from, r * fromRow);
      for (let c = 0; c < columns; c++) {
        store<Word>(p, load<Word>(q));
        p += at(0, toColumn);
        q += at(0, fromColumn);
      }
    }
  }
}

/**
 * Copies `rank` ≥ 2 dimensions. The table at `table` holds, as i32: the shape, the strides of `to`, the strides of `from`, and room for
 * one counter per dimension.
 */
export function strided(to: usize, from: usize, rank: i32, table: usize): void {
  const toStrides = table + <usize>rank * 4;
  const fromStrides = toStrides + <usize>rank * 4;
  const counters = fromStrides + <usize>rank * 4;
  const outer = rank - 2;
  const inner = <usize>outer * 4;
  let planes = 1;
  for (let d = 0; d < outer; d++) {
    planes *= load<i32>(table + <usize>d * 4);
    store<i32>(counters + <usize>d * 4, 0);
  }
  for (let i = 0; i < planes; i++) {
    plane(
      to, load<i32>(toStrides + inner), load<i32>(toStrides + inner, 4), from, load<i32>(fromStrides + inner),
      load<i32>(fromStrides + inner, 4), load<i32>(table + inner), load<i32>(table + inner, 4),
    );
    for (let d = outer - 1; d >= 0; d--) {
      const w = <usize>d * 4;
      const count = load<i32>(counters + w) + 1;
      to += at(0, load<i32>(toStrides + w));
      from += at(0, load<i32>(fromStrides + w));
      if (count < load<i32>(table + w)) {
        store<i32>(counters + w, count);
        break;
      }
      store<i32>(counters + w, 0);
      to -= at(0, count * load<i32>(toStrides + w));
      from -= at(0, count * load<i32>(fromStrides + w));
    }
  }
}

// @ts-ignore: decorator
@inline
function horizontal(x: v128): Word {
  if (sizeof<Word>() == 8) return <Word>(i64x2.extract_lane(x, 0) + i64x2.extract_lane(x, 1));
  const y = i32x4.add(x, v128.shuffle<u64>(x, x, 1, 0));
  return <Word>(i32x4.extract_lane(y, 0) + i32x4.extract_lane(y, 1));
}

export function sum(out: usize, a: usize, outer: i32, axis: i32, inner: i32): void {
  if (inner == 1) {
    for (let o = 0; o < outer; o++, out += sizeof<Word>()) {
      const end = at(a, axis);
      const last = vectorsEnd(a, <usize>axis);
      let total = v128.splat<Word>(0);
      for (; a < last; a += 16) total = v128.add<Word>(total, v128.load(a));
      for (; a < end; a += sizeof<Word>()) total = v128.add<Word>(total, loadWord(a));
      store<Word>(out, horizontal(total));
    }
    return;
  }
  const row = at(0, inner);
  for (let o = 0; o < outer; o++, out += row, a += <usize>axis * row) {
    let p: usize = 0;
    const end64 = row & ~63;
    for (; p < end64; p += 64) {
      let s0 = v128.splat<Word>(0);
      let s1 = s0;
      let s2 = s0;
      let s3 = s0;
      for (let i = 0, q = a + p; i < axis; i++, q += row) {
        s0 = v128.add<Word>(s0, v128.load(q));
        s1 = v128.add<Word>(s1, v128.load(q, 16));
        s2 = v128.add<Word>(s2, v128.load(q, 32));
        s3 = v128.add<Word>(s3, v128.load(q, 48));
      }
      v128.store(out + p, s0);
      v128.store(out + p, s1, 16);
      v128.store(out + p, s2, 32);
      v128.store(out + p, s3, 48);
    }
    for (; p < row; p += sizeof<Word>()) {
      let total = v128.splat<Word>(0);
      for (let i = 0, q = a + p; i < axis; i++, q += row) total = v128.add<Word>(total, loadWord(q));
      storeWord(out + p, total);
    }
  }
}

/** Σ a[i]·b[i]. */
// @ts-ignore: decorator
@inline
function inner(a: usize, b: usize, length: usize): Word {
  const end = a + length * sizeof<Word>();
  const last = vectorsEnd(a, length);
  const last32 = a + ((last - a) & ~31);
  let s0 = v128.splat<Word>(0);
  let s1 = s0;
  for (; a < last32; a += 32, b += 32) {
    s0 = v128.add<Word>(s0, v128.mul<Word>(v128.load(a), v128.load(b)));
    s1 = v128.add<Word>(s1, v128.mul<Word>(v128.load(a, 16), v128.load(b, 16)));
  }
  for (; a < last; a += 16, b += 16) s0 = v128.add<Word>(s0, v128.mul<Word>(v128.load(a), v128.load(b)));
  for (; a < end; a += sizeof<Word>(), b += sizeof<Word>()) s0 = v128.add<Word>(s0, v128.mul<Word>(loadWord(a), loadWord(b)));
  return horizontal(v128.add<Word>(s0, s1));
}

/** Rotated by d, the table is its words from d on and then those before d: two plain inner products. */
export function rotatedInner(out: usize, vectors: usize, table: usize, delta: usize, rows: i32, n: i32): void {
  for (let r = 0; r < rows; r++, out += sizeof<Word>(), delta += sizeof<Word>(), vectors += at(0, n)) {
    const d = <i32>(load<Word>(delta) & <Word>(n - 1));
    const head = n - d;
    store<Word>(out, inner(vectors, at(table, d), <usize>head) + inner(at(vectors, head), table, <usize>d));
  }
}
