import { SottoError } from '../errors/index.ts';
import { alignedClasses } from '../models/class-names.ts';
import type { Logits, RgbImage } from '../models/index.ts';
import { predictAll } from './likelihood.ts';
import { type Metrics, mapped, mean, ratio, share } from './metric.ts';
import { logSoftmax, type PictureModel, type TextModel, type Watch } from './model.ts';
import { documentIds } from './perplexity.ts';

/** A picture with its class. */
export interface LabelledPicture {
  readonly image: RgbImage;
  readonly label: number;
}

/** How two sets of logits compare. */
interface Comparison {
  readonly same: boolean;
  readonly cosine: number;
  /** KL(teacher ‖ student), nats. */
  readonly kl: number;
}

export function compareLogits(teacher: Logits, student: Logits): Comparison {
  if (teacher.length !== student.length) throw mismatch(`${teacher.length} and ${student.length} classes`);
  const [p, q] = [logSoftmax(teacher), logSoftmax(student)];
  let [kl, dot, teacherSquares, studentSquares] = [0, 0, 0, 0];
  for (let i = 0; i < teacher.length; i++) {
    kl += Math.exp(p.values[i]!) * (p.values[i]! - q.values[i]!);
    dot += teacher[i]! * student[i]!;
    teacherSquares += teacher[i]! ** 2;
    studentSquares += student[i]! ** 2;
  }
  return { same: p.likeliest === q.likeliest, cosine: dot / Math.sqrt(teacherSquares * studentSquares), kl };
}

export const mismatch = (what: string): SottoError =>
  new SottoError('model', `teacher and student differ: ${what}`, { remedy: "name the student's own teacher" });

/** Pictures looked at together. */
const groupSize = 50;

/** `acc`, and where there is a teacher `fidelity` (share of the same labels), `cosine` of the logits, `kl` and `teacher_acc`. */
export async function scorePictures(
  model: PictureModel,
  teacher: PictureModel | undefined,
  pictures: readonly LabelledPicture[],
  watch: Watch = () => undefined,
): Promise<Metrics> {
  const classes = teacher === undefined ? undefined : alignedClasses(model.labels, teacher.labels);
  if (teacher !== undefined && classes === undefined) throw mismatch('they name other classes (id2label)');
  const [right, teacherRight]: [boolean[], boolean[]] = [[], []];
  const compared: Comparison[] = [];
  for (let start = 0; start < pictures.length; start += groupSize) {
    const group = pictures.slice(start, start + groupSize);
    const images = group.map(({ image }) => image);
    const own = await model.logits(images);
    // In the order of the model's own classes, which the teacher may number otherwise.
    const theirs = (await teacher?.logits(images))?.map((logits) => Float64Array.from(classes!, (id) => logits[id]!));
    group.forEach(({ label }, index) => {
      right.push(logSoftmax(own[index]!).likeliest === label);
      if (theirs === undefined) return;
      teacherRight.push(logSoftmax(theirs[index]!).likeliest === label);
      compared.push(compareLogits(theirs[index]!, own[index]!));
    });
    watch(right.length, pictures.length);
  }
  const acc = share(right);
  if (teacher === undefined) return { acc };
  return {
    acc,
    fidelity: share(compared.map(({ same }) => same)),
    cosine: mean(compared.map(({ cosine }) => cosine)),
    kl: mean(compared.map(({ kl }) => kl)),
    teacher_acc: share(teacherRight),
  };
}

/**
 * A student beside its teacher at every position of every text, cut at the shorter context: see `compareIds`. Throws where the two
 * have other vocabularies.
 */
export async function compareTexts(
  student: TextModel,
  teacher: TextModel,
  texts: readonly string[],
  watch: Watch = () => undefined,
): Promise<Metrics> {
  const length = Math.min(student.context, teacher.context) + 1;
  const ids = texts.map((text) => {
    const own = documentIds(student.tokenizer, text);
    const theirs = documentIds(teacher.tokenizer, text);
    if (own.length !== theirs.length || own.some((id, at) => id !== theirs[at]))
      throw mismatch('their tokenizers give other ids');
    return Int32Array.from(own.slice(0, length));
  });
  return await compareIds(student, teacher, ids, watch);
}

