import { memoryFiles } from '../../src/models/files.ts';
import { onnxBackend } from '../../src/node/onnx.ts';
import { parseRecipe, type RunOptions, runRecipe } from '../../src/train/index.ts';

const text = Array.from({ length: 40 }, (_, i) => `The cat number ${i} sat on the mat, and the dog ${i % 7} ran.`).join('\n--\n');

/** A Llama of one layer, trained for `steps` steps in `directory`; its state is saved every third one. */
export async function tinyRun(directory: string, steps: number, more: Partial<RunOptions> = {}) {
  const backend = onnxBackend();
  const recipe = parseRecipe({
    kind: 'pretrain',
    name: 'tiny',
    seed: 7,
    data: { text: ['text.txt'], separator: '\n--\n', holdOutEvery: 5 },
    tokenizer: { vocabularySize: 300 },
    model: { hiddenSize: 8, intermediateSize: 12, layers: 1, heads: 2, keyValueHeads: 1 },
    context: 16,
    batch: 2,
    steps,
    optimiser: { kind: 'adamw', rate: 0.01, warmup: 3, decay: 0.1 },
    checkpointEvery: 3,
    evaluateEvery: 50,
  });
  try {
    const data = memoryFiles({ 'text.txt': text });
    return await runRecipe({ recipe, directory, data, models: () => data, backend, clock: performance, ...more });
  } finally {
    await backend.close();
  }
}

// As a process of its own: `tiny-run.ts FOLDER STEPS`, slowly enough that somebody can end it.
if (process.argv[1]?.endsWith('tiny-run.ts')) {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const progress = (): void => {
    Atomics.wait(pause, 0, 0, 20);
  };
  await tinyRun(process.argv[2]!, Number(process.argv[3]), { progress });
}
