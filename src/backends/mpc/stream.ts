import { SottoError } from '../../errors/index.ts';
import type { Channel } from '../../net/contract.ts';
import { streamChunkBytes } from '../cost/index.ts';

/** A long run of bytes in frames of `streamChunkBytes`: setup and offline material, with memory bounded by one chunk. */
export class StreamWriter {
  readonly #channel: Channel;
  readonly #kind: number;
  readonly #chunk = new Uint8Array(streamChunkBytes);
  #filled = 0;
  /** How much of the chunk has held bytes since it was cleared. */
  #used = 0;

  constructor(channel: Channel, kind: number) {
    this.#channel = channel;
    this.#kind = kind;
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + streamChunkBytes - this.#filled);
      this.#chunk.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled === streamChunkBytes) await this.#flush();
    }
  }

  /** Sends what is left and clears the chunk. */
  async finish(): Promise<void> {
    if (this.#filled > 0) await this.#flush();
    this.#chunk.fill(0, 0, this.#used);
    this.#used = 0;
  }

  async #flush(): Promise<void> {
    this.#used = Math.max(this.#used, this.#filled);
    await this.#channel.send(this.#kind, this.#chunk.subarray(0, this.#filled));
    this.#filled = 0;
  }
}

/** The other end: the reader knows from the program how many bytes come. */
export class StreamReader {
  readonly #channel: Channel;
  readonly #kind: number;
  #left: number;
  #pending: Uint8Array = new Uint8Array(0);

  constructor(channel: Channel, kind: number, bytes: number) {
    this.#channel = channel;
    this.#kind = kind;
    this.#left = bytes;
  }

  /** The next `count` bytes; what they came in is cleared, since seeds come this way. */
  async read(count: number): Promise<Uint8Array<ArrayBuffer>> {
    const out = new Uint8Array(count);
    for (let at = 0; at < count; ) {
      if (this.#pending.length === 0) this.#pending = await this.#frame();
      const part = this.#pending.subarray(0, count - at);
      out.set(part, at);
      part.fill(0);
      at += part.length;
      this.#pending = this.#pending.subarray(part.length);
    }
    return out;
  }

  /** Everything that is left, a frame at a time. */
  async forEach(take: (bytes: Uint8Array) => Promise<void>): Promise<void> {
    if (this.#pending.length > 0) await take(this.#pending);
    while (this.#left > 0) await take(await this.#frame());
  }

  async #frame(): Promise<Uint8Array> {
    const expected = Math.min(streamChunkBytes, this.#left);
    const frame = await this.#channel.receive();
    if (frame.kind !== this.#kind || frame.payload.length !== expected || expected === 0)
      throw new SottoError(
        'peer',
        `a frame of kind ${frame.kind} with ${frame.payload.length} bytes where ${expected} of material were due`,
        {
          place: { party: this.#channel.peer },
          remedy: 'check that all parties run the same version of sotto and the same program',
        },
      );
    this.#left -= expected;
    return frame.payload;
  }
}

/** A stream in sections whose bytes both ends know from the program: each goes out once it is whole. */
export class SectionWriter {
  readonly #stream: StreamWriter;
  readonly #sections: number[];
  #left = 0;

  constructor(channel: Channel, kind: number, sections: readonly number[]) {
    this.#stream = new StreamWriter(channel, kind);
    this.#sections = sections.filter((bytes) => bytes > 0);
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      if (this.#left === 0) this.#left = this.#sections.shift()!;
      const part = bytes.subarray(at, at + this.#left);
      await this.#stream.write(part);
      at += part.length;
      this.#left -= part.length;
      if (this.#left === 0) await this.#stream.finish();
    }
  }

  /** The last section has gone out already. */
  async finish(): Promise<void> {}
}

/** The other end. A read does not cross the end of a section. */
export class SectionReader {
  readonly #channel: Channel;
  readonly #kind: number;
  readonly #sections: number[];
  #stream: StreamReader | undefined;
  #left = 0;

  constructor(channel: Channel, kind: number, sections: readonly number[]) {
    this.#channel = channel;
    this.#kind = kind;
    this.#sections = sections.filter((bytes) => bytes > 0);
  }

  async read(count: number): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#left === 0) {
      this.#left = this.#sections.shift()!;
      this.#stream = new StreamReader(this.#channel, this.#kind, this.#left);
    }
    this.#left -= count;
    return await this.#stream!.read(count);
  }
}
