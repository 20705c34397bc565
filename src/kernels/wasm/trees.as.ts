// Walks of the trees of point and comparison functions: everything but the cipher, which is the platform's. Nodes are 16-byte seeds with
// a control byte each. `enc` holds the cipher's answers. Nothing here branches on a seed, a control bit or a correction; the bits of
// public points are used as masks too. The slow twin of every walk is in TypeScript, beside the protocol.

// @ts-ignore: decorator
@inline
function blockXor(a: usize, b: usize): v128 {
  return v128.xor(v128.load(a), v128.load(b));
}

/** out = states, each XORed with `first` (and, in a second block behind it, with first + 1 where `tweaks` is 2). */
export function tweaked(out: usize, states: usize, first: i32, tweaks: i32, count: i32): void {
  const low = i32x4(first, 0, 0, 0);
  const next = i32x4(first + 1, 0, 0, 0);
  for (const end = states + (<usize>count << 4); states < end; states += 16) {
    const s = v128.load(states);
    v128.store(out, v128.xor(s, low));
    out += 16;
    if (tweaks == 2) {
      v128.store(out, v128.xor(s, next));
      out += 16;
    }
  }
}

/** One level of point functions for nodes first … first + count − 1; `left` and `right` hold the answers for these nodes. */
export function pointLevel(
  to: usize, toControls: usize, from: usize, controls: usize, left: usize, right: usize,
  keys: usize, keyBytes: i32, bitsAt: i32, level: i32, first: i32, count: i32,
): void {
  const clear = i32x4(~1, -1, -1, -1);
  let node = first;
  const end = first + count;
  while (node < end) {
    const key = node >> level;
    const keyEnd = min((key + 1) << level, end);
    const cw = keys + <usize>key * keyBytes;
    const cwLeft = v128.load(cw + (<usize>level << 4));
    const tRight = (<i32>load<u8>(cw + bitsAt + (level >> 3)) >> (level & 7)) & 1;
    const cwRight = v128.or(v128.and(cwLeft, clear), i32x4(tRight, 0, 0, 0));
    for (; node < keyEnd; node++) {
      const at = <usize>node;
      const here = (at - first) << 4;
      const s = v128.load(from + (at << 4));
      const mask = i32x4.splat(-<i32>load<u8>(controls + at));
      const l = v128.xor(v128.xor(v128.load(left + here), s), v128.and(mask, cwLeft));
      const r = v128.xor(v128.xor(v128.load(right + here), s), v128.and(mask, cwRight));
      store<u16>(toControls + 2 * at, (i32x4.extract_lane(l, 0) & 1) | ((i32x4.extract_lane(r, 0) & 1) << 8));
      v128.store(to + (at << 5), v128.and(l, clear));
      v128.store(to + (at << 5), v128.and(r, clear), 16);
    }
  }
}

/** The leaves of point functions, `blocksBits` the logarithm of a key's blocks: out = (−1)^party (H(s) + t · CW). */
export function pointLeaves(
  out: usize, states: usize, controls: usize, enc: usize, keys: usize, keyBytes: i32, leafAt: i32, blocksBits: i32,
  first: i32, count: i32, party: i32,
): void {
  const sign = v128.splat<Word>(-<Word>party);
  let node = first;
  const end = first + count;
  while (node < end) {
    const key = node >> blocksBits;
    const keyEnd = min((key + 1) << blocksBits, end);
    const cw = v128.load(keys + <usize>key * keyBytes + leafAt);
    for (; node < keyEnd; node++) {
      const at = <usize>node;
      const h = v128.xor(v128.load(enc + ((at - first) << 4)), v128.load(states + (at << 4)));
      const mask = i32x4.splat(-<i32>load<u8>(controls + at));
      const value = v128.add<Word>(h, v128.and(mask, cw));
      v128.store(out + (at << 4), v128.sub<Word>(v128.xor(value, sign), sign));
    }
  }
}

/** Bit `place` of the public number at `from`. */
// @ts-ignore: decorator
@inline
function bitOf(from: usize, place: i32): i32 {
  return <i32>(load<Word>(from) >> <Word>place) & 1;
}

/** The cipher's input for one level of a walk towards points: s ⊕ x, and s ⊕ (2 + x) behind it where `tweaks` is 2. */
export function towards(out: usize, states: usize, points: usize, place: i32, tweaks: i32, count: i32): void {
  for (let at = 0; at < count; at++) {
    const s = v128.load(states + (<usize>at << 4));
    const x = bitOf(points + <usize>at * sizeof<Word>(), place);
    v128.store(out, v128.xor(s, i32x4(x, 0, 0, 0)));
    out += 16;
    if (tweaks == 2) {
      v128.store(out, v128.xor(s, i32x4(2 | x, 0, 0, 0)));
      out += 16;
    }
  }
}

