import { SottoError } from '../errors/index.ts';

/** Which manifest each server showed this client first. */
export interface KnownManifests {
  /** The hash that is remembered of an address. */
  find(server: string): Promise<string | undefined>;
  /** Returns when it is as durable as the place is. */
  remember(server: string, hash: string): Promise<void>;
}

/** Accepts a hash with or without its algorithm; throws a `usage` error where it is none. */
export function parseManifestHash(text: string, field: string): string {
  const hex = /^(?:sha256:)?([0-9a-f]{64})$/.exec(text)?.[1];
  if (hex !== undefined) return hex;
  throw new SottoError('usage', 'a manifest hash is sha256: and 64 hexadecimal digits', {
    place: { field },
    remedy: 'take it from `sotto inspect` of the model, or from its operator',
  });
}

/**
 * The hash that was given must be the manifest's, and replaces what was remembered. Where none was given the one of the first time must be,
 * and this may be the first time. Throws a `peer` error before anything is asked for.
 */
export async function acceptManifest(
  { server, given }: { readonly server: string; readonly given: string | undefined },
  hash: string,
  known: KnownManifests,
): Promise<void> {
  const remembered = await known.find(server);
  if (given !== undefined && given !== hash)
    throw changed(
      `shows the manifest sha256:${hash}, not the one that was given`,
      'check the hash with the operator of the model',
    );
  if (given === undefined && remembered !== undefined && remembered !== hash)
    throw changed(
      `shows the manifest sha256:${hash}, and sha256:${remembered} when it was met first`,
      'a changed tokenizer may read prompts: check the new hash with the operator of the model, and give it once',
    );
  if (remembered !== hash) await known.remember(server, hash);
}

const changed = (reason: string, remedy: string): SottoError =>
  new SottoError('peer', reason, { place: { party: 'server' }, remedy });
