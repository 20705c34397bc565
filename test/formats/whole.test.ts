import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { type BertConfig, type LlamaConfig, parseModelConfig, type VitConfig } from '../../src/models/config.ts';
import { type Dtype, dtypeBits } from '../../src/models/dtypes.ts';
import { memoryFiles } from '../../src/models/files.ts';
import { openModelFolder } from '../../src/models/folder.ts';
import { planOf } from '../../src/models/plan.ts';
import { randomModelWeights } from '../../src/models/weights.ts';

interface Stored {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}
type Tensors = Record<string, Stored>;

const llama = {
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 10,
  max_position_embeddings: 16,
};
const vit = {
  model_type: 'vit',
  architectures: ['ViTForImageClassification'],
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  image_size: 8,
  patch_size: 4,
};
const bert = {
  model_type: 'bert',
  architectures: ['BertForSequenceClassification'],
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  vocab_size: 10,
  max_position_embeddings: 16,
};
const roberta = { ...bert, model_type: 'roberta', architectures: ['RobertaForSequenceClassification'], type_vocab_size: 1 };

const f32 = (values: Iterable<number>, shape?: readonly number[]): Stored => {
  const list = Float32Array.from(values);
  return { dtype: 'F32', shape: shape ?? [list.length], bytes: new Uint8Array(list.buffer) };
};
/** A tensor of any type, its bytes all 1. */
const coded = (dtype: Dtype, shape: readonly number[]): Stored => {
  const bits = shape.reduce((product, extent) => product * extent, dtypeBits[dtype]);
  return { dtype, shape, bytes: new Uint8Array(bits / 8).fill(1) };
};

/** The tensors that a configuration asks for, random. */
function tensorsOf(config: Record<string, unknown>): Tensors {
  const parsed = parseModelConfig(config) as LlamaConfig | VitConfig | BertConfig;
  const made = randomModelWeights(parsed, 7, planOf(parsed));
  return Object.fromEntries([...made].map(([name, { shape, values }]) => [name, f32(values, shape)]));
}

/** A safetensors file, its parts taken as they are. */
function weightFile(tensors: Tensors, metadata: Record<string, string> | undefined = { format: 'pt' }): Uint8Array {
  let offset = 0;
  const header = Object.entries(tensors).map(([name, { dtype, shape, bytes }]) => {
    const start = offset;
    offset += bytes.length;
    return [name, { dtype, shape, data_offsets: [start, offset] }] as const;
  });
  const entries = metadata === undefined ? header : [['__metadata__', metadata] as const, ...header];
  const text = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const file = new Uint8Array(8 + text.length + offset);
  new DataView(file.buffer).setUint32(0, text.length, true);
  file.set(text, 8);
  let at = 8 + text.length;
  for (const { bytes } of Object.values(tensors)) {
    file.set(bytes, at);
    at += bytes.length;
  }
  return file;
}

const folderOf = (config: Record<string, unknown>, tensors: Tensors, extra: Record<string, unknown> = {}) =>
  memoryFiles(
    {
      'config.json': JSON.stringify(config),
      'model.safetensors': weightFile(tensors),
      ...Object.fromEntries(Object.entries(extra).map(([path, value]) => [path, JSON.stringify(value)])),
    },
    'folder',
  );

const refusal = async (work: Promise<unknown>): Promise<SottoError> => {
  const error = await work.then(
    () => new Error('was taken'),
    (reason: unknown) => reason,
  );
  if (error instanceof SottoError) return error;
  throw error;
};

const query = 'model.layers.0.self_attn.q_proj';
const layer = 'model.layers.0';

