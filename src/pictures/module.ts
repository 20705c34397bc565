import { binaries } from './binary.generated.ts';

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

function fromBase64(text: string): Uint8Array {
  const digits = text.replaceAll('=', '');
  const bytes = new Uint8Array(Math.floor((digits.length * 3) / 4));
  for (let from = 0, to = 0, held = 0, bits = 0; from < digits.length; from++) {
    held = ((held << 6) | alphabet.indexOf(digits[from]!)) & 0xffff;
    bits += 6;
    if (bits >= 8) bytes[to++] = held >> (bits -= 8);
  }
  return bytes;
}

/** What both decoders export of C. */
export interface DecoderExports {
  readonly memory: { readonly buffer: ArrayBuffer };
  malloc(bytes: number): number;
}

const refuse = (): number => {
  throw new Error('the decoder asked for a system call');
};
const imports = {
  // The return to setjmp ends the call instead: the instance is not used again.
  env: { setjmp: () => 0, longjmp: refuse },
  // There is no environment: both counts stay 0.
  wasi_snapshot_preview1: {
    environ_sizes_get: () => 0,
    environ_get: () => 0,
    ...Object.fromEntries(['proc_exit', 'fd_close', 'fd_seek', 'fd_write'].map((name) => [name, refuse])),
  },
};

const modules = new Map<string, WebAssembly.Module>();

/**
 * A decoder with a memory of its own. Each picture gets a new one (0.2 ms), so that no picture, whatever it does to the memory of its
 * decoder, reaches another or anything else of the process.
 */
export function decoder<E extends DecoderExports>(name: keyof typeof binaries): E {
  let module = modules.get(name);
  if (module === undefined) {
    module = new WebAssembly.Module(fromBase64(binaries[name]));
    modules.set(name, module);
  }
  return new WebAssembly.Instance(module, imports).exports as unknown as E;
}

/** Copies bytes into a decoder's memory → their address. */
export function given({ malloc, memory }: DecoderExports, bytes: Uint8Array): number {
  const at = room({ malloc, memory }, bytes.length);
  new Uint8Array(memory.buffer, at, bytes.length).set(bytes);
  return at;
}

/** An address of so many bytes. */
export function room({ malloc }: DecoderExports, bytes: number): number {
  const at = malloc(bytes) >>> 0;
  if (at === 0) throw new Error('no memory is left for the decoder');
  return at;
}
