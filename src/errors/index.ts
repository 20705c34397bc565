import { printable } from './printable.ts';

export { printable, printableJson } from './printable.ts';

/** Every error that sotto throws on purpose, by what went wrong; the command line maps each to an exit code. */
export const errorKinds = {
  usage: 'the caller asked for something that does not exist or does not fit together',
  input: 'a file, tensor, prompt or field is malformed, missing or out of its range',
  model: 'a checkpoint or plan describes an architecture that sotto does not know or that does not fit its weights',
  range: 'a value left the range that the ring or a table allows',
  peer: 'a party is silent, closed, of another version, or sent bytes that do not follow the protocol',
  material: 'correlated randomness is missing, claimed already, burned, or belongs to another program',
  resource: 'a limit of memory, disk or time was reached',
} as const;
/**
 * What went wrong, one exit code of the command line each. `usage`: the caller asked for what does not exist or does not fit together.
 * `input`: a file, tensor, prompt or field is malformed, missing or out of its range. `model`: an architecture that sotto does not know, or
 * that does not fit its weights. `range`: a value left the range that the ring or a table allows. `peer`: a party is silent, closed, of
 * another version, or broke the protocol. `material`: correlated randomness is missing, used or made for something else. `resource`: a limit
 * of memory, disk or time.
 */
export type ErrorKind = keyof typeof errorKinds;

/** Where an error happened, as far as it is known: each part is printed with its name. */
export interface Place {
  readonly party?: string;
  readonly file?: string;
  readonly field?: string;
  readonly tensor?: string;
  readonly scope?: string;
}

/** A typed error: what went wrong, where, and what to do about it, in printable words whoever wrote them. */
export class SottoError extends Error {
  readonly kind: ErrorKind;
  readonly place: Place;
  readonly remedy: string;
  /** The sentence alone, without place and remedy. */
  readonly reason: string;
  /** The run that ended so, by the name that the logs of all its parties have for it; set once the run has one. */
  run: string | undefined;
  constructor(kind: ErrorKind, reason: string, options: { place?: Place; remedy: string; cause?: unknown }) {
    const place: Place = Object.fromEntries(Object.entries(options.place ?? {}).map(([name, value]) => [name, printable(value)]));
    const said = printable(reason);
    const remedy = printable(options.remedy);
    const where = Object.entries(place).map(([name, value]) => `${name} ${value}`);
    super(`${where.length > 0 ? `${where.join(', ')}: ` : ''}${said} — ${remedy}`, { cause: options.cause });
    this.name = 'SottoError';
    this.kind = kind;
    this.place = place;
    this.remedy = remedy;
    this.reason = said;
  }
}
