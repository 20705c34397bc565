import { SottoError } from '../../errors/index.ts';
import { type Metrics, mean, proportion } from '../../evaluate/metric.ts';
import type { TextModel, Watch } from '../../evaluate/model.ts';
import type { Row } from '../../evaluate/rows.ts';
import { writeAfter } from './generative.ts';
import { askJudge, type ChatMessage, type JudgeOptions } from './judge.ts';

/** A question of MT-Bench (Zheng et al. 2023): the second turn builds on the answer to the first. */
export interface TwoTurns {
  readonly row: Row;
  readonly id: string;
  readonly category: string;
  readonly turns: readonly [string, string];
  /** Of categories with right and wrong answers. */
  readonly reference?: readonly [string, string] | undefined;
}

/** The categories whose answers the judge compares with a reference. */
const referenced = ['math', 'reasoning', 'coding', 'arena-hard-200'];

function pair(row: Row, field: string, value: unknown): [string, string] {
  if (Array.isArray(value) && value.length === 2 && value.every((turn) => typeof turn === 'string'))
    return value as [string, string];
  return row.refuse(field, 'is not two texts');
}

/** `turns`, or the published answers' `choices: [{ turns }]`. */
export function turnsOf(row: Row): [string, string] {
  if (row.has('turns')) return pair(row, 'turns', row.present('turns'));
  const choices = row.has('choices') ? row.present('choices') : row.present('turns');
  const first: unknown = Array.isArray(choices) ? choices[0] : undefined;
  return pair(row, 'choices', (first as { turns?: unknown } | undefined)?.turns);
}

/** Questions with the references that their categories ask for. */
export function twoTurns(rows: readonly Row[], references: readonly Row[]): TwoTurns[] {
  const answers = byKey(references, 'question_id');
  byKey(rows, 'question_id');
  return rows.map((row) => {
    const id = row.key('question_id');
    const category = row.text('category');
    const reference = answers.get(id);
    if (referenced.includes(category) && reference === undefined)
      throw new SottoError('input', `question ${id} of the category ${category} has no reference answer`, {
        place: { file: `${row.file}:${row.line}`, field: 'question_id' },
        remedy: 'name the file of reference answers with --references',
      });
    const used = referenced.includes(category) ? turnsOf(reference!) : undefined;
    return { row, id, category, turns: pair(row, 'turns', row.present('turns')), reference: used };
  });
}

/** Rows by an identifier that no two of them share. */
function byKey(rows: readonly Row[], field: string): ReadonlyMap<string, Row> {
  const found = new Map<string, Row>();
  for (const row of rows) {
    const other = found.get(row.key(field));
    if (other !== undefined) row.refuse(field, `is ${row.key(field)}, as in ${other.file}:${other.line} already`);
    found.set(row.key(field), row);
  }
  return found;
}

export interface JudgePrompt {
  readonly system: string;
  readonly template: string;
}
const promptNames = ['single-v1', 'single-math-v1', 'single-v1-multi-turn', 'single-math-v1-multi-turn'] as const;
type PromptName = (typeof promptNames)[number];
export type JudgePrompts = Readonly<Record<PromptName, JudgePrompt>>;

/** The four prompts that rate a single answer, from a file of judge prompts. */
export function judgePrompts(rows: readonly Row[], file: string): JudgePrompts {
  const found = promptNames.map((name): [PromptName, JudgePrompt] => {
    const [row, again] = rows.filter(({ fields }) => fields.name === name);
    again?.refuse('name', `is ${name}, as in row ${row!.line} already`);
    if (row !== undefined) return [name, { system: row.text('system_prompt'), template: row.text('prompt_template') }];
    throw new SottoError('input', `the prompt ${name} is missing`, {
      place: { file, field: 'name' },
      remedy: 'give the judge prompts of MT-Bench',
    });
  });
  return Object.fromEntries(found) as Record<PromptName, JudgePrompt>;
}

