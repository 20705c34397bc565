// What the portable layers need of every JavaScript platform, declared once: no Node types, no DOM types.
declare namespace WebAssembly {
  type Exports = Record<string, unknown>;
  type Imports = Record<string, Record<string, unknown>>;
  class Module {
    constructor(bytes: Uint8Array);
  }
  class Instance {
    constructor(module: Module, imports?: Imports);
    readonly exports: Exports;
  }
  class Memory {
    constructor(descriptor: { initial: number; maximum?: number; shared?: boolean });
    readonly buffer: ArrayBuffer;
    grow(pages: number): number;
  }
}
interface ByteStreams {
  readonly readable: {
    getReader(): { read(): Promise<{ done: false; value: Uint8Array } | { done: true }>; cancel(): Promise<void> };
  };
  readonly writable: { getWriter(): { write(bytes: Uint8Array): Promise<void>; close(): Promise<void> } };
}
declare class DecompressionStream {
  constructor(format: 'deflate');
  readonly readable: ByteStreams['readable'];
  readonly writable: ByteStreams['writable'];
}
declare class CompressionStream {
  constructor(format: 'deflate');
  readonly readable: ByteStreams['readable'];
  readonly writable: ByteStreams['writable'];
}
declare class TextEncoder {
  encode(text?: string): Uint8Array<ArrayBuffer>;
}
declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
  decode(bytes?: Uint8Array, options?: { stream?: boolean }): string;
}
