import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { memoryFiles } from '../../src/models/files.ts';
import { embeddingFile, openEmbedding } from '../../src/models/public-embedding.ts';
import { folderFiles } from '../../src/node/files.ts';
import { convertModel, writeConversion } from '../../src/package/conversion.ts';
import { loadModel } from '../../src/package/index.ts';
import { openModel } from '../../src/package/model.ts';
import { rehearseText, writeText } from '../../src/package/text.ts';
import { launchLocal } from '../../src/party/index.ts';

const folder = mkdtempSync(join(tmpdir(), 'sotto-embedding-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const ring = { bits: 64, fraction: 16 };
const promptIds = [1, 403, 407];
const request = { promptIds, newTokens: 3, ring, rangeFlags: false };

describe('a model whose embedding is public', () => {
  const opened = (async () => {
    const source = await openModel('artefacts/stories-polynomial');
    const files = folderFiles(folder);
    await writeConversion(files, await convertModel(source, { rows: 2, tokens: 16 }), source, {
      dtype: 'F16',
      publishEmbedding: true,
    });
    return { source, model: await openModel(folder) };
  })();

  it('writes the same tokens, and the embedding costs nothing beyond the rows that the client feeds', async () => {
    const { source, model } = await opened;
    const [secret, open] = [await rehearseText(source, request), await rehearseText(model, request)];
    expect(open.newIds).toEqual(secret.newIds);
    expect(open.measured).toEqual(open.forecast);
    expect(await writeText(model, 'fixed', request)).toMatchObject({ newIds: open.newIds });
    const embedded = ({ ledgers }: typeof open): number =>
      [...ledgers.client.scopes].reduce(
        (sum, [scope, bytes]) => sum + (scope.startsWith('embed') ? bytes.clientToServerBytes + bytes.serverToClientBytes : 0),
        0,
      );
    // What is left is the input itself: a row of d words a token.
    expect(embedded(open)).toBe((promptIds.length + 2) * model.config.hiddenSize * 8);
    expect(embedded(secret)).toBeGreaterThan(2 * embedded(open));
    expect(open.measured.offline.dealerSentBytes).toBeLessThan(secret.measured.offline.dealerSentBytes);
  });

  it('takes its table along where it is saved', async () => {
    const { model } = await opened;
    const copy = memoryFiles({});
    await (await loadModel(folder)).save(copy);
    const { plan, config } = model;
    if (config.family !== 'llama') throw new Error('a llama');
    const table = await openEmbedding(copy, embeddingFile, config, plan.embedding!);
    expect(table.rows([3]).shape).toEqual([1, config.hiddenSize]);
  });

  it('is served between processes, and only its table is accepted', async () => {
    const { model } = await opened;
    const expected = await rehearseText(model, request);
    const task = { kind: 'generate', prompt: { ids: promptIds }, newTokens: 3 } as const;
    const { client } = await launchLocal({
      model: folder,
      task,
      ring,
      rangeFlags: false,
      transport: 'unix',
      timeoutMilliseconds: 30_000,
    });
    expect(client.newIds).toEqual(expected.newIds);
    expect(client.sentBytes.online).toBe(client.forecast.online.clientToServerBytes);
    const { plan, config } = model;
    if (config.family !== 'llama') throw new Error('a llama');
    await expect(
      openEmbedding(folderFiles('artefacts/stories-teacher'), 'model.safetensors', config, plan.embedding!),
    ).rejects.toMatchObject({ kind: 'model', place: { tensor: 'model.embed_tokens.weight' } });
  });
});
