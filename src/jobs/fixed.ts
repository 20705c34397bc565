import { simulate } from '../backends/fixed/index.ts';
import { quantise, type RingParameters, wordBitsOf } from '../backends/ring/index.ts';
import { createWasmKernels } from '../kernels/index.ts';
import type { ModelConfig } from '../models/config.ts';
import type { Plan } from '../models/plan.ts';
import type { Tensor } from '../program/index.ts';
import { type Job, readInTheClear } from './job.ts';
import { jobProgram } from './program.ts';

/** A model as the server of a private run has it: its folded tensors by name. */
export interface PrivateModel {
  readonly config: ModelConfig;
  readonly plan: Plan;
  readonly weight: (name: string) => Promise<Tensor>;
}

/** A job in the exact integers of a private run. It ends where the answer is complete. */
export async function runFixed<Answer>(model: PrivateModel, job: Job<Answer>, ring: RingParameters): Promise<Answer> {
  readInTheClear(job);
  const program = quantise(jobProgram(model.config, model.plan, job.asked), ring);
  await simulate(program, {
    kernels: createWasmKernels(wordBitsOf(ring.bits)),
    weights: model.weight,
    inputs: async (name) => job.input(name),
    onOutput: (name, value) => job.take(name, value) === 'more',
  });
  return job.answer();
}
