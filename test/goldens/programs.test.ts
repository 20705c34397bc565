import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { forecast, sectionsOf } from '../../src/backends/cost/index.ts';
import { privateProgram, type RingProgram, schedule } from '../../src/backends/ring/index.ts';
import { withSensitivity } from '../../src/convert/fisher.ts';
import { parseShape, traceShapeLayer } from '../../src/models/index.ts';
import { traceLlama } from '../../src/models/llama.ts';
import { exactPlan, parsePlan } from '../../src/models/plan.ts';
import { blockMatrices, randomLlamaWeights } from '../../src/models/weights.ts';
import { lower, type Program, programHash } from '../../src/program/index.ts';
import { readBase } from '../../src/train/base.ts';
import { fixedInLoop } from '../../src/train/fixed.ts';
import { adapters } from '../../src/train/lora.ts';
import { lossProgram } from '../../src/train/losses.ts';
import { trainingStep } from '../../src/train/optimiser.ts';
import { tinyLlama } from '../models/tiny.ts';
import { digest, golden } from './golden.ts';
import { models, planNamed, planNames } from './models.ts';

const rings = [
  { bits: 64, fraction: 16 },
  { bits: 32, fraction: 7 },
];

/** A ring program's text: parameters with typed arrays as lists. */
const ringText = (program: RingProgram): string =>
  JSON.stringify(program, (_, value) => (value instanceof Float64Array ? Array.from(value) : value));

/**
 * The program in the ring; who sends how much in which order; what each party sends in the setup, offline, online and offline with a helper;
 * the sections.
 */
function lowered(program: Program, ring: { bits: number; fraction: number }, rangeFlags = false): string {
  let made: RingProgram;
  try {
    made = privateProgram(program, ring, { rangeFlags });
  } catch (error) {
    return String(error);
  }
  const hops = schedule(made);
  const words = hops.map(
    ({ direction, messages, frames, follows }) =>
      `${direction} ${frames} ${follows} ${messages.map(({ node, bytes }) => `${node}:${bytes}`)}`,
  );
  const { setup, offline, online } = forecast(made).total;
  const helper = forecast(made, 'helper').total.offline;
  const bytes = [setup, offline, online, helper].map((phase) => Object.values(phase).join(' ')).join(', ');
  return `${digest(ringText(made))}; ${hops.length} hops ${digest(...words)}; ${bytes}; ${digest(JSON.stringify(sectionsOf(made)))}`;
}

it('every plan of every family gives the program, the hops and the bytes that it gave', { timeout: 120_000 }, async () => {
  const entries: Record<string, string> = {};
  for (const { name, config, trace } of models)
    for (const planName of planNames) {
      const program = trace(planNamed(planName, config));
      entries[`${name}, ${planName}`] = programHash(program);
      if (['exact', 'full-p2'].includes(planName))
        for (const ring of rings)
          entries[`${name}, ${planName}, ${ring.bits}/${ring.fraction}, flags`] = lowered(program, ring, true);
      for (const ring of rings) entries[`${name}, ${planName}, ${ring.bits}/${ring.fraction}`] = lowered(program, ring);
    }
  expect(Object.keys(entries)).toHaveLength(models.length * (planNames.length * (rings.length + 1) + 2 * rings.length));
  await golden('programs', entries);
});

it('a layer of every shape does', async () => {
  const entries: Record<string, string> = {};
  for (const name of ['bert-base', 'gpt2', 'llama2-7b', 'vit-base']) {
    const shape = parseShape(JSON.parse(readFileSync(new URL(`../../shapes/${name}.json`, import.meta.url), 'utf8')));
    for (const plan of ['exact', 'full-p2', 'full-p8']) {
      const program = traceShapeLayer(shape, parsePlan(plan, shape), { tokens: 16 });
      entries[`${name}, ${plan}`] = `${programHash(program)}; ${lowered(program, rings[0]!)}`;
    }
  }
  await golden('shapes', entries);
});

it('what is made of programs does: adapters, packed matrices, rounding, mixed texts, gradients, sensitivities, lowerings', async () => {
  const config = tinyLlama({ num_hidden_layers: 1 });
  const plan = parsePlan('full-p4', config);
  const student = traceLlama(config, plan, { batch: 2, tokens: 6, outputs: ['logits', 'hidden', 'attention'] });
  const teacher = traceLlama(config, exactPlan(config), { batch: 2, tokens: 6, outputs: ['logits', 'hidden', 'attention'] });
  const weights = randomLlamaWeights(config, 1, plan);
  const source = {
    names: () => [...weights.keys()],
    shape: (name: string) => weights.get(name)!.shape,
    read: async (name: string) => weights.get(name)!.values,
  };
  const lora = { rank: 2, alpha: 4, matrices: ['q_proj', 'down_proj'] };
  const losses = { kl: 1, hiddenMse: 0.5, nll: 0.1 };
  const entries: Record<string, string> = {};
  for (const mixed of [false, true]) {
    const loss = lossProgram({ student, teacher, losses, mixed });
    const base = await readBase(source, { format: 'nf4', block: 16, doubleQuantisation: mixed }, blockMatrices(config, plan));
    const adapted = adapters(lora, base, { seed: 1, kept: (name) => name.endsWith('norm.weight') });
    const trained = [...adapted.start.keys()].map((name) => ({ name, rate: 1 }));
    const program = mixed ? fixedInLoop(adapted.adapt(loss), { fraction: 12 }) : adapted.adapt(loss);
    const optimiser = { kind: 'adamw', beta1: 0.9, beta2: 0.99, epsilon: 1e-8, decay: 0.1 } as const;
    const step = trainingStep(program, { trained, optimiser, clip: 1, ...(mixed ? { checkpoint: 'layers' } : {}) });
    const name = mixed ? 'mixed, rounded' : 'plain';
    entries[`loss, ${name}`] = programHash(loss);
    entries[`adapted, ${name}`] = programHash(program);
    entries[`step, ${name}`] = programHash(step);
  }
  const logits = student.outputs.get('logits')!;
  entries.sensitivity = programHash(withSensitivity(student, logits - 1, new Map([['inner', logits - 2]])));
  entries.lowered = programHash(lower(student));
  await golden('derived-programs', entries);
});
