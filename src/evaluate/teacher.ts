import { SottoError } from '../errors/index.ts';
import type { Logits, RgbImage } from '../models/index.ts';
import { predictAll } from './likelihood.ts';
import { type Metrics, mean, ratio, share } from './metric.ts';
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
  const [right, teacherRight]: [boolean[], boolean[]] = [[], []];
  const compared: Comparison[] = [];
  for (let start = 0; start < pictures.length; start += groupSize) {
    const group = pictures.slice(start, start + groupSize);
    const images = group.map(({ image }) => image);
    const [own, theirs] = [await model.logits(images), await teacher?.logits(images)];
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
 * A student beside its teacher at every position of every text, cut at the shorter context: `fidelity` (share of the same likeliest
 * token), `cosine` of the logits, `kl` in nats. Intervals are across texts; counts are positions.
 */
export async function compareTexts(
  student: TextModel,
  teacher: TextModel,
  texts: readonly string[],
  watch: Watch = () => undefined,
): Promise<Metrics> {
  if (student.vocabularySize !== teacher.vocabularySize)
    throw mismatch(`vocabularies of ${teacher.vocabularySize} and ${student.vocabularySize} tokens`);
  const length = Math.min(student.context, teacher.context) + 1;
  const requests = texts
    .map((text) => ({ ids: Int32Array.from(documentIds(student.tokenizer, text).slice(0, length)), from: 1 }))
    .filter(({ ids }) => ids.length > 1);
  const sums = requests.map(() => ({ positions: 0, same: 0, cosine: 0, kl: 0 }));
  await predictAll([student, teacher] as const, requests, watch, (index, own, theirs) => {
    const sum = sums[index]!;
    theirs.forEach((row, at) => {
      const { same, cosine, kl } = compareLogits(row, own[at]!);
      sum.positions++;
      sum.same += Number(same);
      sum.cosine += cosine;
      sum.kl += kl;
    });
  });
  const per = (what: 'same' | 'cosine' | 'kl') =>
    ratio(
      sums.map((sum) => sum[what]),
      sums.map(({ positions }) => positions),
    );
  return { fidelity: per('same'), cosine: per('cosine'), kl: per('kl') };
}
