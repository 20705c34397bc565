import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import type { RingParameters } from '../../src/backends/ring/index.ts';
import type { SottoError } from '../../src/errors/index.ts';
import {
  beginPicture,
  beginText,
  beginWrite,
  classifyFloat,
  generateFloat,
  type Job,
  openTextClassifier,
  type Rehearsed,
  runFixed,
  runRehearsed,
} from '../../src/jobs/index.ts';
import type { BertConfig, LlamaConfig, VitConfig } from '../../src/models/config.ts';
import { type LoadedModel, openModel, privateModel, rehearsal } from '../../src/package/model.ts';
import { type LaunchResult, launchLocal } from '../../src/party/index.ts';
import { temporary, writeBert, writeLlama, writeVit } from '../party/models.ts';

/** Every kind of job by every runner: what holds for one holds for all. */

const { path: root, remove } = temporary();
const [llama, bert, vit] = ['llama', 'bert', 'vit'].map((name) => join(root, name)) as [string, string, string];
let picture: string;
afterAll(remove);
beforeAll(async () => {
  for (const folder of [llama, bert, vit]) mkdirSync(folder);
  await writeLlama(llama);
  await writeBert(bert);
  picture = await writeVit(vit);
});

const ring: RingParameters = { bits: 64, fraction: 16 };

/** What a runner gave: what was chosen, and the logits that it was chosen from. */
interface Given {
  readonly chosen: readonly number[];
  readonly logits: readonly ArrayLike<number>[];
}

type Task = Parameters<typeof launchLocal>[0]['task'];

/** One kind of job with one input, for each runner. */
interface Case {
  readonly name: string;
  readonly folder: () => string;
  readonly task: () => Task;
  readonly float: (model: LoadedModel) => Promise<Given>;
  readonly job: (model: LoadedModel) => Promise<Job<Given>>;
  /** The same with an input that cannot be: the kind of its error is one. */
  readonly wrong?: Case | undefined;
}

const given = <A>(job: Job<A>, make: (answer: A) => Given): Job<Given> => ({ ...job, answer: () => make(job.answer()) });

async function floatParts<C>(model: LoadedModel) {
  return { config: model.config as C, plan: model.plan, weights: await model.weights(), backend: referenceBackend() };
}

function writing(promptIds: readonly number[], wrong?: readonly number[]): Case {
  const newTokens = 3;
  const made = ({ newIds, logits }: { newIds: readonly number[]; logits: readonly ArrayLike<number>[] }): Given => ({
    chosen: newIds,
    logits,
  });
  return {
    name: 'a text continued',
    folder: () => llama,
    task: () => ({ kind: 'generate', prompt: { ids: promptIds }, newTokens }),
    float: async (model) =>
      made(
        await generateFloat({ ...(await floatParts<LlamaConfig>(model)), promptIds, maxNewTokens: newTokens, keepLogits: true }),
      ),
    job: async (model) => {
      const ask = { prompt: { ids: promptIds }, newTokens, keepLogits: true };
      return given(beginWrite({ config: model.config as LlamaConfig }, ask), made);
    },
    wrong: wrong === undefined ? undefined : writing(wrong),
  };
}

function classifying(name: string, ask: { readonly text: string; readonly pair?: string }, wrong?: string): Case {
  return {
    name,
    folder: () => bert,
    task: () => ({ kind: 'classify', ...ask }),
    float: async (model) => {
      const { encodePair } = await model.tokenizer();
      const classifier = await openTextClassifier(await floatParts<BertConfig>(model), { tokens: 62 });
      const [found] = await classifier.classify([encodePair!(ask.text, ask.pair)]);
      return { chosen: [found!.id], logits: [found!.logits] };
    },
    job: async (model) => {
      const job = beginText({ config: model.config as BertConfig, tokenizer: await model.tokenizer() }, ask);
      return given(job, ({ id, logits }) => ({ chosen: [id], logits: [logits] }));
    },
    wrong: wrong === undefined ? undefined : classifying(name, { ...ask, text: wrong }),
  };
}

function naming(path: () => string, wrong?: () => string): Case {
  const pixelsOf = async (model: LoadedModel) => (await model.pixels(path())).values;
  return {
    name: 'a picture named',
    folder: () => vit,
    task: () => ({ kind: 'classify', image: path() }),
    float: async (model) => {
      const parts = await floatParts<VitConfig>(model);
      const [found] = await classifyFloat({ ...parts, pictures: [await pixelsOf(model)] });
      return { chosen: [found!.id], logits: [found!.logits] };
    },
    job: async (model) =>
      given(beginPicture({ config: model.config as VitConfig }, { pixels: await pixelsOf(model) }), ({ id, logits }) => ({
        chosen: [id],
        logits: [logits],
      })),
    wrong: wrong === undefined ? undefined : naming(wrong),
  };
}

