import type { VitConfig } from '../config.ts';
import type { Layout, Matrix } from '../layout.ts';

export function vitLayout(config: VitConfig): Layout {
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
