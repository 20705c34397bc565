// The number types of a safetensors file, and their conversion to and from 32-bit floats.

/** Bits per element of every type the format knows. */
export const dtypeBits = {
  F64: 64,
  F32: 32,
  F16: 16,
  BF16: 16,
  F8_E4M3: 8,
  F8_E5M2: 8,
  F8_E8M0: 8,
  F6_E2M3: 6,
  F6_E3M2: 6,
  F4: 4,
  C64: 64,
  I64: 64,
  I32: 32,
  I16: 16,
  I8: 8,
  U64: 64,
  U32: 32,
  U16: 16,
  U8: 8,
  BOOL: 8,
} as const;
export type Dtype = keyof typeof dtypeBits;

/** Types whose elements are numbers by themselves. All others are codes of numbers, or no weights. */
export type FloatDtype = 'F64' | 'F32' | 'F16' | 'BF16';

export const writableBytes = { F32: 4, F16: 2, BF16: 2 } as const;
export type WritableDtype = keyof typeof writableBytes;

export const isDtype = (value: unknown): value is Dtype => typeof value === 'string' && Object.hasOwn(dtypeBits, value);
export const isFloat = (dtype: Dtype): dtype is FloatDtype => dtype === 'F64' || Object.hasOwn(writableBytes, dtype);

const word = new DataView(new ArrayBuffer(4));

/** The bits of a half-precision number → its value. */
export function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** A number → the bits of the nearest half-precision number, ties to even; too large ones become infinite. */
export function floatToHalf(value: number): number {
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  // Subnormal halves are multiples of 2^-24: the scaled value is exact in a double, so one rounding decides.
  if (magnitude < 0x38800000) return sign | roundToEven(Math.abs(Math.fround(value)) * 2 ** 24);
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

function roundToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

/** The top half of a 32-bit float's bits, rounded to nearest, ties to even. */
export function floatToBfloat(value: number): number {
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** Little-endian words of 16 bits; the bytes themselves where they lie as the machine wants them. */
function wordsOf(bytes: Uint8Array): Uint16Array {
  const count = bytes.length / 2;
  if (littleEndian && bytes.byteOffset % 2 === 0) return new Uint16Array(bytes.buffer, bytes.byteOffset, count);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Uint16Array.from({ length: count }, (_, i) => view.getUint16(2 * i, true));
}

/** The value of every half, made when the first one is read: a table is forty times as fast as the powers of two. */
let halves: Float32Array | undefined;

/** Bytes (little-endian) of a type → 32-bit floats, one per element. Doubles beyond their range come out infinite, which the caller refuses. */
export function decodeValues(dtype: FloatDtype, bytes: Uint8Array): Float32Array {
  const count = (8 * bytes.length) / dtypeBits[dtype];
  const values = new Float32Array(count);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (dtype) {
    case 'F32':
      if (littleEndian) new Uint8Array(values.buffer).set(bytes);
      else for (let i = 0; i < count; i++) values[i] = view.getFloat32(4 * i, true);
      return values;
    case 'F64':
      for (let i = 0; i < count; i++) values[i] = view.getFloat64(8 * i, true);
      return values;
    case 'F16': {
      halves ??= Float32Array.from({ length: 2 ** 16 }, (_, bits) => halfToFloat(bits));
      const words = wordsOf(bytes);
      for (let i = 0; i < count; i++) values[i] = halves[words[i]!]!;
      return values;
    }
    case 'BF16': {
      const patterns = new Uint32Array(values.buffer);
      const words = wordsOf(bytes);
      for (let i = 0; i < count; i++) patterns[i] = words[i]! << 16;
      return values;
    }
  }
}

/** Writes 32-bit floats as a type, little-endian, from `offsetBytes` of the target on. */
export function encodeValues(dtype: WritableDtype, values: Float32Array, target: Uint8Array, offsetBytes: number): void {
  const view = new DataView(target.buffer, target.byteOffset + offsetBytes, values.length * writableBytes[dtype]);
  if (dtype === 'F32' && littleEndian) {
    target.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), offsetBytes);
  } else if (dtype === 'F32') {
    for (let i = 0; i < values.length; i++) view.setFloat32(4 * i, values[i]!, true);
  } else {
    const convert = dtype === 'F16' ? floatToHalf : floatToBfloat;
    for (let i = 0; i < values.length; i++) view.setUint16(2 * i, convert(values[i]!), true);
  }
}
