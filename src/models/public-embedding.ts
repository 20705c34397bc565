import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { SottoError } from '../errors/index.ts';
import type { Tensor } from '../program/index.ts';
import type { LlamaConfig } from './configuration.ts';
import { layoutOf } from './families/index.ts';
import type { Files } from './files.ts';
import { wordsOf } from './layout.ts';
import type { PublicEmbedding } from './plan.ts';
import { openSafetensors, readTensor } from './safetensors.ts';

/** The file that a checkpoint with a public embedding gives to clients, beside its own. */
export const embeddingFile = 'embedding.safetensors';

/** A table that the client holds: what it feeds in place of token numbers. */
export interface EmbeddingTable {
  /** (ids, d). */
  rows(ids: readonly number[]): Tensor;
}

/** What a plan says of a table, so that both sides mean the same one. */
export function publicEmbedding(values: Float32Array): PublicEmbedding {
  const words = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, index) => {
    words.setFloat32(4 * index, value, true);
  });
  return { kind: 'public', sha256: bytesToHex(sha256(new Uint8Array(words.buffer))) };
}

export function embeddingTable(values: Float32Array, width: number): EmbeddingTable {
  return {
    rows(ids) {
      const rows = new Float32Array(ids.length * width);
      for (const [at, id] of ids.entries()) rows.set(values.subarray(id * width, (id + 1) * width), at * width);
      return { shape: [ids.length, width], values: rows };
    },
  };
}

/** Reads the table from a safetensors file, of which it may be one tensor among others. Another table than the plan's is a `model` error. */
export async function openEmbedding(
  files: Files,
  path: string,
  config: LlamaConfig,
  declared: PublicEmbedding,
): Promise<EmbeddingTable> {
  const { vocabSize, hiddenSize } = config;
  const tensor = wordsOf(layoutOf(config));
  const refuse = (reason: string): never => {
    throw new SottoError('model', reason, {
      place: { file: `${files.name}/${path}`, tensor },
      remedy: `take the ${embeddingFile} that was published with the served model`,
    });
  };
  const entry = (await openSafetensors(files, path)).tensors.get(tensor) ?? refuse('the file has no such tensor');
  if (entry.shape.join() !== [vocabSize, hiddenSize].join())
    refuse(`a table of shape [${entry.shape}] where the model has [${vocabSize},${hiddenSize}]`);
  const values = await readTensor(files, entry);
  if (publicEmbedding(values).sha256 !== declared.sha256) refuse('the table is not the one that the model was made with');
  return embeddingTable(values, hiddenSize);
}
