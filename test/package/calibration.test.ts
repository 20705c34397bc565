import { copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { simulate } from '../../src/backends/fixed/index.ts';
import { isFlag, privateProgram, type RingParameters, wordBitsOf } from '../../src/backends/ring/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import { trainBytePairTokenizer } from '../../src/lab/tokenizer.ts';
import { parseModelConfig } from '../../src/models/config.ts';
import { memoryFiles, planOf, traceLlamaPrivate, writeCheckpoint } from '../../src/models/index.ts';
import { isMeasured, ringFor } from '../../src/models/ranges.ts';
import { randomModelWeights } from '../../src/models/weights.ts';
import { folderFiles } from '../../src/node/files.ts';
import { loadModel } from '../../src/package/index.ts';
import { measuredModel } from '../../src/package/measure.ts';
import { type LoadedModel, openModel } from '../../src/package/model.ts';
import { rehearseText, writer, writeText } from '../../src/package/text.ts';
import { stories, temporaryFolder, writeTiny } from '../cli/checkpoints.ts';
import { sottoHere } from '../cli/command.ts';

const folder = await temporaryFolder();
const rings: readonly RingParameters[] = [
  { bits: 64, fraction: 16 },
  { bits: 48, fraction: 14 },
  { bits: 32, fraction: 9 },
];
const prompt = [1, 17, 290, 33, 8];
const tokenizer = Object.fromEntries(
  Object.entries(trainBytePairTokenizer(stories, { vocabularySize: 300 })).map(([path, value]) => [path, JSON.stringify(value)]),
);

/** A published Llama whose embedding has this root mean square; what writes into the stream is as much smaller. */
async function scaledLlama(
  rms: number,
  change: (weights: Map<string, Float32Array>) => void = () => undefined,
): Promise<LoadedModel> {
  const raw = {
    ...{ model_type: 'llama', hidden_size: 32, intermediate_size: 48, num_hidden_layers: 2, num_attention_heads: 4 },
    ...{ num_key_value_heads: 2, vocab_size: 300, max_position_embeddings: 32, bos_token_id: 1, eos_token_id: null },
    rms_norm_eps: 1e-6 * Math.min(1, (rms / 0.1) ** 2),
  };
  const config = parseModelConfig(raw);
  const weights = new Map<string, Float32Array>();
  const drawn = randomModelWeights(config, 5, planOf(config));
  const size = Math.sqrt(mean(drawn.get('model.embed_tokens.weight')!.values));
  for (const [name, { values }] of drawn) {
    const intoStream = /embed_tokens|o_proj|down_proj/.test(name);
    weights.set(
      name,
      Float32Array.from(values, (value) => (intoStream ? (value * rms) / size : value)),
    );
  }
  change(weights);
  const files = memoryFiles({}, `rms ${rms}`);
  const tensors = [...weights].map(([name, values]) => ({ name, shape: drawn.get(name)!.shape, values }));
  await writeCheckpoint(files, { config: raw, tensors, extra: tokenizer });
  return await openModel(files);
}

const mean = (values: ArrayLike<number>): number => {
  let sum = 0;
  for (let at = 0; at < values.length; at++) sum += values[at]! ** 2;
  return sum / values.length;
};

/** The largest difference of a run's logits from those in floats on the same tokens, over their root mean square. */
async function error(model: LoadedModel, ring: RingParameters): Promise<number> {
  const own = await writeText(model, 'fixed', { promptIds: prompt, newTokens: 3, ring, keepLogits: true });
  let step = 0;
  let worst = 0;
  await writeText(model, 'reference', {
    ...{ promptIds: prompt, newTokens: 3, ring },
    sample: (logits) => {
      const size = Math.sqrt(mean(logits));
      logits.forEach((value, at) => {
        worst = Math.max(worst, Math.abs(value - own.logits[step]![at]!) / size);
      });
      return own.newIds[step++]!;
    },
  });
  return worst;
}

/** The range flags of a run, by the exact integers of its program. */
async function flagged(model: LoadedModel, ring: RingParameters): Promise<number[]> {
  const run = { promptTokens: prompt.length, newTokens: 1 };
  const program = privateProgram(traceLlamaPrivate(writer(model), model.plan, run), ring, { rangeFlags: true });
  const weights = await model.privateWeights();
  const outputs = await simulate(program, {
    kernels: createWasmKernels(wordBitsOf(ring.bits)),
    weights: async (name) => weights.get(name)!,
    inputs: async () => ({ shape: [prompt.length], values: Int32Array.from(prompt) }),
  });
  return [...outputs].filter(([name]) => isFlag(name)).map(([, { values }]) => values[0]!);
}

describe('a published Llama', () => {
  for (const ring of rings) {
    it.each([0.5, 0.1, 0.02, 0.002, 20])(
      `is itself in ${ring.bits} bits with ${ring.fraction} of fraction, its embedding of size %d`,
      async (rms) => {
        const said: string[] = [];
        const model = await measuredModel(await scaledLlama(rms), { ring, say: (line) => said.push(line) });
        expect(said[0]).toMatch(/was never calibrated: measuring its values on text of its own, once/);
        expect(await error(model, ring)).toBeLessThan({ 64: 0.01, 48: 0.02, 32: 0.25 }[ring.bits]!);
        expect(await flagged(model, ring)).toEqual([0]);
      },
    );
  }

  it('is measured by itself before the first private run of the library, and refused before by what makes no measurements', async () => {
    const files = (await scaledLlama(0.02)).checkpoint.files;
    const model = await loadModel(files);
    expect(() => model.forecast({ promptTokens: 4 })).toThrow(/nobody has measured/);
    const [own, clear] = [
      await model.generatePrivately(prompt, { newTokens: 3 }),
      await model.generate(prompt, { newTokens: 3 }),
    ];
    expect(own.ids).toEqual(clear.ids);
    expect((await (await loadModel(files)).calibrate()).forecast({ promptTokens: 4 }).total.online.hops).toBeGreaterThan(0);
  });

  it('whose values no ring of this width holds is refused with what would', async () => {
    const wild = await scaledLlama(0.5, (weights) => {
      weights
        .get('model.embed_tokens.weight')!
        .subarray(0, 300 * 32)
        .forEach((_, at, table) => {
          if (at % 32 === 7) table[at] = 3e5;
        });
    });
    await expect(measuredModel(wild, { ring: { bits: 32 } })).rejects.toMatchObject({
      kind: 'range',
      remedy: expect.stringMatching(/wider ring/),
    });
  });

  it('has its table refused where a ring program cannot hold it, on every backend and with the name of the tensor', async () => {
    const ring = rings[0]!;
    const model = await measuredModel(await scaledLlama(0.5), { ring });
    const large = await scaledLlama(0.5, (weights) => weights.get('model.embed_tokens.weight')!.set([700], 41));
    // As a plan of another time has it, or another's: made for a smaller table.
    const wrong = { ...large, plan: model.plan };
    const request = { promptIds: prompt, newTokens: 1, ring };
    const refused = { kind: 'range', place: { tensor: 'private/embedding' } };
    await expect(writeText(wrong, 'fixed', request)).rejects.toMatchObject(refused);
    await expect(rehearseText(wrong, request)).rejects.toMatchObject(refused);
    const bare = { ...large, plan: { ...model.plan, domains: { ...model.plan.domains, 'private/embedding': {} } } };
    await expect(writeText(bare, 'fixed', request)).rejects.toMatchObject(refused);
    await expect(rehearseText(bare, request)).rejects.toMatchObject(refused);
  });
});

describe('a calibration', () => {
  const kept = (at: string): string[] => readdirSync(at).filter((name) => name.startsWith('sotto-calibration-'));
  const measured = async (at: string, more: object = {}): Promise<{ model: LoadedModel; said: string }> => {
    const said: string[] = [];
    const model = await measuredModel(await openModel(at), { say: (line) => said.push(line), ...more });
    return { model, said: said.join('\n') };
  };

  it('is kept beside the model, by the name of weights, configuration and ring, and found again', async () => {
    const own = await writeTiny(join(folder, 'kept'), { plan: 'exact' });
    const first = await measured(own);
    expect(first.said).toMatch(/kept in .*sotto-calibration-[0-9a-f]{16}\.json/);
    expect(isMeasured(first.model.plan)).toBe(true);
    const second = await measured(own);
    expect(second).toEqual({ model: expect.anything(), said: '' });
    expect(second.model.plan).toEqual(first.model.plan);
    // Who asks for the ring that was chosen finds the same; another ring is measured for itself.
    expect((await measured(own, { ring: ringFor({}, first.model.plan) })).said).toBe('');
    expect((await measured(own, { ring: { bits: 32 } })).said).toMatch(/measuring/s);
  });

  it("is no other model's, and is not used where it is damaged: it says so and measures", async () => {
    const [one, other] = [
      await writeTiny(join(folder, 'one'), { plan: 'exact' }),
      await writeTiny(join(folder, 'other'), { plan: 'exact', seed: 2 }),
    ];
    await measured(one);
    await measured(other);
    const [from, to] = [kept(one), kept(other)].map((names) => names.sort()) as [string[], string[]];
    expect(from).not.toEqual(to);
    for (const name of to) copyFileSync(join(one, from[0]!), join(other, name));
    expect((await measured(other)).said).toMatch(/is not used: it belongs to other weights.*measuring/s);
    const path = join(one, from[0]!);
    for (const [spoil, says] of [
      [() => '{"version":1', /is not used: .*measuring/s],
      [
        (text: string) => text.replace(/"argument":\d+/, '"argument":3'),
        /is not used: it was changed after it was made.*measuring/s,
      ],
    ] as const) {
      for (const name of from) writeFileSync(join(one, name), spoil(readFileSync(join(one, name), 'utf8')));
      expect((await measured(one)).said).toMatch(says);
      expect(readFileSync(path, 'utf8')).toContain('"version":1,');
    }
  });

  it('goes to a cache where the folder cannot be written', async () => {
    const own = await writeTiny(join(folder, 'sealed'), { plan: 'exact' });
    const files = folderFiles(own);
    const cacheFolder = join(folder, 'cache');
    const sealed = async () => {
      const { write: _, ...readable } = files;
      return await openModel(readable);
    };
    const said: string[] = [];
    await measuredModel(await sealed(), { cacheFolder, say: (line) => said.push(line) });
    expect(said.at(-1)).toContain(`kept in ${cacheFolder}`);
    expect(kept(own)).toEqual([]);
    said.length = 0;
    await measuredModel(await sealed(), { cacheFolder, say: (line) => said.push(line) });
    expect(said).toEqual([]);
  });

  it('of a vision transformer needs pictures, and says which command takes them', async () => {
    const own = await writeTiny(join(folder, 'vit'), { family: 'vit', plan: 'exact' });
    const model = await loadModel(own);
    const pictures = Array.from({ length: 4 }, (_, at) => Float32Array.from({ length: 192 }, (_, i) => Math.sin(at + 3 * i)));
    await expect(model.classifyPrivately(pictures[0]!)).rejects.toMatchObject({
      kind: 'range',
      remedy: expect.stringMatching(/sotto calibrate.*pictures/),
    });
    await model.calibrate({ pictures });
    const [own_, clear] = [await (await loadModel(own)).classifyPrivately(pictures[1]!), await model.classify(pictures[1]!)];
    for (const [at, value] of own_.logits.entries()) expect(Math.abs(value - clear.logits[at]!)).toBeLessThan(0.02);
  });
});

describe('the command line', () => {
  it('writes what a published Llama with a small embedding writes, in the ring that fits, and says that it measured', {
    timeout: 90_000,
  }, async () => {
    const model = await scaledLlama(0.01);
    const path = join(folder, 'small');
    const { files } = model.checkpoint;
    for (const name of ['config.json', 'model.safetensors', ...Object.keys(tokenizer)])
      await folderFiles(path).write(name, await files.read(name));
    const words = ['generate', '--model', path, '--prompt-ids', prompt.join(), '--max-new-tokens', '4', '--json', '--check'];
    const made = await sottoHere([...words, '--backend', 'fixed']);
    // Client, server and dealer derive the same windows from what the manifest has of the calibration.
    const between = await sottoHere([...words, '--backend', 'mpc']);
    for (const { code, stdout } of [made, between]) {
      expect(code).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ agreement: { onnx: { sameIds: true } } });
    }
    expect(between.stderr).not.toMatch(/was never calibrated/);
    expect(made.stderr).toMatch(/was never calibrated/);
  });

  it("takes a calibrated model's own ring where none is named", async () => {
    const own = await writeTiny(join(folder, 'ring'), { planFields: { ring: { bits: 32, fraction: 7 } } });
    const cost = await sottoHere(['cost', '--model', own, '--prompt-tokens', '3', '--json']);
    expect(JSON.parse(cost.stdout)).toMatchObject({ ring: { bits: 32, fraction: 7 } });
    const wide = await sottoHere(['cost', '--model', own, '--prompt-tokens', '3', '--ring', '64', '--json']);
    expect(JSON.parse(wide.stdout)).toMatchObject({ ring: { bits: 64, fraction: 16 } });
  });
});
