import { SottoError } from '../../errors/index.ts';

/** Steps of every text beside those of its length: a tenth of a second. */
const stepsOfAnyText = 4_000_000;
const stepsPerCharacter = 100;
/** How much longer than its text a normalised text may become, beside some characters. */
const growthLimit = 40;
const growthOfAnyText = 4096;

/**
 * What one text may cost. A tokenizer comes from a stranger, so a pattern that tries for ever, a word of which every part is
 * looked up, or a chain of replacements that grows, ends in an `input` error instead of a page that hangs. Steps are counted, not
 * timed: the same text ends the same way everywhere.
 */
export class Work {
  #steps: number;
  readonly #length: number;

  constructor(textLength: number) {
    this.#length = growthOfAnyText + growthLimit * textLength;
    this.#steps = stepsOfAnyText + stepsPerCharacter * textLength;
  }

  spend(steps: number): void {
    this.#steps -= steps;
    if (this.#steps < 0) throw tooMuch('takes more steps than a text of its length may');
  }

  /** Checks the length of a text that grew out of the one given. */
  grown(length: number): void {
    if (length > this.#length) throw tooMuch(`grows to more than ${growthLimit} times its length`);
  }
}

const tooMuch = (what: string): SottoError =>
  new SottoError('input', `with this tokenizer the text ${what}`, {
    place: { field: 'tokenizer.json' },
    remedy: 'shorten the text, or use a tokenizer whose patterns match in one pass',
  });
