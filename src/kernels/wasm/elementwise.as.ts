// Elementwise operations. `Word` is u32 or u64: the build compiles these sources once per word (`asc --use Word=u64`).
// Every operation is written once, on vectors; a last incomplete vector goes through the same code one word at a time.

export const LANES: usize = 16 / sizeof<Word>();

const ADD: i32 = 0;
const SUBTRACT: i32 = 1;
const MULTIPLY: i32 = 2;
const XOR: i32 = 3;

// @ts-ignore: decorator
@inline
export function loadWord(from: usize): v128 {
  return v128.load_zero<Word>(from);
}

// @ts-ignore: decorator
@inline
export function storeWord(to: usize, value: v128): void {
  v128.store_lane<Word>(to, value, 0);
}

/** The address behind the last whole vector of a run of `length` words. */
// @ts-ignore: decorator
@inline
export function vectorsEnd(start: usize, length: usize): usize {
  return start + (length & ~(LANES - 1)) * sizeof<Word>();
}

// @ts-ignore: decorator
@inline
function combine(operation: i32, x: v128, y: v128): v128 {
  if (operation == ADD) return v128.add<Word>(x, y);
  if (operation == SUBTRACT) return v128.sub<Word>(x, y);
  if (operation == MULTIPLY) return v128.mul<Word>(x, y);
  return v128.xor(x, y);
}

// @ts-ignore: decorator
@inline
function binary(operation: i32, out: usize, a: usize, b: usize, length: usize): void {
  const end = out + length * sizeof<Word>();
  const last = vectorsEnd(out, length);
  const blocksEnd = out + ((last - out) & ~63);
  while (out < blocksEnd) {
    const r0 = combine(operation, v128.load(a), v128.load(b));
    const r1 = combine(operation, v128.load(a, 16), v128.load(b, 16));
    const r2 = combine(operation, v128.load(a, 32), v128.load(b, 32));
    const r3 = combine(operation, v128.load(a, 48), v128.load(b, 48));
    v128.store(out, r0);
    v128.store(out, r1, 16);
    v128.store(out, r2, 32);
    v128.store(out, r3, 48);
    out += 64;
    a += 64;
    b += 64;
  }
  while (out < last) {
    v128.store(out, combine(operation, v128.load(a), v128.load(b)));
    out += 16;
    a += 16;
    b += 16;
  }
  while (out < end) {
    storeWord(out, combine(operation, loadWord(a), loadWord(b)));
    out += sizeof<Word>();
    a += sizeof<Word>();
    b += sizeof<Word>();
  }
}

export function add(out: usize, a: usize, b: usize, length: usize): void {
  binary(ADD, out, a, b, length);
}
export function subtract(out: usize, a: usize, b: usize, length: usize): void {
  binary(SUBTRACT, out, a, b, length);
}
export function multiply(out: usize, a: usize, b: usize, length: usize): void {
  binary(MULTIPLY, out, a, b, length);
}
export function xor(out: usize, a: usize, b: usize, length: usize): void {
  binary(XOR, out, a, b, length);
}

/** out = a operation value, for a value that is the same everywhere. */
// @ts-ignore: decorator
@inline
function withScalar(operation: i32, out: usize, a: usize, value: u64, length: usize): void {
  const y = v128.splat<Word>(<Word>value);
  const end = out + length * sizeof<Word>();
  const last = vectorsEnd(out, length);
  for (; out < last; out += 16, a += 16) v128.store(out, combine(operation, v128.load(a), y));
  for (; out < end; out += sizeof<Word>(), a += sizeof<Word>()) storeWord(out, combine(operation, loadWord(a), y));
}

export function addScalar(out: usize, a: usize, value: u64, length: usize): void {
  withScalar(ADD, out, a, value, length);
}
export function multiplyScalar(out: usize, a: usize, value: u64, length: usize): void {
  withScalar(MULTIPLY, out, a, value, length);
}

export function multiplyAdd(out: usize, a: usize, b: usize, length: usize): void {
  const end = out + length * sizeof<Word>();
  const last = vectorsEnd(out, length);
  for (; out < last; out += 16, a += 16, b += 16) {
    v128.store(out, v128.add<Word>(v128.load(out), v128.mul<Word>(v128.load(a), v128.load(b))));
  }
  for (; out < end; out += sizeof<Word>(), a += sizeof<Word>(), b += sizeof<Word>()) {
    storeWord(out, v128.add<Word>(loadWord(out), v128.mul<Word>(loadWord(a), loadWord(b))));
  }
}

export function fill(out: usize, value: u64, length: usize): void {
  const x = v128.splat<Word>(<Word>value);
  const end = out + length * sizeof<Word>();
  const last = vectorsEnd(out, length);
  for (; out < last; out += 16) v128.store(out, x);
  for (; out < end; out += sizeof<Word>()) storeWord(out, x);
}

export function clear(start: usize, bytes: usize): void {
  memory.fill(start, 0, bytes);
}

export function copy(out: usize, a: usize, length: usize): void {
  memory.copy(out, a, length * sizeof<Word>());
}

/** (a << left) >> right; the right shift repeats the sign when `signed`. Masks and every shift of a narrower ring are of this form. */
export function shift(out: usize, a: usize, left: i32, right: i32, signed: bool, length: usize): void {
  const end = out + length * sizeof<Word>();
  const last = vectorsEnd(out, length);
  if (signed) {
    for (; out < last; out += 16, a += 16) v128.store(out, shiftSigned(v128.load(a), left, right));
    for (; out < end; out += sizeof<Word>(), a += sizeof<Word>()) storeWord(out, shiftSigned(loadWord(a), left, right));
  } else {
    for (; out < last; out += 16, a += 16) v128.store(out, v128.shr<Word>(v128.shl<Word>(v128.load(a), left), right));
    for (; out < end; out += sizeof<Word>(), a += sizeof<Word>()) {
      storeWord(out, v128.shr<Word>(v128.shl<Word>(loadWord(a), left), right));
    }
  }
}

// @ts-ignore: decorator
@inline
function shiftSigned(x: v128, left: i32, right: i32): v128 {
  if (sizeof<Word>() == 8) return i64x2.shr_s(i64x2.shl(x, left), right);
  return i32x4.shr_s(i32x4.shl(x, left), right);
}

/** out = bit's lowest bit ? one : zero, by masks: no branch and no address depends on the words. */
export function select(out: usize, bit: usize, one: usize, zero: usize, length: usize): void {
  const end = out + length * sizeof<Word>();
  const last = vectorsEnd(out, length);
  for (; out < last; out += 16, bit += 16, one += 16, zero += 16) {
    v128.store(out, choose(v128.load(bit), v128.load(one), v128.load(zero)));
  }
  for (; out < end; out += sizeof<Word>(), bit += sizeof<Word>(), one += sizeof<Word>(), zero += sizeof<Word>()) {
    storeWord(out, choose(loadWord(bit), loadWord(one), loadWord(zero)));
  }
}

// @ts-ignore: decorator
@inline
function choose(bit: v128, one: v128, zero: v128): v128 {
  return v128.bitselect(one, zero, v128.neg<Word>(v128.and(bit, v128.splat<Word>(1))));
}

export function negate(out: usize, a: usize, length: usize): void {
  const end = out + length * sizeof<Word>();
  const last = vectorsEnd(out, length);
  for (; out < last; out += 16, a += 16) v128.store(out, v128.neg<Word>(v128.load(a)));
  for (; out < end; out += sizeof<Word>(), a += sizeof<Word>()) storeWord(out, v128.neg<Word>(loadWord(a)));
}
