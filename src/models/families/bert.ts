import { z } from 'zod';
import {
  activation,
  type BertConfig,
  checked,
  divides,
  epsilon,
  extent,
  layers,
  misfit,
  orDefault,
  planIn,
  readLabels,
  tokenId,
  width,
} from '../configuration.ts';
import { all, any, exactly, neutralFields } from '../fields.ts';
import type { Layout, Matrix } from '../layout.ts';
import type { Family } from './family.ts';

const schema = z.object({
  model_type: z.enum(['bert', 'roberta']).default('bert'),
  hidden_size: orDefault(width, 768),
  intermediate_size: orDefault(extent(2 ** 20), 3072),
  num_hidden_layers: orDefault(layers, 12),
  num_attention_heads: orDefault(extent(4096), 12),
  vocab_size: extent(2 ** 22).nullish(),
  max_position_embeddings: orDefault(extent(2 ** 24), 512),
  type_vocab_size: orDefault(extent(256), 2),
  pad_token_id: tokenId.nullish(),
  layer_norm_eps: orDefault(epsilon, 1e-12),
  hidden_act: orDefault(activation, 'gelu'),
  position_embedding_type: orDefault(z.literal('absolute', { error: 'only absolute positions are supported' }), 'absolute'),
  is_decoder: orDefault(z.literal(false, { error: 'decoders of this architecture are not supported' }), false),
  id2label: z.record(z.string(), z.string()).nullish(),
  num_labels: extent(2 ** 20).nullish(),
});

const neutral = [
  {
    reason: 'of heads that the classifier does not have',
    fields: any(
      'tie_word_embeddings',
      'pooler_fc_size',
      'pooler_num_attention_heads',
      'pooler_num_fc_layers',
      'pooler_size_per_head',
      'pooler_type',
    ),
  },
  { reason: 'the inverse of id2label, and refused where it is not', fields: any('label2id') },
  {
    reason: 'a text has one class, or one number',
    fields: all(exactly('single_label_classification', 'regression'), 'problem_type'),
  },
  { reason: 'attention looks both ways', fields: all(exactly('bidi'), 'directionality') },
  { reason: 'the tokenizer puts them', fields: any('bos_token_id', 'eos_token_id') },
];

const architectures = { bert: ['BertForSequenceClassification'], roberta: ['RobertaForSequenceClassification'] };
const taken = { architectures, neutral: neutralFields(neutral, false), others: [] };

/** config.json of a BERT or RoBERTa that classifies texts, with the published defaults. */
function parse(raw: unknown, file = 'config.json'): BertConfig {
  const fields = checked(schema, raw, file, taken);
  divides(fields.hidden_size, fields.num_attention_heads, 'num_attention_heads', 'hidden_size', file);
  const layout = fields.model_type;
  const padTokenId = fields.pad_token_id ?? (layout === 'bert' ? 0 : 1);
  const firstPosition = layout === 'bert' ? 0 : padTokenId + 1;
  if (firstPosition >= fields.max_position_embeddings)
    throw misfit(`no position is left behind the ${firstPosition} of the padding`, 'max_position_embeddings', file);
  return {
    family: 'bert',
    layout,
    hiddenSize: fields.hidden_size,
    intermediateSize: fields.intermediate_size,
    numHiddenLayers: fields.num_hidden_layers,
    numAttentionHeads: fields.num_attention_heads,
    headDim: fields.hidden_size / fields.num_attention_heads,
    vocabSize: fields.vocab_size ?? (layout === 'bert' ? 30522 : 50265),
    maxPositionEmbeddings: fields.max_position_embeddings,
    firstPosition,
    typeVocabSize: fields.type_vocab_size,
    padTokenId,
    layerNormEps: fields.layer_norm_eps,
    hiddenAct: fields.hidden_act,
    labels: readLabels(raw, fields, file),
    plan: planIn(raw),
  };
}

/** Where a RoBERTa differs from a BERT: the prefix, and the pooler, which stands in the head. */
const heads = {
  bert: { pooler: 'bert.pooler', head: 'classifier' },
  roberta: { pooler: 'classifier', head: 'classifier.out_proj' },
} as const;

function layout(config: BertConfig): Layout {
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

export const bert: Family<BertConfig> = {
  architectures,
  job: 'classifies texts',
  fields: Object.keys(schema.shape),
  neutral,
  unread: [
    {
      name: /^(bert|roberta)\.embeddings\.(position_ids|token_type_ids)$/,
      reason: '0, 1, 2, … and zeros that older versions saved',
    },
    {
      types: ['roberta'],
      name: /^roberta\.pooler\.dense\.(weight|bias)$/,
      reason: 'a pooler that the published classifier does not read',
    },
  ],
  parse,
  layout,
};
