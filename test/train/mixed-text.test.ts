import { describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { pseudorandom } from '../../src/math/index.ts';
import { type Tensor, trace } from '../../src/program/index.ts';
import { batchFeeds, lossProgram, type Samples } from '../../src/train/index.ts';
import { withMixedTokens } from '../../src/train/mixed-text.ts';
import { mixedSamples } from '../../src/train/samples.ts';

const [batch, tokens, vocabulary] = [4, 3, 5];
/** A model whose logits are its embeddings. */
const model = () =>
  trace((ops) => {
    const ids = ops.input('ids', [batch, tokens], 'public', 'index');
    return { logits: ops.scale(ops.embedding(ops.input('w', [vocabulary, vocabulary], 'server'), ids), 1) };
  });
const random = pseudorandom(8);
const table = (): Float64Array => Float64Array.from({ length: vocabulary ** 2 }, () => random.normal());
const weights = new Map<string, Tensor>(
  ['w', 'teacher/w'].map((name) => [name, { shape: [vocabulary, vocabulary], values: table() }]),
);
const draw = (): Int32Array => Int32Array.from({ length: batch * tokens }, () => Math.floor(random.uniform() * vocabulary));
const rows = { ids: draw(), labels: draw(), batch, tokens };
const samples: Samples = { unit: 'tokens', unitsPerBatch: batch * tokens, feeds: () => batchFeeds(rows), heldOut: undefined };

async function losses(feeds: ReadonlyMap<string, Tensor>, mixed: boolean): Promise<Map<string, Tensor>> {
  const program = lossProgram({ student: model(), teacher: model(), losses: { nll: 1, kl: 1 }, mixed });
  return (await referenceBackend().compile(program, weights)).run(new Map(feeds));
}

const row = (name: string, id: number): number[] =>
  [...(weights.get(name)!.values as Float64Array)].slice(id * vocabulary, (id + 1) * vocabulary);
const logSoftmax = (logits: readonly number[]): number[] => {
  const total = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
  return logits.map((logit) => logit - total);
};

describe('mixup of texts', () => {
  it('is no mixup where the share is one', async () => {
    const feeds = mixedSamples(samples, { alpha: 1 }, 3).feeds(0);
    const alone = new Map([...feeds, ['share', { shape: [], values: Float32Array.of(1) }] as const]);
    const [plain, mixed] = [await losses(samples.feeds(0), false), await losses(alone, true)];
    for (const name of ['loss/nll', 'loss/kl']) expect(mixed.get(name)!.values[0]).toBeCloseTo(plain.get(name)!.values[0]!, 12);
  });

  it('mixes the embeddings that student and teacher read, and the likelihoods of both labels', async () => {
    const feeds = mixedSamples(samples, { alpha: 1 }, 3).feeds(5);
    const read = (name: string): ArrayLike<number> => feeds.get(name)!.values;
    const share = read('share')[0]!;
    let [nll, kl] = [0, 0];
    for (let i = 0; i < batch * tokens; i++) {
      const [own, theirs] = ['w', 'teacher/w'].map((name) => {
        const [one, other] = [row(name, read('ids')[i]!), row(name, read('partners')[i]!)];
        return logSoftmax(one.map((value, k) => share * value + (1 - share) * other[k]!));
      }) as [number[], number[]];
      nll -= (share * own[read('labels')[i]!]! + (1 - share) * own[read('partnerLabels')[i]!]!) / (batch * tokens);
      kl += theirs.reduce((sum, value, k) => sum + Math.exp(value) * (value - own[k]!), 0) / (batch * tokens);
    }
    const found = await losses(feeds, true);
    expect(found.get('loss/nll')!.values[0]).toBeCloseTo(nll, 6);
    expect(found.get('loss/kl')!.values[0]).toBeCloseTo(kl, 6);
  });

  it('pairs whole rows of a batch, by the seed and the number of the batch alone', () => {
    const [one, again, other] = [5, 5, 6].map((index) => mixedSamples(samples, { alpha: 0.2 }, 3).feeds(index));
    expect(one).toEqual(again);
    expect(other!.get('share')).not.toEqual(one!.get('share'));
    const lines = (name: string): string[] =>
      Array.from({ length: batch }, (_, at) => String([...one!.get(name)!.values].slice(at * tokens, (at + 1) * tokens)));
    expect(lines('partners').toSorted()).toEqual(lines('ids').toSorted());
    expect(lines('partnerLabels').toSorted()).toEqual(lines('labels').toSorted());
    // A partner's next tokens come with it.
    const from = lines('partners').map((partner) => lines('ids').indexOf(partner));
    expect(from).not.toEqual([...from.keys()]);
    expect(lines('partnerLabels')).toEqual(from.map((at) => lines('labels')[at]));
  });

  it('refuses a program that reads no ids', () => {
    const pictures = trace((ops) => ({ logits: ops.scale(ops.input('pixels', [1, 2], 'public'), 1) }));
    expect(() => withMixedTokens(pictures)).toThrow(/embeds no ids/);
  });
});