/** What is summed over the positions of one text that lie in one bucket. */
const summed = ['positions', 'same', 'cosine', 'kl', 'loss', 'teacherLoss'] as const;
type Sums = Record<(typeof summed)[number], number>;
const noSums = (): Sums => ({ positions: 0, same: 0, cosine: 0, kl: 0, loss: 0, teacherLoss: 0 });

/**
 * Of each text's tokens, none longer than either context and one more: `fidelity` (share of the same likeliest token), `cosine` of the
 * logits, `kl` in nats, `perplexity` and `teacher_perplexity` of the next token, and their quotient `perplexity_ratio` with the interval
 * of a paired comparison. Then fidelity, kl and the quotient by position: `fidelity@16-31` and so on. Intervals are across texts;
 * counts are positions.
 */
export async function compareIds(
  student: TextModel,
  teacher: TextModel,
  texts: readonly Int32Array[],
  watch: Watch = () => undefined,
): Promise<Metrics> {
  if (student.vocabularySize !== teacher.vocabularySize)
    throw mismatch(`vocabularies of ${teacher.vocabularySize} and ${student.vocabularySize} tokens`);
  const requests = texts.filter((ids) => ids.length > 1).map((ids) => ({ ids, from: 1 }));
  const ends = bucketEnds(requests.reduce((longest, { ids }) => Math.max(longest, ids.length - 1), 0));
  const sums = requests.map(() => ends.map(noSums));
  await predictAll([student, teacher] as const, requests, watch, (index, own, theirs) => {
    theirs.forEach((row, at) => {
      const { same, cosine, kl, loss, teacherLoss } = comparePosition(row, own[at]!, requests[index]!.ids[at + 1]!);
      const sum = sums[index]![ends.findIndex((end) => at < end)]!;
      sum.positions++;
      sum.same += Number(same);
      sum.cosine += cosine;
      sum.kl += kl;
      sum.loss += loss;
      sum.teacherLoss += teacherLoss;
    });
  });
  const whole = sums.map((buckets) =>
    buckets.reduce((total, bucket) => {
      for (const what of summed) total[what] += bucket[what];
      return total;
    }, noSums()),
  );
  const { fidelity, kl, perplexity_ratio, ...rest } = textMetrics(whole);
  const metrics: Metrics = { fidelity: fidelity!, ...rest, kl: kl!, perplexity_ratio: perplexity_ratio! };
  ends.forEach((end, bucket) => {
    const positions = `@${ends[bucket - 1] ?? 0}-${end - 1}`;
    const here = textMetrics(sums.map((buckets) => buckets[bucket]!));
    for (const name of ['fidelity', 'kl', 'perplexity_ratio']) metrics[name + positions] = here[name]!;
  });
  return metrics;
}

function comparePosition(teacher: Logits, student: Logits, next: number) {
  const loss = (logits: Logits): number => -logSoftmax(logits).values[next]!;
  return { ...compareLogits(teacher, student), loss: loss(student), teacherLoss: loss(teacher) };
}

/** Powers of two from 16 on, then the longest length. */
function bucketEnds(longest: number): number[] {
  const ends: number[] = [];
  for (let end = 16; end < longest; end *= 2) ends.push(end);
  return [...ends, longest];
}

function textMetrics(sums: readonly Sums[]): Metrics {
  const reached = sums.filter(({ positions }) => positions > 0);
  const positions = reached.map((sum) => sum.positions);
  const per = (of: (sum: Sums) => number) => ratio(reached.map(of), positions);
  return {
    fidelity: per(({ same }) => same),
    cosine: per(({ cosine }) => cosine),
    kl: per(({ kl }) => kl),
    perplexity: mapped(
      per(({ loss }) => loss),
      Math.exp,
    ),
    teacher_perplexity: mapped(
      per(({ teacherLoss }) => teacherLoss),
      Math.exp,
    ),
    perplexity_ratio: mapped(
      per(({ loss, teacherLoss }) => loss - teacherLoss),
      Math.exp,
    ),
  };
}
