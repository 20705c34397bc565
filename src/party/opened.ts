import { isFlag, outOfRange, type RingProgram, Withheld } from '../backends/ring/index.ts';
import type { Tensor } from '../program/index.ts';

/** What went wrong with an opened value, or with an input whose length is secret. */
export interface Fault {
  readonly error: unknown;
}

/** What an opened value becomes: a token, perhaps the text's last, and what is done with it once it is known to be right. */
interface Taken {
  readonly id?: number;
  readonly last?: boolean;
  readonly show: () => void;
}

/** What a run has opened, and what is shown of it. Nothing here throws. */
export class Opened {
  readonly newIds: number[] = [];
  fault: Fault | undefined;
  /** How many outputs came, shown or not. */
  count = 0;
  /** The text has ended, or something opened was wrong: what comes is for nobody. */
  #over = false;
  readonly #take: (opened: Float64Array) => Taken;
  #withheld: Withheld | undefined;

  constructor(take: (opened: Float64Array) => Taken) {
    this.#take = take;
  }

  /** Before the run. */
  begin(program: RingProgram): void {
    this.#withheld = new Withheld(program);
  }

  take(name: string, { values }: Tensor): void {
    if (!isFlag(name)) this.#output(values as Float64Array);
    else if (values[0] === 0) this.#withheld?.told();
    else this.fail({ error: outOfRange() });
  }

  #output(values: Float64Array): void {
    this.count++;
    if (this.#over) {
      this.#withheld?.add(() => undefined);
      return;
    }
    try {
      const { id, last = false, show } = this.#take(values);
      if (id !== undefined) this.newIds.push(id);
      this.#over = last;
      this.#withheld?.add(() => this.#show(show));
    } catch (error) {
      this.fail({ error });
    }
  }

  #show(show: () => void): void {
    try {
      if (this.fault === undefined) show();
    } catch (error) {
      this.fail({ error });
    }
  }

  /** Nothing more is shown; the run goes on. */
  fail(fault: Fault): void {
    this.fault = fault;
    this.#over = true;
  }

  /** The text has come to its own end, and all of it is shown. */
  get ended(): boolean {
    return this.#over && this.fault === undefined && this.#withheld?.empty !== false;
  }

  /** What the model reads next: where there is nothing to go on with, one fixed token, which is as good a word as any other. */
  get next(): number {
    return this.#over ? 0 : this.newIds.at(-1)!;
  }
}
