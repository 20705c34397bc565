import { createHash } from 'node:crypto';
import { expect } from 'vitest';

/**
 * What must not change, as files beside the tests: `npx vitest run test/goldens --update` writes them. A golden changes only in a commit
 * that says why.
 */
export async function golden(name: string, entries: Readonly<Record<string, unknown>>): Promise<void> {
  const lines = Object.entries(entries).map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`);
  await expect(`{\n${lines.join(',\n')}\n}\n`).toMatchFileSnapshot(`${name}.json`);
}

/** The first 64 bits of SHA-256 over texts and bytes, each behind its length. */
export function digest(...parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${part.length} `).update(part);
  return hash.digest('hex').slice(0, 16);
}
