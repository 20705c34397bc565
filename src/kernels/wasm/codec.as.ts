// Words to packed bits and back, fixed point to and from floats. The callers stage their bytes in chunks through this memory.

/** The low `bits` bits of `length` words, little endian without gaps; writes whole u64 words: `to` needs 8 bytes more than the result. */
export function pack(to: usize, from: usize, bits: i32, length: i32): void {
  const end = from + <usize>length * sizeof<Word>();
  const mask: u64 = <u64>-1 >> (64 - bits);
  if (bits == 1) return packBits(to, from, length);
  if ((bits & 7) == 0) {
    const step = <usize>bits >> 3;
    for (; from < end; from += sizeof<Word>(), to += step) store<u64>(to, <u64>load<Word>(from) & mask);
    return;
  }
  let held: u64 = 0;
  let filled = 0;
  for (; from < end; from += sizeof<Word>()) {
    const word = <u64>load<Word>(from) & mask;
    held |= word << filled;
    filled += bits;
    if (filled >= 64) {
      store<u64>(to, held);
      to += 8;
      filled -= 64;
      held = filled > 0 ? word >> (bits - filled) : 0;
    }
  }
  store<u64>(to, held);
}

/** The lowest bits alone: a vector's sign bits come out by one instruction. */
function packBits(to: usize, from: usize, length: i32): void {
  const lanes = <i32>(16 / sizeof<Word>());
  let i = 0;
  for (; i + 8 <= length; i += 8, to++) {
    let byte = 0;
    for (let v = 0; v < 8; v += lanes, from += 16) {
      const x = v128.load(from);
      if (sizeof<Word>() == 8) byte |= i64x2.bitmask(i64x2.shl(x, 63)) << v;
      else byte |= i32x4.bitmask(i32x4.shl(x, 31)) << v;
    }
    store<u8>(to, <u8>byte);
  }
  let byte = 0;
  for (let v = 0; i < length; i++, v++, from += sizeof<Word>()) byte |= <i32>(load<Word>(from) & 1) << v;
  store<u64>(to, <u64>byte);
}

/** The converse; reads up to 8 bytes behind the packed bits. */
export function unpack(to: usize, from: usize, bits: i32, length: i32): void {
  const mask: u64 = <u64>-1 >> (64 - bits);
  const end = to + <usize>length * sizeof<Word>();
  let at: usize = 0;
  for (; to < end; to += sizeof<Word>(), at += bits) {
    const p = from + (at >> 3);
    const low = <u64>at & 7;
    let word = load<u64>(p) >> low;
    // Past 57 bits a word can reach into a ninth byte; two shifts, because one by 64 would be one by 0.
    if (bits > 57) word |= ((<u64>load<u8>(p, 8)) << 1) << (63 - low);
    store<Word>(to, <Word>(word & mask));
  }
}

/** round-half-even(value·scale) as a signed word where low ≤ it < high; returns the index of the first value outside, or −1. */
export function encode(to: usize, from: usize, scale: f64, low: f64, high: f64, length: i32): i32 {
  for (let i = 0; i < length; i++, to += sizeof<Word>(), from += 8) {
    const rounded = nearest(load<f64>(from) * scale);
    if (!(rounded >= low && rounded < high)) return i;
    store<Word>(to, <Word>(<i64>rounded));
  }
  return -1;
}

// @ts-ignore: decorator
@inline
function signed(from: usize, unused: i64): i64 {
  return (<i64>(<u64>load<Word>(from)) << unused) >> unused;
}

export function decode(to: usize, from: usize, scale: f64, ringBits: i32, length: i32): void {
  const unused = <i64>(64 - ringBits);
  for (let i = 0; i < length; i++, to += 8, from += sizeof<Word>()) store<f64>(to, <f64>signed(from, unused) * scale);
}

/** The index of the first word with the largest absolute value, −1 for none. */
export function indexOfMaxAbs(from: usize, ringBits: i32, length: i32): i32 {
  const unused = <i64>(64 - ringBits);
  let best = -1;
  let largest: u64 = 0;
  for (let i = 0; i < length; i++, from += sizeof<Word>()) {
    const word = signed(from, unused);
    const magnitude = <u64>(word < 0 ? -word : word);
    if (best < 0 || magnitude > largest) {
      largest = magnitude;
      best = i;
    }
  }
  return best;
}
