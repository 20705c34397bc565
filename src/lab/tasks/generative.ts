import { type Metrics, share } from '../../evaluate/metric.ts';
import type { TextModel } from '../../evaluate/model.ts';
import type { Row } from '../../evaluate/rows.ts';
import { type ArcFields, arcContext, arcFields } from './choices.ts';

/** A model's greedy text after a prompt, up to the first of `stops`. An over-long prompt loses its beginning. */
export async function writeAfter(
  model: TextModel,
  prompt: string,
  { newTokens, stops }: { newTokens: number; stops: readonly string[] },
): Promise<string> {
  const promptIds = model.tokenizer.encode(prompt).slice(-Math.max(1, model.context - newTokens));
  const asked = Math.min(newTokens, model.context - promptIds.length + 1);
  // Decoded behind the prompt: some tokenizers drop the space before the first word of a text.
  const before = model.tokenizer.decode(promptIds).length;
  const textOf = (ids: readonly number[]): string => model.tokenizer.decode([...promptIds, ...ids]).slice(before);
  const ended = (ids: readonly number[]): boolean => firstStop(textOf(ids), stops) >= 0;
  const text = textOf(await model.write({ promptIds, newTokens: asked, ended }));
  const end = firstStop(text, stops);
  return end < 0 ? text : text.slice(0, end);
}

function firstStop(text: string, stops: readonly string[]): number {
  const found = stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
  return found.length === 0 ? -1 : Math.min(...found);
}

/** A question of ARC whose answer is written out: the prompt names the choices, the answer is one of them or its letter. */
export interface WrittenQuestion extends ArcFields {
  readonly row: Row;
  readonly prompt: string;
}

const letterOf = (index: number): string => String.fromCharCode(65 + index);

export function writtenQuestion(row: Row): WrittenQuestion {
  const fields = arcFields(row);
  const list = fields.choices.map((choice, index) => `${letterOf(index)}. ${choice}\n`).join('');
  return { row, ...fields, prompt: arcContext(fields.question).replace(/\nAnswer:$/, `\n${list}Answer:`) };
}

export const writtenStops = ['\n'] as const;

const plain = (text: string): string =>
  text
    .normalize('NFKC')
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}]+/gu, ' ')
    .trim();

/**
 * The choice that a text names, or −1: the text of a choice alone, else a letter that stands first or behind "answer is", else the
 * only choice whose text occurs (the longest, where one is part of another).
 */
export function namedChoice(output: string, choices: readonly string[]): number {
  const line = output.trim().split('\n')[0] ?? '';
  const said = plain(line);
  if (said === '') return -1;
  const texts = choices.map(plain);
  const same = texts.indexOf(said);
  if (same >= 0) return same;
  const letter = /^\(?([A-Z])(?:[).:,\]]|$)/.exec(line)?.[1] ?? /answer\s+is:?\s*\(?([A-Z])(?![A-Za-z])/i.exec(line)?.[1];
  if (letter !== undefined) {
    const index = letter.toUpperCase().charCodeAt(0) - 65;
    if (index < choices.length) return index;
  }
  const within = texts.flatMap((text, index) => (text !== '' && ` ${said} `.includes(` ${text} `) ? [index] : []));
  const largest = within.filter(
    (index) => !within.some((other) => other !== index && ` ${texts[other]} `.includes(` ${texts[index]} `)),
  );
  return largest.length === 1 ? largest[0]! : -1;
}

/** `acc`: the answer named is the right one. `answered`: some choice is named. */
export function scoreWritten(questions: readonly WrittenQuestion[], outputs: readonly string[]): Metrics {
  const chosen = questions.map(({ choices }, index) => namedChoice(outputs[index]!, choices));
  return {
    acc: share(chosen.map((choice, index) => choice === questions[index]!.answer)),
    answered: share(chosen.map((choice) => choice >= 0)),
  };
}