describe('tensors of a folder', () => {
  it.each([
    ['llama', llama],
    ['llama with tied embeddings and biases', { ...llama, tie_word_embeddings: true, attention_bias: true, mlp_bias: true }],
    ['vit', vit],
    ['bert', bert],
    ['roberta', roberta],
  ])('are all read: %s', async (_, config) => {
    const tensors = tensorsOf(config);
    const { checkpoint } = await openModelFolder(folderOf(config, tensors));
    expect(checkpoint.names()).toEqual(Object.keys(tensors));
    expect([...(await checkpoint.readAll()).keys()]).toEqual(Object.keys(tensors));
  });

  it.each<[why: string, config: Record<string, unknown>, more: Tensors, tensor: string]>([
    ['a bias that config.json does not have', llama, { [`${query}.bias`]: f32([1, 2, 3, 4, 5, 6, 7, 8]) }, `${query}.bias`],
    ['a bias of zeros', llama, { [`${layer}.mlp.up_proj.bias`]: f32(new Float32Array(12)) }, `${layer}.mlp.up_proj.bias`],
    ['a bias of the head', llama, { 'lm_head.bias': f32(new Float32Array(10)) }, 'lm_head.bias'],
    ['a layer too many', llama, { 'model.layers.2.input_layernorm.weight': f32([1]) }, 'model.layers.2.input_layernorm.weight'],
    ['norms of queries', llama, { [`${layer}.self_attn.q_norm.weight`]: f32([1, 1, 1, 1]) }, `${layer}.self_attn.q_norm.weight`],
    ['an adapter', llama, { [`${query}.lora_A.weight`]: f32([1]) }, `${query}.lora_A.weight`],
    ['the scales of int8', llama, { [`${query}.weight_scale`]: f32([1]) }, `${query}.weight_scale`],
    ['the scales of fp8', llama, { [`${query}.weight_scale_inv`]: f32([1]) }, `${query}.weight_scale_inv`],
    ['bitsandbytes, 8 bits', llama, { [`${query}.SCB`]: f32([1]) }, `${query}.SCB`],
    ['bitsandbytes, 4 bits', llama, { [`${query}.weight.absmax`]: coded('U8', [4]) }, `${query}.weight.absmax`],
    ['scales of keys', llama, { [`${layer}.self_attn.k_scale`]: f32([1]) }, `${layer}.self_attn.k_scale`],
    ['a head of another task', llama, { 'score.weight': f32([1]) }, 'score.weight'],
    ['a name from a prototype', llama, { constructor: f32([1]) }, 'constructor'],
    ['a head of masked words', bert, { 'cls.predictions.bias': f32([1]) }, 'cls.predictions.bias'],
    ['a mask token of pictures', vit, { 'vit.embeddings.mask_token': f32([1]) }, 'vit.embeddings.mask_token'],
  ])('are refused with %s', async (_, config, more, tensor) => {
    const error = await refusal(openModelFolder(folderOf(config, { ...tensorsOf(config), ...more })));
    expect(error).toMatchObject({ kind: 'model', place: { file: 'folder', tensor } });
  });

  it('names a tensor without its control characters', async () => {
    const strange = 'x\u001b[2J\u202e';
    const error = await refusal(openModelFolder(folderOf(llama, { ...tensorsOf(llama), [strange]: f32([1]) })));
    expect(error.place.tensor).toBe('x?[2J?');
  });

  it('says of quantised leftovers that they are, and of adapters', async () => {
    const found = async (tensor: string) =>
      (await refusal(openModelFolder(folderOf(llama, { ...tensorsOf(llama), [tensor]: f32([1]) })))).message;
    for (const name of [
      'qweight',
      'qzeros',
      'scales',
      'g_idx',
      'weight.quant_state.bitsandbytes__nf4',
      'input_scale',
      'weight_packed',
      'W_q',
    ])
      expect(await found(`${query}.${name}`)).toMatch(/quantised/);
    expect(await found('base_model.model.x.lora_B.weight')).toMatch(/adapter/);
  });

  it.each<Dtype>(['I8', 'U8', 'I16', 'I32', 'U32', 'I64', 'BOOL', 'F8_E4M3', 'F8_E5M2', 'F8_E8M0', 'F4', 'F6_E2M3', 'C64'])(
    'are refused where a matrix is stored as %s, before anything is read',
    async (dtype) => {
      const name = `${query}.weight`;
      const files = folderOf(llama, { ...tensorsOf(llama), [name]: coded(dtype, [8, 8]) });
      expect(await refusal(openModelFolder(files))).toMatchObject({ kind: 'model', place: { tensor: name } });
    },
  );

  it('are refused where one is missing, has another shape, or another order of the same size', async () => {
    const tensors = tensorsOf(llama);
    const { [`${query}.weight`]: _, ...without } = tensors;
    const name = `${layer}.mlp.down_proj.weight`;
    const turned = { ...tensors, [name]: { ...tensors[name]!, shape: [12, 8] } };
    expect((await refusal(openModelFolder(folderOf(llama, without)))).place.tensor).toBe(`${query}.weight`);
    expect((await refusal(openModelFolder(folderOf(llama, turned)))).message).toMatch(/shape \[12,8\].*\[8,12\]/);
  });

  it('are taken with a head that is tied to the embeddings and the same, and refused where it differs', async () => {
    const config = { ...llama, tie_word_embeddings: true };
    const tensors = tensorsOf(config);
    const embedding = tensors['model.embed_tokens.weight']!;
    const { checkpoint } = await openModelFolder(folderOf(config, { ...tensors, 'lm_head.weight': embedding }));
    expect(checkpoint.has('lm_head.weight')).toBe(false);
    const bytes = embedding.bytes.slice();
    bytes[200]! ^= 1;
    const files = folderOf(config, { ...tensors, 'lm_head.weight': { ...embedding, bytes } });
    expect((await refusal(openModelFolder(files))).place.tensor).toBe('lm_head.weight');
    const narrower = { ...tensors, 'lm_head.weight': { ...embedding, shape: [8, 10] } };
    expect((await refusal(openModelFolder(folderOf(config, narrower)))).place.tensor).toBe('lm_head.weight');
  });

  it.each([
    ['frequencies', llama, { 'model.layers.1.self_attn.rotary_emb.inv_freq': f32([1, Number.NaN]) }],
    ['positions of a BERT', bert, { 'bert.embeddings.position_ids': coded('I64', [1, 16]) }],
    [
      'positions of a RoBERTa, and a pooler',
      roberta,
      { 'roberta.embeddings.position_ids': coded('I64', [1, 16]), 'roberta.pooler.dense.weight': f32([1]) },
    ],
    ['the pooler of a ViT', vit, { 'vit.pooler.dense.weight': f32([1]), 'vit.pooler.dense.bias': f32([1]) }],
  ] as [string, Record<string, unknown>, Tensors][])('are read over where they change nothing: %s', async (_, config, more) => {
    const tensors = tensorsOf(config);
    const { checkpoint } = await openModelFolder(folderOf(config, { ...more, ...tensors }));
    expect([...(await checkpoint.readAll()).keys()]).toEqual(Object.keys(tensors));
  });

  it('go by the names of today where an early BERT has its own, and not by both', async () => {
    const tensors = tensorsOf(bert);
    const early = Object.fromEntries(
      Object.entries(tensors).map(([name, tensor]) => [
        name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta'),
        tensor,
      ]),
    );
    const { checkpoint } = await openModelFolder(folderOf(bert, early));
    expect(checkpoint.names()).toEqual(Object.keys(tensors));
    const name = 'bert.embeddings.LayerNorm.gamma';
    const both = folderOf(bert, { ...tensors, [name]: f32(new Float32Array(8)) });
    expect((await refusal(openModelFolder(both))).place.tensor).toBe(name);
  });

  it.each(['F32', 'F16', 'BF16', 'F64'] as const)('must be finite: %s', async (dtype) => {
    const name = `${layer}.mlp.up_proj.weight`;
    const count = 8 * 12;
    const bytes = new Uint8Array((count * dtypeBits[dtype]) / 8);
    const view = new DataView(bytes.buffer);
    const infinity = {
      F32: () => view.setFloat32(4 * 5, -Infinity, true),
      F16: () => view.setUint16(2 * 5, 0x7c00, true),
      BF16: () => view.setUint16(2 * 5, 0x7fc0, true),
      F64: () => view.setFloat64(8 * 5, 1e39, true),
    };
    infinity[dtype]();
    const files = folderOf(llama, { ...tensorsOf(llama), [name]: { dtype, shape: [12, 8], bytes } });
    const { checkpoint } = await openModelFolder(files);
    const error = await refusal(checkpoint.readAll());
    expect(error).toMatchObject({ kind: 'input', place: { tensor: name } });
    expect(error.message).toMatch(/element 5/);
  });
});

