import { SottoError } from '../errors/index.ts';
import { clusteredRatio, type Estimate } from '../math/index.ts';
import type { Executable, FloatBackend, Program, Tensor } from '../program/index.ts';

/** A model that gives `logits` (batch, tokens, V) for `ids` (batch, tokens). */
export interface Evaluated {
  readonly trace: (shape: { batch: number; tokens: number }) => Program;
  readonly weights: ReadonlyMap<string, Tensor>;
}

export interface AgreementOptions {
  readonly teacher: Evaluated;
  readonly student: Evaluated;
  /** Texts as token ids; each is compared on all of its positions, independently of the others. */
  readonly texts: readonly Int32Array[];
  /** Positions looked at, at most; longer texts are cut into pieces that start afresh. */
  readonly context: number;
  /** Texts a run. */
  readonly batch?: number;
  readonly backend: FloatBackend;
  /** Upper ends of the buckets of positions; powers of two by default. */
  readonly buckets?: readonly number[];
}

/** All with 95 % intervals across texts, whose tokens are not independent; `count` is in tokens. */
export interface AgreementFigures {
  /** KL(teacher ‖ student), nats a token. */
  readonly kl: Estimate;
  /** Share of positions where both have the same likeliest token. */
  readonly sameArgMax: Estimate;
  /** Negative log likelihood of the next token; its exponential is the perplexity. */
  readonly teacherNll: Estimate;
  readonly studentNll: Estimate;
}

export interface Agreement extends AgreementFigures {
  readonly texts: number;
  readonly buckets: readonly (AgreementFigures & { readonly from: number; readonly to: number })[];
}

/** Sums over the positions of one text and bucket. */
interface Sums {
  tokens: number;
  predicted: number;
  kl: number;
  same: number;
  teacherNll: number;
  studentNll: number;
}
const noSums = (): Sums => ({ tokens: 0, predicted: 0, kl: 0, same: 0, teacherNll: 0, studentNll: 0 });

/** How closely a student follows its teacher on given texts. Throws an `input` error where there is nothing to compare. */
export async function agreement(options: AgreementOptions): Promise<Agreement> {
  const { teacher, student, context, backend, batch = 8 } = options;
  const pieces = options.texts.flatMap((text, source) => cut(text, context).map((ids) => ({ ids, source })));
  if (pieces.length === 0) throw new SottoError('input', 'there is no text to compare on', { remedy: 'give at least one text' });
  const limits = options.buckets ?? powersOfTwo(context);
  const sums = options.texts.map(() => limits.map(noSums));
  const shape = { batch, tokens: context };
  const compiled = await Promise.all([teacher, student].map(({ trace, weights }) => backend.compile(trace(shape), weights)));
  try {
    for (let start = 0; start < pieces.length; start += batch) {
      const group = pieces.slice(start, start + batch);
      const logits = await Promise.all(
        compiled.map((executable) =>
          run(
            executable,
            shape,
            group.map(({ ids }) => ids),
          ),
        ),
      );
      group.forEach(({ ids, source }, row) => {
        compare(ids, row * context, logits as [Tensor, Tensor], (position) => {
          const bucket = limits.findIndex((limit) => position < limit);
          return sums[source]![bucket < 0 ? limits.length - 1 : bucket]!;
        });
      });
    }
  } finally {
    for (const executable of compiled) await executable.close();
  }
  const whole = sums.map((buckets) => buckets.reduce(addSums, noSums()));
  return {
    ...figures(whole),
    texts: options.texts.length,
    buckets: limits.map((to, i) => ({ from: limits[i - 1] ?? 0, to, ...figures(sums.map((buckets) => buckets[i]!)) })),
  };
}

function cut(text: Int32Array, context: number): Int32Array[] {
  return Array.from({ length: Math.ceil(text.length / context) }, (_, i) => text.subarray(i * context, (i + 1) * context));
}

function powersOfTwo(context: number): number[] {
  const limits: number[] = [];
  for (let limit = 16; limit < context; limit *= 2) limits.push(limit);
  return [...limits, context];
}

/** Rows are filled up with id 0; causal models do not look there, and nobody reads those positions. */
async function run(executable: Executable, { batch, tokens }: { batch: number; tokens: number }, rows: readonly Int32Array[]) {
  const values = new Int32Array(batch * tokens);
  rows.forEach((row, i) => {
    values.set(row, i * tokens);
  });
  const results = await executable.run(new Map([['ids', { shape: [batch, tokens], values }]]));
  return results.get('logits')!;
}

function compare(
  ids: Int32Array,
  offset: number,
  [teacher, student]: [Tensor, Tensor],
  sumsAt: (position: number) => Sums,
): void {
  const vocabulary = teacher.shape.at(-1)!;
  const p = new Float64Array(vocabulary);
  const q = new Float64Array(vocabulary);
  for (let position = 0; position < ids.length; position++) {
    const from = (offset + position) * vocabulary;
    const likeliestP = logSoftmax(teacher.values, from, p);
    const likeliestQ = logSoftmax(student.values, from, q);
    let kl = 0;
    for (let i = 0; i < vocabulary; i++) kl += Math.exp(p[i]!) * (p[i]! - q[i]!);
    const sums = sumsAt(position);
    sums.tokens++;
    sums.kl += kl;
    if (likeliestP === likeliestQ) sums.same++;
    const next = ids[position + 1];
    if (next === undefined) continue;
    sums.predicted++;
    sums.teacherNll -= p[next]!;
    sums.studentNll -= q[next]!;
  }
}

/** Writes the log probabilities; returns the first index of the largest. */
function logSoftmax(values: ArrayLike<number>, from: number, out: Float64Array): number {
  let best = 0;
  for (let i = 1; i < out.length; i++) if (values[from + i]! > values[from + best]!) best = i;
  const largest = values[from + best]!;
  let total = 0;
  for (let i = 0; i < out.length; i++) total += Math.exp(values[from + i]! - largest);
  const shift = largest + Math.log(total);
  for (let i = 0; i < out.length; i++) out[i] = values[from + i]! - shift;
  return best;
}

function addSums(a: Sums, b: Sums): Sums {
  return {
    tokens: a.tokens + b.tokens,
    predicted: a.predicted + b.predicted,
    kl: a.kl + b.kl,
    same: a.same + b.same,
    teacherNll: a.teacherNll + b.teacherNll,
    studentNll: a.studentNll + b.studentNll,
  };
}

function figures(sums: readonly Sums[]): AgreementFigures {
  const ratio = (top: keyof Sums, bottom: 'tokens' | 'predicted'): Estimate => {
    const reached = sums.filter((text) => text[bottom] > 0);
    return clusteredRatio(
      reached.map((text) => text[top]),
      reached.map((text) => text[bottom]),
    );
  };
  return {
    kl: ratio('kl', 'tokens'),
    sameArgMax: ratio('same', 'tokens'),
    teacherNll: ratio('teacherNll', 'predicted'),
    studentNll: ratio('studentNll', 'predicted'),
  };
}
