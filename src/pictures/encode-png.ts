import { checkSum } from './crc.ts';
import type { RgbImage } from './image.ts';

/** A PNG file of a picture, without loss. */
export async function encodePng({ width, height, data }: RgbImage): Promise<Uint8Array> {
  const rows = new Uint8Array(height * (1 + 3 * width));
  for (let y = 0; y < height; y++) rows.set(data.subarray(3 * y * width, 3 * (y + 1) * width), y * (1 + 3 * width) + 1);
  const header = new Uint8Array(13);
  header.set(big32(width));
  header.set(big32(height), 4);
  header.set([8, 2], 8);
  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
  return joined([signature, ...part('IHDR', header), ...part('IDAT', await deflated(rows)), ...part('IEND', new Uint8Array(0))]);
}

async function deflated(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new CompressionStream('deflate');
  const writer = stream.writable.getWriter();
  const writing = writer.write(bytes).then(() => writer.close());
  const reader = stream.readable.getReader();
  const parts: Uint8Array[] = [];
  for (let read = await reader.read(); !read.done; read = await reader.read()) parts.push(read.value);
  await writing;
  return joined(parts);
}

function part(name: string, content: Uint8Array): Uint8Array[] {
  const named = joined([Uint8Array.from([...name].map((letter) => letter.charCodeAt(0))), content]);
  return [big32(content.length), named, big32(checkSum(named))];
}

const big32 = (value: number): Uint8Array => Uint8Array.of(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const one of parts) {
    whole.set(one, at);
    at += one.length;
  }
  return whole;
}