describe('files of weights', () => {
  const split = (tensors: Tensors): [Tensors, Tensors] => {
    const entries = Object.entries(tensors);
    return [Object.fromEntries(entries.slice(0, 4)), Object.fromEntries(entries.slice(4))];
  };
  const names = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'] as const;
  const shardedFolder = (shards: readonly [Tensors, Tensors], map: Record<string, string>) =>
    memoryFiles(
      {
        'config.json': JSON.stringify(llama),
        'model.safetensors.index.json': JSON.stringify({ metadata: { total_size: 1 }, weight_map: map }),
        [names[0]]: weightFile(shards[0]),
        [names[1]]: weightFile(shards[1]),
      },
      'folder',
    );
  const mapOf = (shards: readonly [Tensors, Tensors]) =>
    Object.fromEntries(shards.flatMap((shard, at) => Object.keys(shard).map((name) => [name, names[at]!])));

  it('are shards that their index describes whole', async () => {
    const shards = split(tensorsOf(llama));
    expect((await openModelFolder(shardedFolder(shards, mapOf(shards)))).checkpoint.names()).toHaveLength(21);
  });

  it('are refused where a shard holds what the index does not name, or names elsewhere', async () => {
    const [first, second] = split(tensorsOf(llama));
    const extra: [Tensors, Tensors] = [first, { ...second, 'model.layers.0.self_attn.q_proj.bias': f32([1]) }];
    const error = await refusal(openModelFolder(shardedFolder(extra, mapOf([first, second]))));
    expect(error).toMatchObject({ kind: 'input', place: { tensor: 'model.layers.0.self_attn.q_proj.bias' } });
    const twice = Object.keys(first)[1]!;
    const both: [Tensors, Tensors] = [first, { ...second, [twice]: f32(new Float32Array(8)) }];
    expect((await refusal(openModelFolder(shardedFolder(both, mapOf([first, second]))))).place.tensor).toBe(twice);
  });

  it('are refused where a numbered shard is in no entry of the index', async () => {
    const all = tensorsOf(llama);
    const map = Object.fromEntries(Object.keys(all).map((name) => [name, names[0]]));
    expect((await refusal(openModelFolder(shardedFolder([all, {}], map)))).message).toMatch(/00002-of-00002/);
  });

  it.each(['tf', 'flax', 'gguf', ''])('are refused in the layout of %j', async (format) => {
    const files = memoryFiles({
      'config.json': JSON.stringify(llama),
      'model.safetensors': weightFile(tensorsOf(llama), { format }),
    });
    expect(await refusal(openModelFolder(files))).toMatchObject({ kind: 'model', place: { field: '__metadata__.format' } });
  });

  it('are taken without a layout, and with other notes', async () => {
    const weights = weightFile(tensorsOf(llama), { format: 'pt', made_by: 'someone' });
    for (const bytes of [weights, weightFile(tensorsOf(llama), undefined)])
      await openModelFolder(memoryFiles({ 'config.json': JSON.stringify(llama), 'model.safetensors': bytes }));
  });
});

