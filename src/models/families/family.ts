import type { FieldGroup } from '../fields.ts';
import type { Layout } from '../layout.ts';

/** What a model is for: the private and the clear programs are those of its job, written against layouts. */
export type Job = 'writes text' | 'classifies texts' | 'classifies pictures';

/** A model family: everything that tells its models from others. */
export interface Family<C> {
  /** The values of `model_type` that name it, each with the published classes that it is. */
  readonly architectures: Readonly<Record<string, readonly string[]>>;
  readonly job: Job;
  /** Fields of config.json that its definition reads: what clients get of it. */
  readonly fields: readonly string[];
  /** Fields of config.json that change no number, with the reason, beside those of every family. */
  readonly neutral: readonly FieldGroup[];
  /** Tensors that are read over, and why. */
  readonly unread: readonly { readonly name: RegExp; readonly reason: string; readonly types?: readonly string[] }[];
  /** config.json with the published defaults, checked field by field and across fields. Throws `model` errors. */
  parse(raw: unknown, file?: string): C;
  layout(config: C): Layout;
}
