import type { RingProgram } from './types.ts';

/**
 * Outputs that wait for the flag that goes with them. A flag tells of everything before its output, and is looked at once more, so that it may come some hops
 * after it, or before.
 */
export class Withheld {
  readonly #watched: boolean;
  readonly #waiting: (() => void)[] = [];
  /** Outputs that are known to be right, and of those how many were shown. */
  #right = 0;
  #shown = 0;

  constructor({ nodes }: RingProgram) {
    this.#watched = nodes.some(({ operation }) => operation === 'flag');
  }

  /** Shows an output as soon as it is known to be right: at once where nothing is looked at. */
  add(show: () => void): void {
    this.#waiting.push(show);
    this.#release();
  }

  /** What came under a flag's name: zero where all is well, so that the next output may be shown. */
  told(): void {
    this.#right++;
    this.#release();
  }

  get empty(): boolean {
    return this.#waiting.length === 0;
  }

  #release(): void {
    while (this.#waiting.length > 0 && (!this.#watched || this.#shown < this.#right)) {
      this.#shown++;
      this.#waiting.shift()!();
    }
  }
}