describe('other files of a folder', () => {
  it.each(['adapter_config.json', 'quantize_config.json', 'quant_config.json', 'hf_quant_config.json'])(
    'refuse it: %s',
    async (path) => {
      const files = folderOf(llama, tensorsOf(llama), { [path]: {} });
      expect(await refusal(openModelFolder(files))).toMatchObject({ kind: 'model', place: { file: `folder/${path}` } });
    },
  );

  it.each(['config.json', 'generation_config.json'])('name no key twice: %s', async (path) => {
    const files = folderOf(llama, tensorsOf(llama));
    const text = JSON.stringify(path === 'config.json' ? llama : {});
    await files.write(
      path,
      new TextEncoder().encode(`{"eos_token_id": 2, "eos\\u005ftoken_id": 3${text === '{}' ? '}' : `, ${text.slice(1)}`}`),
    );
    const error = await refusal(openModelFolder(files));
    expect(error).toMatchObject({ kind: 'input', place: { file: `folder/${path}` } });
    expect(error.message).toMatch(/"eos_token_id" twice/);
  });
});

describe('generation_config.json', () => {
  const ends = async (config: Record<string, unknown>, generation?: Record<string, unknown>) => {
    const whole = { ...llama, ...config };
    const extra = generation === undefined ? {} : { 'generation_config.json': generation };
    const folder = await openModelFolder(folderOf(whole, tensorsOf(llama), extra));
    return (folder.config as LlamaConfig).eosTokenIds;
  };

  it('names the end of a text before config.json does', async () => {
    expect(await ends({})).toEqual([2]);
    expect(await ends({ eos_token_id: 5 })).toEqual([5]);
    expect(await ends({ eos_token_id: 5 }, { eos_token_id: [7, 8] })).toEqual([7, 8]);
    expect(await ends({ eos_token_id: [5, 6] }, { eos_token_id: 7, do_sample: true, temperature: 0.6, top_p: 0.9 })).toEqual([7]);
    expect(await ends({ eos_token_id: 5 }, { bos_token_id: 1, max_length: 4096 })).toEqual([5]);
  });

  it.each<[string, unknown]>([
    ['repetition_penalty', 1.1],
    ['no_repeat_ngram_size', 3],
    ['min_length', 5],
    ['min_new_tokens', 5],
    ['suppress_tokens', [3]],
    ['begin_suppress_tokens', [3]],
    ['bad_words_ids', [[3]]],
    ['force_words_ids', [[3]]],
    ['sequence_bias', [[[3], -1]]],
    ['forced_bos_token_id', 3],
    ['forced_eos_token_id', 3],
    ['exponential_decay_length_penalty', [5, 1.1]],
    ['stop_strings', ['.']],
    ['num_beams', 4],
    ['penalty_alpha', 0.6],
    ['guidance_scale', 1.5],
    ['watermarking_config', {}],
    ['eos_token_id', '2'],
    ['eos_token_id', [2, -1]],
    ['eos_token_id', 2 ** 60],
    ['something_new', 0],
    ['__proto__', 1],
  ])('is refused with %s: %j', async (field, value) => {
    const text = `{"temperature": 0.5, ${JSON.stringify(field)}: ${JSON.stringify(value)}}`;
    const files = folderOf(llama, tensorsOf(llama));
    await files.write('generation_config.json', new TextEncoder().encode(text));
    expect(await refusal(openModelFolder(files))).toMatchObject({
      kind: 'model',
      place: { file: 'folder/generation_config.json', field },
    });
  });
});
