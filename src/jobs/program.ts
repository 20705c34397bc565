import { SottoError } from '../errors/index.ts';
import { traceBertPrivate } from '../models/bert.ts';
import type { ModelConfig } from '../models/config.ts';
import { classifiesTexts, writesText } from '../models/families/index.ts';
import { traceLlamaPrivate } from '../models/llama.ts';
import type { Plan } from '../models/plan.ts';
import { traceVitPrivate } from '../models/vit.ts';
import type { Program } from '../program/index.ts';
import type { Asked } from './job.ts';

/** What of a job decides its program. */
export type ProgramAsked = Omit<Asked, 'padded' | 'reveal'> & {
  readonly padded?: boolean | undefined;
  readonly reveal?: 'logits' | 'token' | undefined;
};

/** The private program of a model for a job. A job that is none of the model's is a `usage` error. */
export function jobProgram(config: ModelConfig, plan: Plan, asked: ProgramAsked): Program {
  const { task, promptTokens, newTokens, padded, reveal } = asked;
  const refuse = (reason: string, remedy: string): never => {
    throw new SottoError('usage', reason, { remedy });
  };
  if ((task === 'generate') !== writesText(config))
    refuse(`a ${config.family} does not ${task}`, `use ${writesText(config) ? 'generate' : 'classify'}`);
  if (writesText(config)) return traceLlamaPrivate(config, plan, { promptTokens, newTokens, reveal, padded });
  // Otherwise one class could be asked for in words that a policy of tokens lets pass, and be given as logits.
  if (reveal === 'token') refuse('a class is opened as its logits', 'leave reveal out');
  if (newTokens !== 1) refuse(`${newTokens} classes of one input`, 'ask for one');
  if (classifiesTexts(config)) return traceBertPrivate(config, plan, { tokens: promptTokens, padded });
  if (padded === true) refuse('a picture has no length to hide', 'leave padding out');
  return traceVitPrivate(config, plan);
}
