import { SottoError } from '../../errors/index.ts';
import { isObject } from '../json.ts';
import { Pattern } from './pattern.ts';
import { PatternProblem } from './pattern-syntax.ts';

export function refused(file: string, field: string, reason: string): SottoError {
  return new SottoError('input', reason, {
    place: { file, field },
    remedy: 'the tokenizer is damaged or of a kind that is not supported',
  });
}

/** One component of tokenizer.json. Each field is read by what it must be; a field that is of another kind is refused by name. */
export class Fields {
  readonly #value: Record<string, unknown>;
  readonly #file: string;
  readonly name: string;

  constructor(value: unknown, file: string, name: string) {
    if (!isObject(value)) throw refused(file, name, 'the field is not an object');
    this.#value = value;
    this.#file = file;
    this.name = name;
  }

  fail(field: string, reason: string): SottoError {
    return refused(this.#file, field === '' ? this.name : `${this.name}.${field}`, reason);
  }

  has(field: string): boolean {
    return this.#value[field] !== undefined;
  }

  raw(field: string): unknown {
    return this.#value[field];
  }

  get type(): string {
    return this.string('type');
  }

  string(field: string, otherwise?: string): string {
    const value = this.#value[field] ?? otherwise;
    if (typeof value !== 'string') throw this.fail(field, 'the field is not a text');
    if (/\p{Surrogate}/u.test(value)) throw this.fail(field, 'the text holds half a character');
    return value;
  }

  /** Null and absence mean the same. */
  optionalString(field: string): string | undefined {
    return (this.#value[field] ?? null) === null ? undefined : this.string(field);
  }

  character(field: string): string {
    const value = this.string(field);
    if (Array.from(value).length !== 1) throw this.fail(field, 'the field is not one character');
    return value;
  }

  flag(field: string, otherwise?: boolean): boolean {
    const value = this.#value[field] ?? otherwise;
    if (typeof value !== 'boolean') throw this.fail(field, 'the field is neither true nor false');
    return value;
  }

  whole(field: string, limit: number, otherwise?: number): number {
    const value = this.#value[field] ?? otherwise;
    if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > limit)
      throw this.fail(field, `the field is not a whole number from 0 to ${limit}`);
    return value as number;
  }

  choice<T extends string>(field: string, values: readonly T[], otherwise?: T): T {
    const value = this.#value[field] ?? otherwise;
    const found = values.find((known) => known === value);
    if (found === undefined) throw this.fail(field, `the field is none of ${values.join(', ')}`);
    return found;
  }

  list(field: string): unknown[] {
    const value = this.#value[field];
    if (!Array.isArray(value)) throw this.fail(field, 'the field is not a list');
    return value;
  }

  inner(field: string): Fields {
    return new Fields(this.#value[field], this.#file, `${this.name}.${field}`);
  }

  each(field: string, limit = 64): Fields[] {
    const values = this.list(field);
    if (values.length > limit) throw this.fail(field, `the list has more than ${limit} entries`);
    return values.map((value, index) => new Fields(value, this.#file, `${this.name}.${field}[${index}]`));
  }

  /** {"String": …} or {"Regex": …}, as Replace and Split have it. */
  pattern(field = 'pattern'): Pattern | string {
    const pattern = this.inner(field);
    if (pattern.has('String') === pattern.has('Regex')) throw pattern.fail('', 'the pattern is not known');
    if (pattern.has('String')) return pattern.string('String');
    try {
      return new Pattern(pattern.string('Regex'));
    } catch (cause) {
      if (!(cause instanceof PatternProblem)) throw cause;
      throw pattern.fail('Regex', `the pattern cannot be used: ${cause.message}`);
    }
  }
}
