import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it, vi } from 'vitest';
import { modelManifestHash } from '../../src/party/index.ts';
import { root as checkout, sottoHere } from '../cli/command.ts';
import { temporary } from './models.ts';

vi.setConfig({ testTimeout: 60_000 });
const { path: root, remove } = temporary();
afterAll(remove);

interface Inspected {
  readonly manifest: { readonly sha256: string; readonly asServed: boolean };
}
const asked = async <T>(...words: string[]): Promise<T> => JSON.parse((await sottoHere([...words, '--json'])).stdout) as T;

it('a hash that clients may pin is the one that a server of the folder shows, and another is said to be another', async () => {
  const calibrated = join(checkout, 'artefacts', 'stories-polynomial');
  const { manifest } = await asked<Inspected>('inspect', calibrated);
  expect(manifest).toMatchObject({ asServed: true, sha256: await modelManifestHash(calibrated) });
  expect((await sottoHere(['inspect', calibrated])).stdout).toMatch(/manifest hash: sha256:[0-9a-f]{64}, which clients may pin/);

  const published = join(root, 'published');
  cpSync(join(checkout, 'artefacts', 'stories-teacher'), published, { recursive: true });
  const before = await asked<Inspected>('inspect', published);
  const printed = await asked<{ manifest: string }>('calibrate', '--model', published);
  expect(printed.manifest).toBe(`sha256:${await modelManifestHash(published)}`);
  expect(before.manifest.asServed).toBe(false);
  expect(printed.manifest).not.toBe(`sha256:${before.manifest.sha256}`);
  expect((await sottoHere(['inspect', published])).stdout).toMatch(/of the folder as it is.*`sotto calibrate` prints/);
});