/** The message that asks for a rating of the answer to turn 1 or 2. */
export function judgeMessages(
  prompts: JudgePrompts,
  { turns, reference }: TwoTurns,
  answers: readonly [string, string],
  turn: 1 | 2,
): ChatMessage[] {
  const name: PromptName = `single${reference === undefined ? '' : '-math'}-v1${turn === 1 ? '' : '-multi-turn'}`;
  const values: Record<string, string | undefined> = {
    question: turns[0],
    answer: answers[0],
    question_1: turns[0],
    question_2: turns[1],
    answer_1: answers[0],
    answer_2: answers[1],
    ref_answer_1: reference?.[0],
    ref_answer_2: reference?.[1],
  };
  const { system, template } = prompts[name];
  const content = template.replaceAll(/\{(\w+)\}/g, (whole, field: string) => values[field] ?? whole);
  return [
    { role: 'system', content: system },
    { role: 'user', content },
  ];
}

/** The rating in a judgement, `[[7]]` or, failing that, `[7]`; undefined where there is none from 1 to 10. */
export function ratingOf(judgement: string): number | undefined {
  const match = /\[\[(\d+\.?\d*)\]\]/.exec(judgement) ?? /\[(\d+\.?\d*)\]/.exec(judgement);
  const rating = Number(match?.[1] ?? Number.NaN);
  return rating >= 1 && rating <= 10 ? rating : undefined;
}

export interface Rated {
  readonly id: string;
  readonly category: string;
  /** Per turn; undefined where the judge gave no rating. */
  readonly ratings: readonly [number | undefined, number | undefined];
}

/** Has both answers to every question rated. */
export async function judgeAll(
  judge: JudgeOptions,
  prompts: JudgePrompts,
  questions: readonly TwoTurns[],
  answers: readonly (readonly [string, string])[],
  watch: Watch = () => undefined,
): Promise<Rated[]> {
  const rated: Rated[] = [];
  for (const [index, question] of questions.entries()) {
    const rate = async (turn: 1 | 2) => ratingOf(await askJudge(judge, judgeMessages(prompts, question, answers[index]!, turn)));
    rated.push({ id: question.id, category: question.category, ratings: [await rate(1), await rate(2)] });
    watch(index + 1, questions.length);
  }
  return rated;
}

/** `score`: mean rating of both turns; each turn's and category's own; `rated`: the share of judgements with a rating. */
export function scoreRatings(rated: readonly Rated[]): Metrics {
  const given = (ratings: readonly (number | undefined)[]): number[] => ratings.filter((rating) => rating !== undefined);
  const all = rated.flatMap(({ ratings }) => ratings);
  const metrics: Metrics = { rated: proportion(given(all).length, all.length) };
  const add = (name: string, ratings: readonly (number | undefined)[]): void => {
    if (given(ratings).length > 0) metrics[name] = mean(given(ratings));
  };
  add('score', all);
  for (const turn of [0, 1] as const)
    add(
      `score_turn_${turn + 1}`,
      rated.map(({ ratings }) => ratings[turn]),
    );
  for (const category of new Set(rated.map((question) => question.category)))
    add(
      `score_${category}`,
      rated.flatMap((question) => (question.category === category ? question.ratings : [])),
    );
  return metrics;
}

const turnTokens = 512;

/** A model's answers to both turns, greedily, in a plain transcript. */
export async function answerTurns(model: TextModel, { turns }: TwoTurns): Promise<[string, string]> {
  const stops = ['\nUser:'];
  const newTokens = Math.min(turnTokens, model.context >> 1);
  const start = `User: ${turns[0]}\nAssistant:`;
  const first = (await writeAfter(model, start, { newTokens, stops })).trim();
  const second = await writeAfter(model, `${start} ${first}\nUser: ${turns[1]}\nAssistant:`, { newTokens, stops });
  return [first, second.trim()];
}
