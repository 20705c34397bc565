import { SottoError } from '../errors/index.ts';
import type { Executable, FloatBackend, Tensor } from '../program/index.ts';
import { traceBert } from './bert.ts';
import type { Classification } from './classify.ts';
import type { BertConfig } from './configuration.ts';
import { boundWeights } from './generate.ts';
import type { Plan } from './plan.ts';
import { greedy } from './sample.ts';

/** A text or a pair of texts as token ids, and which text each token belongs to. */
export interface EncodedText {
  readonly ids: readonly number[];
  readonly types: readonly number[];
}

/** A compiled classifier of texts. */
export interface TextClassifier {
  /** The most tokens of a text. */
  readonly tokens: number;
  /** One result a text, in order. Throws an `input` error for no or too many tokens, or ids outside of the vocabulary. */
  classify(texts: readonly EncodedText[]): Promise<Classification[]>;
  /** Frees the compiled program. */
  close(): Promise<void>;
}

export interface FloatEncoder {
  readonly config: BertConfig;
  readonly plan: Plan;
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly backend: FloatBackend;
}

/** Compiles a classifier that takes `batch` texts of up to `tokens` tokens a run, filled up with padding that nobody looks at. */
export async function openTextClassifier(
  model: FloatEncoder,
  options: { batch?: number; tokens?: number } = {},
): Promise<TextClassifier> {
  const { config, plan, weights, backend } = model;
  const { batch = 1, tokens = Math.min(128, config.maxPositionEmbeddings - config.firstPosition) } = options;
  const program = traceBert(config, plan, { batch, tokens });
  const executable = await backend.compile(program, boundWeights(program, weights));
  return {
    tokens,
    async classify(texts) {
      for (const [at, text] of texts.entries()) checkText(config, tokens, text, at);
      const made: Classification[] = [];
      for (let start = 0; start < texts.length; start += batch)
        made.push(...(await classifyBatch(config, executable, texts.slice(start, start + batch), batch, tokens)));
      return made;
    },
    close: () => executable.close(),
  };
}

async function classifyBatch(
  config: BertConfig,
  executable: Executable,
  texts: readonly EncodedText[],
  batch: number,
  tokens: number,
): Promise<Classification[]> {
  const shape = [batch, tokens];
  const ids = new Int32Array(batch * tokens).fill(config.padTokenId);
  const types = new Int32Array(batch * tokens);
  const mask = new Float32Array(batch * tokens);
  for (let row = 0; row < batch; row++) {
    // Rows without a text repeat the first one, so that no row is all padding.
    const text = texts[row] ?? texts[0]!;
    ids.set(text.ids, row * tokens);
    types.set(text.types, row * tokens);
    mask.fill(1, row * tokens, row * tokens + text.ids.length);
  }
  const feeds = new Map<string, Tensor>([
    ['ids', { shape, values: ids }],
    ['types', { shape, values: types }],
    ['mask', { shape, values: mask }],
  ]);
  const all = (await executable.run(feeds)).get('logits')!.values;
  const classes = config.labels.length;
  return texts.map((_, row) => {
    const logits = Float64Array.from(all.subarray(row * classes, (row + 1) * classes));
    const id = greedy(logits);
    return { id, label: config.labels[id]!, logits };
  });
}

function checkText(config: BertConfig, tokens: number, { ids, types }: EncodedText, at: number): void {
  const refuse = (reason: string): never => {
    throw new SottoError('input', reason, {
      place: { field: `text ${at}` },
      remedy: 'encode texts with the tokenizer of this model',
    });
  };
  if (ids.length < 1 || ids.length > tokens) refuse(`${ids.length} tokens where 1 to ${tokens} are taken`);
  if (types.length !== ids.length) refuse(`${types.length} token types for ${ids.length} tokens`);
  const below = (limit: number) => (id: number) => Number.isInteger(id) && id >= 0 && id < limit;
  if (!ids.every(below(config.vocabSize))) refuse(`a token is outside the vocabulary of ${config.vocabSize}`);
  if (!types.every(below(config.typeVocabSize))) refuse(`a token type is not one of ${config.typeVocabSize}`);
}
