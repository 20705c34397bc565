import type { Tokenizer } from '../../models/tokenizer.ts';
import { brokenRow } from './bytes.ts';
import type { Row } from './row.ts';
import { textOf } from './rows.ts';

/** Tokens of one document; the loss counts those from `masked` on. */
export interface Document {
  readonly ids: Int32Array;
  /** The first ids that are read but not learnt: a prompt. */
  readonly masked: number;
}

/** The prompt of the Stanford Alpaca release, up to where the answer begins. */
export function alpacaPrompt(instruction: string, input: string): string {
  return input === ''
    ? `Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\n${instruction}\n\n### Response:`
    : `Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\n${instruction}\n\n### Input:\n${input}\n\n### Response:`;
}

/** A row of `instruction`, `input` (may be absent or empty) and `output`. */
export function alpacaTexts(file: string, row: Row): { prompt: string; answer: string } {
  const instruction = textOf(file, row, 'instruction');
  const input = row.value.input == null ? '' : textOf(file, row, 'input');
  const answer = textOf(file, row, 'output');
  if (instruction.trim() === '') throw brokenRow(file, `${row.place}, instruction`, 'the instruction is empty');
  return { prompt: alpacaPrompt(instruction, input), answer };
}

const edge = (id: number | null): number[] => (id === null ? [] : [id]);

/**
 * Begin token, prompt, answer, end token, the begin token and prompt masked. Prompt and answer are encoded as one text, as the release
 * does; the mask ends where the tokens of the prompt alone and of the whole text part.
 */
export function encodePrompted(tokenizer: Tokenizer, prompt: string, answer: string): Document {
  const alone = tokenizer.encode(prompt, { addSpecial: false });
  const both = tokenizer.encode(prompt + answer, { addSpecial: false });
  let shared = 0;
  while (shared < alone.length && alone[shared] === both[shared]) shared++;
  const begin = edge(tokenizer.bosId);
  return { ids: Int32Array.from([...begin, ...both, ...edge(tokenizer.eosId)]), masked: begin.length + shared };
}

/** Begin token, text, end token, nothing masked. */
export function encodeText(tokenizer: Tokenizer, text: string): Document {
  const ids = tokenizer.encode(text, { addSpecial: false });
  return { ids: Int32Array.from([...edge(tokenizer.bosId), ...ids, ...edge(tokenizer.eosId)]), masked: 0 };
}