const endless = 'the bad film '.repeat(40);
const cases = [
  writing([5, 9, 30, 2, 7], [5, 9_999]),
  classifying('a text classified', { text: 'the film is greatly bad !' }, endless),
  classifying('a pair of texts classified', { text: 'a small bird ?', pair: 'the tree is bad' }, endless),
  naming(
    () => picture,
    () => join(root, 'nothing.png'),
  ),
];

function measured({ client, server, dealer }: LaunchResult): Rehearsed<unknown>['measured'] {
  const phase = (name: 'setup' | 'offline') => ({
    clientSentBytes: client.sentBytes[name],
    serverSentBytes: server.sentBytes[name],
    dealerSentBytes: dealer.sentBytes[name],
  });
  const { sentBytes, hops } = client;
  const online = { clientToServerBytes: sentBytes.online, serverToClientBytes: server.sentBytes.online, hops };
  return { setup: phase('setup'), offline: phase('offline'), online };
}

const farthest = (a: Given, b: Given): number =>
  Math.max(...a.logits.flatMap((row, at) => [...Array.from(row)].map((value, i) => Math.abs(value - b.logits[at]![i]!))));

describe.each(cases)('$name', (each) => {
  const launch = (task: Task, setting?: 'helper'): Promise<LaunchResult> =>
    launchLocal({
      ...{ model: each.folder(), task, ring, transport: 'unix', timeoutMilliseconds: 60_000, keepLogits: true },
      ...(setting === undefined ? {} : { setting }),
    });

  it('is the same in floats, in exact integers, in a rehearsal and between processes, for the bytes of the forecast', async () => {
    const model = await openModel(each.folder());
    const float = await each.float(model);
    const fixed = await runFixed(privateModel(model), await each.job(model), ring);
    const rehearsed = await runRehearsed(privateModel(model), await each.job(model), rehearsal(ring));
    const run = await launch(each.task());
    const found = run.client.class;
    const processes = { chosen: found === undefined ? run.client.newIds : [found.id], logits: run.logits };
    const distances = [fixed, rehearsed.answer, processes].map((other) => farthest(other, float));
    expect(Math.max(...distances)).toBeLessThan(0.1);
    for (const other of [fixed, rehearsed.answer, processes]) expect(other.chosen).toEqual(float.chosen);
    expect(rehearsed.measured).toEqual(rehearsed.forecast);
    expect(measured(run)).toEqual(run.client.forecast);
    expect(run.client.forecast).toEqual(rehearsed.forecast);
  });

  it('has one kind of error for an input that cannot be, wherever it is run', async () => {
    const model = await openModel(each.folder());
    const wrong = each.wrong!;
    const kind = (work: Promise<unknown>): Promise<string> =>
      work.then(
        () => 'none',
        (error: SottoError) => error.kind,
      );
    const kinds = [
      await kind(wrong.float(model)),
      await kind(wrong.job(model).then((job) => runFixed(privateModel(model), job, ring))),
      await kind(wrong.job(model).then((job) => runRehearsed(privateModel(model), job, rehearsal(ring)))),
      await kind(launch(wrong.task())),
    ];
    expect(kinds).toEqual(['input', 'input', 'input', 'input']);
  });
});

it('a text between processes with a helper in the place of the dealer is the same, for the bytes of its forecast', async () => {
  const task = { kind: 'classify', text: 'the film is greatly bad !' } as const;
  const run = await launchLocal({
    ...{ model: bert, task, ring, setting: 'helper', transport: 'tcp', timeoutMilliseconds: 60_000, keepLogits: true },
  });
  const model = await openModel(bert);
  const { encodePair } = await model.tokenizer();
  const job = beginText({ config: model.config as BertConfig }, encodePair!(task.text));
  const { id, label, logits } = await runFixed(privateModel(model), job, ring);
  expect(run.client.class).toEqual({ id, label });
  expect(farthest({ chosen: [], logits: run.logits }, { chosen: [], logits: [logits] })).toBeLessThan(0.05);
  expect(measured(run).online).toEqual(run.client.forecast.online);
});
