import { SottoError } from '../errors/index.ts';
import { type BundleHeader, headerVersion, type StoredHeader } from '../party/bundle-header.ts';
import type { RunStore } from '../party/session.ts';

/**
 * Material in the memory of a page. It is used in the run it was made for and never written anywhere: a page that is closed or loaded
 * again has none, so that nothing of it can be used twice. Ids are remembered as long as the store lives. Call it once for a page.
 */
export function memoryStore(): RunStore {
  const known = new Set<string>();
  const held = new Map<string, { readonly material: Material; claimed: boolean }>();
  const refuse = (id: string, reason: string): SottoError =>
    new SottoError('material', `bundle ${id} ${reason}`, { place: { party: 'client' }, remedy: 'start the run again' });
  return {
    async write(header) {
      const { id } = header;
      if (known.has(id)) throw refuse(id, 'is known already: material is used once');
      known.add(id);
      const material = new Material();
      return {
        append: async (bytes) => material.append(bytes),
        finish: async () => {
          held.set(id, { material, claimed: false });
          return stored(header, material);
        },
        abort: async () => material.clear(),
      };
    },
    async claim(id, expectation) {
      const bundle = held.get(id);
      if (bundle === undefined || bundle.claimed) throw refuse(id, 'is not there to be claimed');
      bundle.claimed = true;
      return stored({ ...expectation, id, createdFor: 'client' }, bundle.material);
    },
    async open(id) {
      const bundle = held.get(id);
      if (!bundle?.claimed) throw refuse(id, 'was not claimed');
      return { read: async (offset, length) => bundle.material.read(offset, length), close: async () => undefined };
    },
    async burn(id) {
      known.add(id);
      held.get(id)?.material.clear();
      held.delete(id);
    },
  };
}

/** Bytes that grow, and are cleared when they are given up. */
class Material {
  #bytes = new Uint8Array(2 ** 16);
  #filled = 0;

  get length(): number {
    return this.#filled;
  }

  append(part: Uint8Array): void {
    const needed = this.#filled + part.length;
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, 2 * this.#bytes.length));
      grown.set(this.#bytes.subarray(0, this.#filled));
      this.#bytes.fill(0);
      this.#bytes = grown;
    }
    this.#bytes.set(part, this.#filled);
    this.#filled = needed;
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    if (offset < 0 || length < 0 || offset + length > this.#filled)
      throw new SottoError('material', `there are no bytes ${offset} … ${offset + length} of ${this.#filled}`, {
        place: { party: 'client' },
        remedy: 'run the same version of sotto on all sides',
      });
    return this.#bytes.slice(offset, offset + length);
  }

  clear(): void {
    this.#bytes.fill(0);
    this.#filled = 0;
  }
}

/** Nobody reads it here. A hash guards files, and there is none. */
const stored = (header: BundleHeader, material: Material): StoredHeader => ({
  version: headerVersion,
  ...header,
  materialBytes: material.length,
  materialSha256: '',
});
