import { type Costs, forecast, type Setting } from '../backends/cost/index.ts';
import { type Platform, type Rehearsal, rehearse } from '../backends/mpc/index.ts';
import { privateProgram, type RingParameters } from '../backends/ring/index.ts';
import type { PrivateModel } from './fixed.ts';
import type { Job } from './job.ts';
import { jobProgram } from './program.ts';

export interface RehearsalSettings {
  readonly ring: RingParameters;
  /** `dealer` where absent. */
  readonly setting?: Setting | undefined;
  /** Whether values out of range are noticed, so that the job's answer is a `range` error: they are unless this is false. */
  readonly rangeFlags?: boolean | undefined;
  /** A new one for each role. */
  readonly platform: () => Platform;
}

export interface Rehearsed<Answer> {
  readonly answer: Answer;
  /** As counted on the channels, and as forecast from the program alone: equal. */
  readonly measured: Costs;
  readonly forecast: Costs;
  readonly ledgers: Pick<Rehearsal, 'client' | 'server'>;
}

/**
 * A job under the whole protocol with client, server and dealer in this process. It goes on to its length wherever the answer is complete:
 * what a run sends depends on what was asked alone.
 */
export async function runRehearsed<Answer>(
  model: PrivateModel,
  job: Job<Answer>,
  { ring, setting = 'dealer', rangeFlags = true, platform }: RehearsalSettings,
): Promise<Rehearsed<Answer>> {
  const program = privateProgram(jobProgram(model.config, model.plan, job.asked), ring, { rangeFlags });
  job.watch(program);
  job.read();
  const { measured, client, server } = await rehearse({
    program,
    setting,
    platforms: { client: platform(), server: platform(), dealer: platform() },
    weight: model.weight,
    input: async (name) => job.input(name),
    output: (name, value) => void job.take(name, value),
  });
  const { total } = forecast(program, setting);
  return { answer: job.answer(), measured, forecast: total, ledgers: { client, server } };
}
