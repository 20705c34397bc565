import { z } from 'zod';
import {
  activation,
  checked,
  divides,
  epsilon,
  extent,
  layers,
  orDefault,
  planIn,
  readLabels,
  type VitConfig,
  width,
} from '../configuration.ts';
import { all, any, exactly, neutralFields } from '../fields.ts';
import type { Layout, Matrix } from '../layout.ts';
import type { Family } from './family.ts';

const square = (limit: number) =>
  z.preprocess((raw) => (Array.isArray(raw) && raw.length === 2 && raw[0] === raw[1] ? raw[0] : raw), extent(limit));

const schema = z.object({
  hidden_size: orDefault(width, 768),
  intermediate_size: orDefault(extent(2 ** 20), 3072),
  num_hidden_layers: orDefault(layers, 12),
  num_attention_heads: orDefault(extent(4096), 12),
  hidden_act: orDefault(activation, 'gelu'),
  layer_norm_eps: orDefault(epsilon, 1e-12),
  image_size: orDefault(square(2 ** 14), 224),
  patch_size: orDefault(square(2 ** 12), 16),
  num_channels: orDefault(extent(64), 3),
  qkv_bias: orDefault(z.boolean(), true),
  id2label: z.record(z.string(), z.string()).nullish(),
  num_labels: extent(2 ** 20).nullish(),
});

const neutral = [
  {
    reason: 'of heads that the classifier does not have',
    fields: any('encoder_stride', 'pooler_act', 'pooler_output_size', 'tie_word_embeddings'),
  },
  { reason: 'the inverse of id2label, and refused where it is not', fields: any('label2id') },
  { reason: 'a picture has one class', fields: all(exactly('single_label_classification'), 'problem_type') },
  { reason: 'part of a decoder, unless it is off', fields: all(exactly(false), 'is_decoder') },
];

const architectures = { vit: ['ViTForImageClassification'] };
const taken = { architectures, neutral: neutralFields(neutral, false), others: [] };

/** config.json of a vision transformer that classifies pictures, with the published defaults. */
function parse(raw: unknown, file = 'config.json'): VitConfig {
  const fields = checked(schema, raw, file, taken);
  divides(fields.hidden_size, fields.num_attention_heads, 'num_attention_heads', 'hidden_size', file);
  divides(fields.image_size, fields.patch_size, 'patch_size', 'image_size', file);
  return {
    family: 'vit',
    hiddenSize: fields.hidden_size,
    intermediateSize: fields.intermediate_size,
    numHiddenLayers: fields.num_hidden_layers,
    numAttentionHeads: fields.num_attention_heads,
    headDim: fields.hidden_size / fields.num_attention_heads,
    hiddenAct: fields.hidden_act,
    layerNormEps: fields.layer_norm_eps,
    imageSize: fields.image_size,
    patchSize: fields.patch_size,
    numChannels: fields.num_channels,
    qkvBias: fields.qkv_bias,
    labels: readLabels(raw, fields, file),
    plan: planIn(raw),
  };
}

function layout(config: VitConfig): Layout {
  const { hiddenSize: d, intermediateSize: ff, patchSize: p, numChannels, qkvBias } = config;
  const matrix = (name: string, out: number, inputs: number, bias = true): Matrix => ({ name, out, inputs, bias });
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
    normPlace: 'before',
    activation: config.hiddenAct,
    embedding: {
      kind: 'patches',
      projection: {
        ...matrix('vit.embeddings.patch_embeddings.projection', d, numChannels * p * p),
        stored: [d, numChannels, p, p],
      },
      count: (config.imageSize / p) ** 2,
      first: 'vit.embeddings.cls_token',
      positions: 'vit.embeddings.position_embeddings',
    },
    block: (index) => {
      const part = (name: string): string => `vit.encoder.layer.${index}.${name}`;
      return {
        attention: {
          norm: part('layernorm_before'),
          query: matrix(part('attention.attention.query'), d, d, qkvBias),
          key: matrix(part('attention.attention.key'), d, d, qkvBias),
          value: matrix(part('attention.attention.value'), d, d, qkvBias),
          out: matrix(part('attention.output.dense'), d, d),
          quad: part('attention.attention.quad'),
        },
        mlp: {
          norm: part('layernorm_after'),
          up: matrix(part('intermediate.dense'), ff, d),
          down: matrix(part('output.dense'), d, ff),
          act: part('intermediate.act'),
        },
      };
    },
    finalNorm: 'vit.layernorm',
    head: matrix('classifier', config.labels.length, d),
  };
}

export const vit: Family<VitConfig> = {
  architectures,
  job: 'classifies pictures',
  fields: Object.keys(schema.shape),
  neutral,
  unread: [{ name: /^vit\.pooler\.dense\.(weight|bias)$/, reason: 'a pooler that the published classifier does not read' }],
  parse,
  layout,
};
