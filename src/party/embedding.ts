import { basename, dirname } from 'node:path';
import { type EmbeddingTable, openEmbedding } from '../models/public-embedding.ts';
import { folderFiles } from '../node/files.ts';
import type { EmbeddingSource } from './client-task.ts';

/** A public table of embeddings from a safetensors file. */
export const embeddingFrom =
  (path: string): EmbeddingSource =>
  (config, declared): Promise<EmbeddingTable> =>
    openEmbedding(folderFiles(dirname(path)), basename(path), config, declared);
