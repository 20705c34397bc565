import type { KnownManifests } from '../party/known-manifests.ts';

/** What of a page's storage is used; `localStorage` is one. */
export interface ManifestStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

const keyOf = (server: string): string => `sotto manifest ${server}`;

/** Hashes in a page's storage, one key a server. What cannot be stored is remembered as long as the page lives. */
export function storedManifests(storage: ManifestStorage | undefined): KnownManifests {
  const here = new Map<string, string>();
  return {
    find: async (server) => storage?.getItem(keyOf(server)) ?? here.get(server),
    async remember(server, hash) {
      here.set(server, hash);
      try {
        storage?.setItem(keyOf(server), hash);
      } catch {
        // Full, or closed to this page.
      }
    },
  };
}

/** The storage of this page; undefined where it has none. */
export function pageStorage(): ManifestStorage | undefined {
  try {
    return (globalThis as { readonly localStorage?: ManifestStorage }).localStorage;
  } catch {
    return undefined;
  }
}
