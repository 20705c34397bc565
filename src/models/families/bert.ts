import type { BertConfig } from '../config.ts';
import type { Layout, Matrix } from '../layout.ts';

/** Where a RoBERTa differs from a BERT: the prefix, and the pooler, which stands in the head. */
const heads = {
  bert: { pooler: 'bert.pooler', head: 'classifier' },
  roberta: { pooler: 'classifier', head: 'classifier.out_proj' },
} as const;

export function bertLayout(config: BertConfig): Layout {
  const { layout: prefix, hiddenSize: d, intermediateSize: ff } = config;
  const { pooler, head } = heads[prefix];
  const matrix = (name: string, out: number, inputs: number): Matrix => ({ name, out, inputs, bias: true });
  const table = (name: string): string => `${prefix}.embeddings.${name}`;
  return {
    hiddenSize: d,
    intermediateSize: ff,
    numHiddenLayers: config.numHiddenLayers,
    heads: config.numAttentionHeads,
    keyValueHeads: config.numAttentionHeads,
    headDim: config.headDim,
    norm: 'layer',
    normBias: true,
    epsilon: config.layerNormEps,
    normPlace: 'behind',
    activation: config.hiddenAct,
    embedding: {
      kind: 'tokens',
      words: table('word_embeddings.weight'),
      vocabSize: config.vocabSize,
      types: { name: table('token_type_embeddings.weight'), count: config.typeVocabSize },
      positions: {
        name: table('position_embeddings.weight'),
        count: config.maxPositionEmbeddings,
        first: config.firstPosition,
      },
      norm: table('LayerNorm'),
    },
    block: (index) => {
      const part = (name: string): string => `${prefix}.encoder.layer.${index}.${name}`;
      return {
        attention: {
          norm: part('attention.output.LayerNorm'),
          query: matrix(part('attention.self.query'), d, d),
          key: matrix(part('attention.self.key'), d, d),
          value: matrix(part('attention.self.value'), d, d),
          out: matrix(part('attention.output.dense'), d, d),
          quad: part('attention.self.quad'),
        },
        mlp: {
          norm: part('output.LayerNorm'),
          up: matrix(part('intermediate.dense'), ff, d),
          down: matrix(part('output.dense'), d, ff),
          act: part('intermediate.act'),
        },
      };
    },
    pooler: { matrix: matrix(`${pooler}.dense`, d, d), act: `${pooler}.act` },
    head: matrix(head, config.labels.length, d),
  };
}
