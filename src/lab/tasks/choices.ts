import { type Likelihood, type LikelihoodRequest, logLikelihoods } from '../../evaluate/likelihood.ts';
import { type Metric, type Metrics, mapped, mean, share } from '../../evaluate/metric.ts';
import type { TextModel, Watch } from '../../evaluate/model.ts';
import type { Row } from '../../evaluate/rows.ts';

/** A question with one right answer among several. */
export interface MultipleChoice {
  readonly row: Row;
  /** One request a choice, as the harness makes them. */
  readonly requests: readonly LikelihoodRequest[];
  /** What `acc_norm` counts the characters of. */
  readonly choices: readonly string[];
  readonly answer: number;
}

/** The formats of lm-evaluation-harness, by its task names. */
export const choiceFormats = {
  arc_easy: arcQuestion,
  arc_challenge: arcQuestion,
  piqa: piqaQuestion,
  winogrande: winograndeQuestion,
  sciq: sciqQuestion,
} as const satisfies Record<string, (row: Row) => MultipleChoice>;
export type ChoiceTask = keyof typeof choiceFormats;

export interface ArcFields {
  readonly question: string;
  readonly choices: string[];
  readonly answer: number;
}

/** `choices` and `label`, or as ARC is published: `choices: { text, label }` and `answerKey`. */
export function arcFields(row: Row): ArcFields {
  const question = row.text('question');
  const published = row.present('choices');
  if (Array.isArray(published)) {
    const choices = row.texts('choices');
    return { question, choices, answer: row.label('label', choices.length) };
  }
  const { text, label } = published as { text?: unknown; label?: unknown };
  const areTexts = (list: unknown): list is string[] => Array.isArray(list) && list.every((item) => typeof item === 'string');
  if (!areTexts(text) || !areTexts(label) || text.length !== label.length || text.length === 0)
    return row.refuse('choices', 'has no lists text and label of one length');
  if (new Set(label).size !== label.length) row.refuse('choices', 'has a label twice');
  const answer = label.indexOf(row.text('answerKey'));
  return { question, choices: text, answer: answer >= 0 ? answer : row.refuse('answerKey', 'is none of the labels') };
}

export const arcContext = (question: string): string => `Question: ${question}\nAnswer:`;

function arcQuestion(row: Row): MultipleChoice {
  const { question, choices, answer } = arcFields(row);
  return after(row, arcContext(question), choices, answer);
}

function piqaQuestion(row: Row): MultipleChoice {
  const choices = [row.text('sol1'), row.text('sol2')];
  return after(row, `Question: ${row.text('goal')}\nAnswer:`, choices, row.label('label', 2));
}

function sciqQuestion(row: Row): MultipleChoice {
  const choices = ['distractor1', 'distractor2', 'distractor3', 'correct_answer'].map((field) => row.text(field));
  return after(row, `${row.text('support').trimStart()}\nQuestion: ${row.text('question')}\nAnswer:`, choices, 3);
}

/** The choices are beginnings, all with the same ending: what stands behind the gap is scored. */
function winograndeQuestion(row: Row): MultipleChoice {
  const sentence = row.text('sentence');
  const gap = sentence.indexOf('_');
  if (gap < 0) row.refuse('sentence', 'has no gap _');
  const ending = ` ${sentence.slice(gap + 1).trim()}`;
  const choices = [row.text('option1'), row.text('option2')];
  const requests = choices.map((choice) => ({ context: sentence.slice(0, gap) + choice, continuation: ending }));
  return { row, requests, choices, answer: row.label('answer', 2, 1) };
}

function after(row: Row, context: string, choices: readonly string[], answer: number): MultipleChoice {
  return { row, requests: choices.map((choice) => ({ context, continuation: ` ${choice}` })), choices, answer };
}

/** `acc`: the largest sum of log probabilities is the answer's. `acc_norm`: the largest sum by characters of the choice. */
export function scoreChoices(
  task: ChoiceTask,
  questions: readonly MultipleChoice[],
  likelihoods: readonly (readonly number[])[],
): Metrics {
  const plain = questions.map(({ answer }, index) => firstLargest(likelihoods[index]!) === answer);
  const normalised = questions.map(({ answer, choices }, index) => {
    const byCharacters = likelihoods[index]!.map((value, choice) => value / [...choices[choice]!].length);
    return firstLargest(byCharacters) === answer;
  });
  const acc = share(plain);
  return task === 'winogrande' ? { acc } : { acc, acc_norm: share(normalised) };
}

function firstLargest(values: readonly number[]): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

/** Asks a model about every choice of every question. */
export async function choiceLikelihoods(
  model: TextModel,
  questions: readonly MultipleChoice[],
  watch?: Watch,
): Promise<number[][]> {
  const flat = await logLikelihoods(
    model,
    questions.flatMap(({ requests }) => requests),
    watch,
  );
  let next = 0;
  return questions.map(({ requests }) => requests.map(() => flat[next++]!.logLikelihood));
}

/** Given log likelihoods of a question: `loglikelihoods: [number, …]`, or the harness's `filtered_resps: [[number, boolean], …]`. */
export function givenLikelihoods({ choices }: MultipleChoice, completion: Row): number[] {
  const values = completion.has('loglikelihoods')
    ? completion.numbers('loglikelihoods')
    : likelihoodPairs(completion).map(({ logLikelihood }) => logLikelihood);
  const field = completion.has('loglikelihoods') ? 'loglikelihoods' : 'filtered_resps';
  if (values.length !== choices.length) completion.refuse(field, `has ${values.length} values for ${choices.length} choices`);
  return values;
}

function likelihoodPairs(completion: Row): Likelihood[] {
  if (!completion.has('filtered_resps')) return completion.refuse('loglikelihoods', 'is missing');
  const pairs = completion.present('filtered_resps');
  if (!Array.isArray(pairs)) return completion.refuse('filtered_resps', 'is not a list');
  return pairs.map((pair: unknown) => {
    const [value, greedy] = Array.isArray(pair) ? pair : [];
    if (Number.isNaN(Number(value)) || value === null || value === '')
      return completion.refuse('filtered_resps', 'has an entry that is no pair of number and boolean');
    return { logLikelihood: Number(value), greedy: greedy === true || greedy === 'True' };
  });
}

/** LAMBADA as in the harness: the last word, with the space before it, after all others. */
export function lambadaRequest(row: Row): LikelihoodRequest {
  const words = row.text('text').split(' ');
  if (words.length < 2) row.refuse('text', 'has a single word');
  return { context: words.slice(0, -1).join(' '), continuation: ` ${words.at(-1)}` };
}

/** `acc`: every token of the word is the likeliest. `perplexity`: of words, exp of the mean negative log likelihood. */
export function scoreLambada(likelihoods: readonly Likelihood[]): Metrics {
  const perplexity: Metric = mapped(mean(likelihoods.map(({ logLikelihood }) => -logLikelihood)), Math.exp);
  return { perplexity, acc: share(likelihoods.map(({ greedy }) => greedy)) };
}

/** `loglikelihood` and `greedy`, or the harness's `filtered_resps: [[number, boolean]]`. */
export function givenLikelihood(completion: Row): Likelihood {
  if (completion.has('filtered_resps')) return likelihoodPairs(completion)[0] ?? completion.refuse('filtered_resps', 'is empty');
  const value = completion.present('loglikelihood');
  if (typeof value !== 'number') return completion.refuse('loglikelihood', 'is not a number');
  const greedy = completion.present('greedy');
  return typeof greedy === 'boolean' ? { logLikelihood: value, greedy } : completion.refuse('greedy', 'is not true or false');
}
