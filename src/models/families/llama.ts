import type { LlamaConfig } from '../config.ts';
import type { Layout, Matrix } from '../layout.ts';

export function llamaLayout(config: LlamaConfig): Layout {
  const { hiddenSize: d, intermediateSize: ff, vocabSize, headDim, attentionBias, mlpBias } = config;
  const [wide, narrow] = [config.numAttentionHeads * headDim, config.numKeyValueHeads * headDim];
  const matrix = (name: string, out: number, inputs: number, bias = false): Matrix => ({ name, out, inputs, bias });
  return {
    hiddenSize: d,
    intermediateSize: ff,
    numHiddenLayers: config.numHiddenLayers,
    heads: config.numAttentionHeads,
    keyValueHeads: config.numKeyValueHeads,
    headDim,
    norm: 'rms',
    normBias: false,
    epsilon: config.rmsNormEps,
    normPlace: 'before',
    activation: config.hiddenAct,
    embedding: { kind: 'tokens', words: 'model.embed_tokens.weight', vocabSize },
    block: (index) => {
      const part = (name: string): string => `model.layers.${index}.${name}`;
      return {
        attention: {
          norm: part('input_layernorm'),
          query: matrix(part('self_attn.q_proj'), wide, d, attentionBias),
          key: matrix(part('self_attn.k_proj'), narrow, d, attentionBias),
          value: matrix(part('self_attn.v_proj'), narrow, d, attentionBias),
          out: matrix(part('self_attn.o_proj'), d, wide, attentionBias),
          quad: part('self_attn.quad'),
        },
        mlp: {
          norm: part('post_attention_layernorm'),
          gate: matrix(part('mlp.gate_proj'), ff, d, mlpBias),
          up: matrix(part('mlp.up_proj'), ff, d, mlpBias),
          down: matrix(part('mlp.down_proj'), d, ff, mlpBias),
          act: part('mlp.act'),
        },
      };
    },
    finalNorm: 'model.norm',
    head: matrix(config.tieWordEmbeddings ? 'model.embed_tokens' : 'lm_head', vocabSize, d),
  };
}
