import { badPicture } from './image.ts';

export interface Inflated {
  /** The next bytes. Throws an `input` error where the stream ends before or is damaged. */
  fill(target: Uint8Array): Promise<void>;
  /** Lets go of the stream; what it has beyond is never unpacked. */
  end(): Promise<void>;
}

/** The bytes of a zlib stream in parts, unpacked by the platform as far as they are asked for. */
export function inflated(file: string, parts: readonly Uint8Array[]): Inflated {
  const stream = new DecompressionStream('deflate');
  const writer = stream.writable.getWriter();
  const reader = stream.readable.getReader();
  const feeding = (async () => {
    for (const part of parts) await writer.write(part);
    await writer.close();
  })().catch(() => undefined);
  let chunk: Uint8Array = new Uint8Array(0);
  const end = async (): Promise<void> => {
    await reader.cancel().catch(() => undefined);
    await feeding;
  };
  return {
    fill: async (target) => {
      for (let filled = 0; filled < target.length; ) {
        if (chunk.length === 0) {
          const read = await reader.read().catch((cause: unknown) => {
            throw badPicture(file, 'is damaged: its data cannot be unpacked', cause);
          });
          if (read.done) throw badPicture(file, 'is cut short');
          chunk = read.value;
          continue;
        }
        const taken = chunk.subarray(0, target.length - filled);
        target.set(taken, filled);
        filled += taken.length;
        chunk = chunk.subarray(taken.length);
      }
    },
    end,
  };
}
