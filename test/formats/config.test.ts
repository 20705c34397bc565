import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { parseBertConfig, parseLlamaConfig, parseModelConfig, parseVitConfig } from '../../src/models/config.ts';
import { ropeFrequencies } from '../../src/models/rope.ts';

const shared = join(process.env.SOTTO_SHARED ?? join(import.meta.dirname, '../../../shared'), 'models');
const refusal = (work: () => unknown): SottoError => {
  try {
    work();
  } catch (error) {
    if (error instanceof SottoError) return error;
    throw error;
  }
  throw new Error('was taken');
};

describe('config.json', () => {
  it('gives an empty Llama its published defaults', () => {
    expect(parseModelConfig({ model_type: 'llama' })).toEqual({
      family: 'llama',
      hiddenSize: 4096,
      intermediateSize: 11008,
      numHiddenLayers: 32,
      numAttentionHeads: 32,
      numKeyValueHeads: 32,
      headDim: 128,
      vocabSize: 32000,
      maxPositionEmbeddings: 2048,
      rmsNormEps: 1e-6,
      ropeTheta: 10000,
      ropeScaling: null,
      hiddenAct: 'silu',
      tieWordEmbeddings: false,
      attentionBias: false,
      mlpBias: false,
      bosTokenId: 1,
      eosTokenIds: [2],
      plan: undefined,
    });
  });

  it('gives an empty vision transformer its published defaults', () => {
    expect(parseModelConfig({ model_type: 'vit' })).toEqual({
      family: 'vit',
      hiddenSize: 768,
      intermediateSize: 3072,
      numHiddenLayers: 12,
      numAttentionHeads: 12,
      headDim: 64,
      hiddenAct: 'gelu',
      layerNormEps: 1e-12,
      imageSize: 224,
      patchSize: 16,
      numChannels: 3,
      qkvBias: true,
      labels: ['LABEL_0', 'LABEL_1'],
      plan: undefined,
    });
  });

  it('keeps the plan as it is', () => {
    const sotto = { anything: [1, { x: null }] };
    expect(parseLlamaConfig({ sotto }).plan).toBe(sotto);
    expect(parseVitConfig({ sotto }).plan).toBe(sotto);
  });

  it('reads one or several ends of text, none, and a head dimension of its own', () => {
    expect(parseLlamaConfig({ eos_token_id: [5, 7] }).eosTokenIds).toEqual([5, 7]);
    expect(parseLlamaConfig({ eos_token_id: null, bos_token_id: null })).toMatchObject({ eosTokenIds: [], bosTokenId: null });
    expect(parseLlamaConfig({ hidden_size: 100, num_attention_heads: 3, head_dim: 64, hidden_act: 'swish' })).toMatchObject({
      headDim: 64,
      hiddenAct: 'silu',
    });
  });

  it('reads rotary positions in the older and the newer layout', () => {
    const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };
    const parsed = { type: 'llama3', factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalMaxPositions: 8192 };
    expect(parseLlamaConfig({ rope_theta: 5e5, rope_scaling: { rope_type: 'llama3', ...llama3 } })).toMatchObject({
      ropeTheta: 5e5,
      ropeScaling: parsed,
    });
    const newer = { rope_parameters: { rope_theta: 5e5, rope_type: 'llama3', ...llama3 } };
    expect(parseLlamaConfig(newer)).toMatchObject({ ropeTheta: 5e5, ropeScaling: parsed });
    expect(parseLlamaConfig({ rope_parameters: { rope_theta: 7, rope_type: 'default' } })).toMatchObject({
      ropeTheta: 7,
      ropeScaling: null,
    });
    expect(parseLlamaConfig({ rope_scaling: { type: 'linear', factor: 2 } }).ropeScaling).toEqual({ type: 'linear', factor: 2 });
    const error = refusal(() => parseLlamaConfig({ rope_scaling: { rope_type: 'yarn', factor: 2 } }));
    expect(error.message).toMatch(/rope_scaling.*only default, linear and llama3/);
    expect(refusal(() => parseLlamaConfig({ rope_parameters: { rope_type: 'yarn' } })).place.field).toMatch(/^rope_parameters/);
  });

  it('scales rotary frequencies: high ones stay, low ones are divided, between is blended', () => {
    const base = parseLlamaConfig({ hidden_size: 2048, num_attention_heads: 32, rope_theta: 500000 });
    const plain = ropeFrequencies(base);
    expect(plain[0]).toBe(1);
    expect(plain[31]).toBeCloseTo(500000 ** (-62 / 64), 12);
    expect(ropeFrequencies({ ...base, ropeScaling: { type: 'linear', factor: 4 } })[3]).toBe(plain[3]! / 4);
    const scaling = {
      type: 'llama3',
      factor: 32,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalMaxPositions: 8192,
    } as const;
    const scaled = ropeFrequencies({ ...base, ropeScaling: scaling });
    expect(scaled[0]).toBe(1);
    expect(scaled[31]).toBe(plain[31]! / 32);
    const between = [...plain.keys()].filter((i) => scaled[i] !== plain[i] && scaled[i] !== plain[i]! / 32);
    expect(between.length).toBeGreaterThan(0);
    for (const i of between) {
      const wavelength = (2 * Math.PI) / plain[i]!;
      const smooth = (8192 / wavelength - 1) / 3;
      expect(scaled[i]).toBeCloseTo(((1 - smooth) * plain[i]!) / 32 + smooth * plain[i]!, 15);
    }
  });

  it.each<[string, Record<string, unknown>, string]>([
    ['a hidden size the heads do not divide', { hidden_size: 100, num_attention_heads: 3 }, 'num_attention_heads'],
    ['heads the key/value heads do not divide', { num_attention_heads: 32, num_key_value_heads: 5 }, 'num_key_value_heads'],
    ['an odd head dimension', { head_dim: 63 }, 'head_dim'],
    ['a huge number of layers', { num_hidden_layers: 1e9 }, 'num_hidden_layers'],
    ['text for a number', { hidden_size: '64' }, 'hidden_size'],
    ['an unknown activation', { hidden_act: 'mystery' }, 'hidden_act'],
    ['an epsilon of zero', { rms_norm_eps: 0 }, 'rms_norm_eps'],
    ['an end of text that is no id', { eos_token_id: [-1] }, 'eos_token_id'],
  ])('refuses a Llama with %s', (_name, fields, field) => {
    const error = refusal(() => parseLlamaConfig(fields, 'here/config.json'));
    expect(error.kind).toBe('model');
    expect(error.place.file).toBe('here/config.json');
    expect(error.place.field).toMatch(new RegExp(`^${field}`));
  });

  it('refuses a vision transformer with a patch that does not divide the picture, or classes without a name', () => {
    expect(refusal(() => parseVitConfig({ image_size: 30, patch_size: 8 })).place.field).toBe('patch_size');
    expect(refusal(() => parseVitConfig({ image_size: [32, 64] })).place.field).toBe('image_size');
    expect(refusal(() => parseVitConfig({ id2label: { 0: 'a', 2: 'c' } })).place.field).toBe('id2label');
    expect(parseVitConfig({ image_size: [32, 32], patch_size: [8, 8], id2label: { 1: 'b', 0: 'a' } })).toMatchObject({
      imageSize: 32,
      patchSize: 8,
      labels: ['a', 'b'],
    });
  });

  it('takes label2id where it is the inverse of id2label, and refuses it where it is not', () => {
    const named = { id2label: { 0: 'cat', 1: 'dog' } };
    for (const parse of [parseVitConfig, parseBertConfig]) {
      for (const label2id of [null, { dog: 1, cat: 0 }, { cat: '0', dog: '1' }])
        expect(parse({ ...named, label2id }).labels).toEqual(['cat', 'dog']);
      expect(parse({ id2label: { 0: 'a', 1: 'a' }, label2id: { a: 1 } }).labels).toEqual(['a', 'a']);
      for (const label2id of [
        { cat: 1, dog: 0 },
        { cat: 0 },
        { cat: 0, dog: 1, bird: 2 },
        { cat: 0, dog: 1, bird: 1 },
        [],
        'cat',
        {},
      ])
        expect(refusal(() => parse({ ...named, label2id })).place.field).toBe('label2id');
    }
  });

  it('names an architecture it does not know, and those it does', () => {
    for (const type of ['mamba', '__proto__', 'toString', 7, undefined]) {
      const error = refusal(() => parseModelConfig({ model_type: type }));
      expect(error.kind).toBe('model');
      expect(error.message).toMatch(/llama, vit/);
    }
    expect(refusal(() => parseModelConfig({ model_type: 'mamba' })).message).toMatch(/"mamba"/);
    refusal(() => parseModelConfig(null));
    refusal(() => parseLlamaConfig([]));
  });

  it.skipIf(!existsSync(shared))('reads the configurations of published checkpoints', () => {
    const read = (name: string) => parseModelConfig(JSON.parse(readFileSync(join(shared, name, 'config.json'), 'utf8')));
    expect(read('stories260K')).toMatchObject({ hiddenSize: 64, numKeyValueHeads: 4, headDim: 8, tieWordEmbeddings: true });
    expect(read('babyllama-105')).toMatchObject({ hiddenSize: 128, vocabSize: 105, headDim: 16 });
    expect(read('tiny-vit')).toMatchObject({ family: 'vit', imageSize: 32, patchSize: 8, labels: { length: 10 } });
  });
});