/** One level of such a walk, `perKey` points a key: the children, and where `tweaks` is 2 sums += v + t · vCW. */
export function stepTowards(
  states: usize, controls: usize, sums: usize, input: usize, enc: usize, points: usize, place: i32, tweaks: i32,
  cw: usize, keyBytes: i32, perKey: i32, count: i32,
): void {
  const clear = i32x4(~3, -1, -1, -1);
  const step = <usize>tweaks << 4;
  let left = perKey;
  let seed = v128.load(cw);
  let value = v128.load(cw, 16);
  for (let at: usize = 0; at < <usize>count; at++) {
    if (left == 0) {
      cw += keyBytes;
      left = perKey;
      seed = v128.load(cw);
      value = v128.load(cw, 16);
    }
    left--;
    const t = <i32>load<u8>(controls + at);
    const mask = i32x4.splat(-t);
    const h = blockXor(input, enc);
    const x = bitOf(points + at * sizeof<Word>(), place);
    store<u8>(controls + at, (i32x4.extract_lane(h, 0) & 1) ^ (t & (i32x4.extract_lane(seed, 0) >> x) & 1));
    v128.store(states + (at << 4), v128.and(v128.xor(h, v128.and(mask, seed)), clear));
    if (tweaks == 2) {
      const v = blockXor(input + 16, enc + 16);
      const sum = v128.add<Word>(v128.load(sums + (at << 4)), v128.add<Word>(v, v128.and(mask, value)));
      v128.store(sums + (at << 4), sum);
    }
    input += step;
    enc += step;
  }
}

/** The end of such a walk: out's `words` words a point = (−1)^party (sums + H + t · CW). */
export function endTowards(
  out: usize, words: i32, controls: usize, sums: usize, input: usize, enc: usize, cw: usize, keyBytes: i32, perKey: i32,
  count: i32, party: i32,
): void {
  const sign = v128.splat<Word>(-<Word>party);
  let left = perKey;
  let value = v128.load(cw);
  for (let at: usize = 0; at < <usize>count; at++) {
    if (left == 0) {
      cw += keyBytes;
      left = perKey;
      value = v128.load(cw);
    }
    left--;
    const mask = i32x4.splat(-<i32>load<u8>(controls + at));
    const here = at << 4;
    let sum = v128.add<Word>(v128.load(sums + here), v128.add<Word>(blockXor(input + here, enc + here), v128.and(mask, value)));
    sum = v128.sub<Word>(v128.xor(sum, sign), sign);
    v128.store_lane<Word>(out, sum, 0);
    if (words == 2) v128.store_lane<Word>(out + sizeof<Word>(), sum, 1);
    out += <usize>words * sizeof<Word>();
  }
}

/** Both children of `perKey` nodes a key; `input` has s and s ⊕ 1 side by side, which become the children. */
export function bothChildren(
  input: usize, enc: usize, toControls: usize, controls: usize, cw: usize, keyBytes: i32, perKey: i32, count: i32,
): void {
  const clear = i32x4(~3, -1, -1, -1);
  let left = perKey;
  let seed = v128.load(cw);
  for (let at: usize = 0; at < <usize>count; at++) {
    if (left == 0) {
      cw += keyBytes;
      left = perKey;
      seed = v128.load(cw);
    }
    left--;
    const t = <i32>load<u8>(controls + at);
    const correction = v128.and(i32x4.splat(-t), seed);
    const bits = i32x4.extract_lane(correction, 0);
    const here = at << 5;
    const l = blockXor(input + here, enc + here);
    const r = blockXor(input + here + 16, enc + here + 16);
    const tLeft = (i32x4.extract_lane(l, 0) ^ bits) & 1;
    const tRight = (i32x4.extract_lane(r, 0) ^ (bits >> 1)) & 1;
    store<u16>(toControls + 2 * at, tLeft | (tRight << 8));
    v128.store(input + here, v128.and(v128.xor(l, correction), clear));
    v128.store(input + here, v128.and(v128.xor(r, correction), clear), 16);
  }
}

/** One word of the leaves of windows: out = (−1)^party (H + t · CW); a leaf has `step` bytes of `input` and `enc`. */
export function windowLeaves(
  out: usize, input: usize, enc: usize, step: i32, controls: usize, cw: usize, keyBytes: i32, perKey: i32, count: i32, party: i32,
): void {
  const negative = <Word>party;
  let left = perKey;
  let correction = load<Word>(cw);
  for (let at: usize = 0; at < <usize>count; at++) {
    if (left == 0) {
      cw += keyBytes;
      left = perKey;
      correction = load<Word>(cw);
    }
    left--;
    const mask = <Word>0 - <Word>load<u8>(controls + at);
    const value = (load<Word>(input) ^ load<Word>(enc)) + (mask & correction);
    store<Word>(out, (value ^ (<Word>0 - negative)) + negative);
    out += sizeof<Word>();
    input += step;
    enc += step;
  }
}

/** `copies` nodes a key from its seed, whose lowest two bits are cleared. */
export function roots(out: usize, seeds: usize, copies: i32, keys: i32): void {
  const clear = i32x4(~3, -1, -1, -1);
  for (const end = seeds + (<usize>keys << 4); seeds < end; seeds += 16) {
    const seed = v128.and(v128.load(seeds), clear);
    for (let copy = 0; copy < copies; copy++) {
      v128.store(out, seed);
      out += 16;
    }
  }
}

/** out[2i] = places[i], out[2i + 1] = places[i] + 1. */
export function neighbours(out: usize, places: usize, count: i32): void {
  for (const end = places + <usize>count * sizeof<Word>(); places < end; places += sizeof<Word>()) {
    const place = load<Word>(places);
    store<Word>(out, place);
    store<Word>(out + sizeof<Word>(), place + 1);
    out += 2 * sizeof<Word>();
  }
}
