// The number types of a safetensors file, and their conversion to and from 32-bit floats.

/** Bytes per element of every type the format knows. */
export const dtypeBytes = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
} as const;
export type Dtype = keyof typeof dtypeBytes;
export type WritableDtype = 'F32' | 'F16' | 'BF16';

export const isDtype = (value: unknown): value is Dtype => typeof value === 'string' && Object.hasOwn(dtypeBytes, value);

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

/**
 * Bytes (little-endian) of a type → 32-bit floats, one per element; null where sotto does not read the type. Integers beyond
 * ±2^24 and doubles beyond the range of a 32-bit float come out infinite, which the caller refuses.
 */
export function decodeValues(dtype: Dtype, bytes: Uint8Array): Float32Array | null {
  const count = bytes.length / dtypeBytes[dtype];
  const values = new Float32Array(count);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const exact = (value: number) => (Math.abs(value) <= 2 ** 24 ? value : Number.POSITIVE_INFINITY);
  switch (dtype) {
    case 'F32':
      if (littleEndian) new Uint8Array(values.buffer).set(bytes);
      else for (let i = 0; i < count; i++) values[i] = view.getFloat32(4 * i, true);
      return values;
    case 'F64':
      for (let i = 0; i < count; i++) values[i] = view.getFloat64(8 * i, true);
      return values;
    case 'F16':
      for (let i = 0; i < count; i++) values[i] = halfToFloat(view.getUint16(2 * i, true));
      return values;
    case 'BF16': {
      const patterns = new Uint32Array(values.buffer);
      for (let i = 0; i < count; i++) patterns[i] = view.getUint16(2 * i, true) << 16;
      return values;
    }
    case 'I64':
      for (let i = 0; i < count; i++) values[i] = exact(view.getInt32(8 * i + 4, true) * 2 ** 32 + view.getUint32(8 * i, true));
      return values;
    case 'U64':
      for (let i = 0; i < count; i++) values[i] = exact(view.getUint32(8 * i + 4, true) * 2 ** 32 + view.getUint32(8 * i, true));
      return values;
    case 'I32':
      for (let i = 0; i < count; i++) values[i] = exact(view.getInt32(4 * i, true));
      return values;
    case 'U32':
      for (let i = 0; i < count; i++) values[i] = exact(view.getUint32(4 * i, true));
      return values;
    case 'I16':
      for (let i = 0; i < count; i++) values[i] = view.getInt16(2 * i, true);
      return values;
    case 'U16':
      for (let i = 0; i < count; i++) values[i] = view.getUint16(2 * i, true);
      return values;
    case 'I8':
      for (let i = 0; i < count; i++) values[i] = view.getInt8(i);
      return values;
    case 'U8':
    case 'BOOL':
      for (let i = 0; i < count; i++) values[i] = bytes[i]!;
      return values;
    default:
      return null;
  }
}

/** Writes 32-bit floats as a type, little-endian, from `offsetBytes` of the target on. */
export function encodeValues(dtype: WritableDtype, values: Float32Array, target: Uint8Array, offsetBytes: number): void {
  const view = new DataView(target.buffer, target.byteOffset + offsetBytes, values.length * dtypeBytes[dtype]);
  if (dtype === 'F32' && littleEndian) {
    target.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), offsetBytes);
  } else if (dtype === 'F32') {
    for (let i = 0; i < values.length; i++) view.setFloat32(4 * i, values[i]!, true);
  } else {
    const convert = dtype === 'F16' ? floatToHalf : floatToBfloat;
    for (let i = 0; i < values.length; i++) view.setUint16(2 * i, convert(values[i]!), true);
  }
}
