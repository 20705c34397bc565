import { type Command, Option } from 'commander';
import type { Setting } from '../backends/cost/index.ts';
import type { RingParameters } from '../backends/ring/index.ts';
import { greedy, type Sampler, sampler, streamingDecoder, type Tokenizer } from '../models/index.ts';
import { checkRanges } from '../models/ranges.ts';
import { checkVocabulary } from '../models/vocabulary.ts';
import type { Device } from '../node/onnx.ts';
import { type Agreement, agree } from '../package/agreement.ts';
import type { LoadedModel } from '../package/model.ts';
import { type ClearBackend, fittingTokens, writer, writeText } from '../package/text.ts';
import { type LaunchResult, launchLocal } from '../party/index.ts';
import { Disagreement } from './exit.ts';
import { openFor } from './measured.ts';
import {
  type BackendName,
  backendOption,
  checkReveal,
  deviceOf,
  deviceOption,
  earlyStopOptions,
  fractionOption,
  jsonOption,
  progressOption,
  type RingFlags,
  rangeFlagsOptions,
  revealOption,
  ringOf,
  ringOption,
  type SamplingFlags,
  samplingOf,
  seedOption,
  settingOption,
  temperatureOption,
  timeoutOption,
  tokenIds,
  topPOption,
  transportOption,
  whole,
} from './options.ts';
import { progress } from './progress.ts';
import { contextNotice, type PromptFlags, promptFileOption, promptOption, promptText, requirePrompt } from './prompt.ts';
import { privateFields, runTable } from './run.ts';
import { modelFolder } from './shipped.ts';
import { seconds as formatSeconds } from './table.ts';
import { printJson, type Terminal } from './terminal.ts';

export interface GenerateFlags extends RingFlags, SamplingFlags, PromptFlags {
  readonly rangeFlags: boolean;
  readonly model: string;
  readonly maxNewTokens: number;
  readonly reveal: 'logits' | 'token';
  readonly earlyStop: boolean;
  readonly backend: BackendName;
  readonly device: Device;
  readonly setting: Setting;
  readonly transport: 'unix' | 'tcp';
  readonly timeout: number;
  readonly check?: true;
  readonly json?: true;
  readonly progress?: true;
}

const help = `
Greedy unless a temperature is given. With --backend mpc three processes run on this machine: the client is given the prompt,
the server the model, the dealer neither; the ledger of what they sent goes to stderr. A run goes to
its whole length wherever the text ends, so that this does not show; with --early-stop the server sees the number of tokens. With --reveal token the client learns the likeliest token of every step and no logit. --check runs the same prompt through the fixed and onnx backends in the launching process, which then
is a trusted test harness: without it no process has both sides. Exit code 9 where the token numbers differ.

Examples:
  $ sotto generate --model stories-teacher --prompt "Once upon a time" --max-new-tokens 100
  $ sotto generate --model stories-teacher --prompt-ids 1,403,407 --temperature 0.8 --top-p 0.9 --seed 7 --json
  $ sotto generate --model stories-polynomial --prompt "Once" --backend mpc --max-new-tokens 16 --check --json
`;

export function registerGenerate(program: Command, terminal: Terminal): void {
  program
    .command('generate')
    .summary('continue a text, in the clear or privately')
    .description('Continues a text with a Llama, in the clear or privately.')
    .requiredOption('--model <folder>', 'a checkpoint in the Hugging Face layout', modelFolder(terminal))
    .addOption(promptOption())
    .addOption(promptFileOption())
    .option('--prompt-ids <ids>', 'the same as token numbers: 1,2,3', tokenIds)
    .addOption(new Option('--max-new-tokens <n>', 'tokens to write at most').argParser(whole(1, 1_000_000)).default(64))
    .addOption(backendOption())
    .addOption(revealOption())
    .addOption(earlyStopOptions()[0]!)
    .addOption(earlyStopOptions()[1]!)
    .addOption(deviceOption())
    .addOption(temperatureOption())
    .addOption(topPOption())
    .addOption(seedOption())
    .addOption(settingOption())
    .addOption(ringOption())
    .addOption(fractionOption())
    .addOption(rangeFlagsOptions()[0]!)
    .addOption(rangeFlagsOptions()[1]!)
    .addOption(transportOption())
    .addOption(timeoutOption())
    .option('--check', 'compare with the fixed and onnx backends')
    .addOption(jsonOption())
    .addOption(progressOption())
    .addHelpText('after', help)
    .action((flags: GenerateFlags, command: Command) => {
      requirePrompt(flags, command);
      return generate({ ...flags, prompt: promptText(flags) }, terminal);
    });
}

/** One text, however it was made. */
interface Written {
  readonly ids: readonly number[];
  readonly promptTokens: number;
  readonly stopped: 'eos' | 'length' | 'context';
  readonly logits: readonly (Float32Array | Float64Array)[];
  readonly run?: LaunchResult;
}

async function generate(flags: GenerateFlags, terminal: Terminal): Promise<void> {
  const start = terminal.now();
  const model = await openFor(flags, terminal);
  const config = writer(model);
  const tokenizer = await model.tokenizer();
  const promptIds = flags.promptIds ?? tokenizer.encode(flags.prompt!);
  checkReveal(flags);
  const ring = ringOf(flags, model.plan);
  const newTokens = flags.maxNewTokens;
  // What cannot run at all is not said to be cut.
  checkVocabulary(promptIds, config.vocabSize, 'prompt');
  const fitting = fittingTokens(config, promptIds.length, newTokens);
  if (fitting < newTokens) terminal.error(contextNotice(newTokens, fitting));
  const written =
    flags.backend === 'mpc'
      ? await privately(flags, terminal, model, { promptIds, newTokens: fitting, ring })
      : await clearly(flags, terminal, model, tokenizer, { promptIds, newTokens, ring, backend: flags.backend });
  const elapsed = (terminal.now() - start) / 1000;
  const agreement = flags.check ? await check(flags, terminal, model, written, ring) : undefined;
  print(flags, terminal, { written, tokenizer, ring, elapsed, agreement });
  const wrong = Object.entries(agreement ?? {}).filter(([, { sameIds }]) => !sameIds);
  if (wrong.length > 0)
    throw new Disagreement(`${wrong.map(([name]) => name).join(' and ')} chose other tokens than ${flags.backend}`);
}

interface Asked {
  readonly promptIds: readonly number[];
  readonly newTokens: number;
  readonly ring: RingParameters;
}

async function clearly(
  flags: GenerateFlags,
  terminal: Terminal,
  model: LoadedModel,
  tokenizer: Tokenizer,
  { backend, ...asked }: Asked & { backend: ClearBackend },
): Promise<Written> {
  if (backend === 'fixed') checkRanges(model.plan, asked.ring, model.checkpoint.files.name);
  const bar = progress(terminal, flags.progress === true);
  const decoder = streamingDecoder(tokenizer);
  const live = !flags.json;
  // Nothing is printed before the first token: what fails before it leaves no text that looks like a result.
  const waiting = [...asked.promptIds];
  const say = (id?: number): void => {
    if (live) for (const next of [...waiting.splice(0), ...(id === undefined ? [] : [id])]) terminal.out(decoder.push(next));
  };
  let done = 0;
  bar.show(`${backend}: loading`);
  const made = await writeText(model, backend, {
    ...asked,
    device: deviceOf(flags),
    reveal: flags.reveal,
    sample: sampleOf(flags),
    keepLogits: flags.check === true,
    onToken: (id) => {
      if (!live || !terminal.outIsTerminal) bar.show(`${backend}: ${++done} of ${asked.newTokens} tokens`, done, asked.newTokens);
      if (live && terminal.outIsTerminal) bar.end();
      say(id);
    },
  });
  bar.end();
  say();
  if (live) terminal.out(`${decoder.end()}\n`);
  return { ...made, promptTokens: asked.promptIds.length };
}

async function privately(
  flags: GenerateFlags,
  terminal: Terminal,
  model: LoadedModel,
  { promptIds, newTokens, ring }: Asked,
): Promise<Written> {
  checkRanges(model.plan, ring, model.checkpoint.files.name);
  const bar = progress(terminal, flags.progress === true);
  const started = terminal.now();
  bar.show('mpc: setup and offline phase');
  let printed = false;
  const ticking = setInterval(
    () => bar.show(`mpc: setup and offline phase, ${Math.round((terminal.now() - started) / 1000)} s`),
    500,
  );
  try {
    const run = await launchLocal({
      model: flags.model,
      task: {
        kind: 'generate',
        prompt: flags.promptIds === undefined ? { text: flags.prompt! } : { ids: promptIds },
        newTokens,
        reveal: flags.reveal,
        earlyStop: flags.earlyStop,
        ...(flags.temperature > 0 ? { sampling: samplingOf(flags) } : {}),
      },
      ring,
      rangeFlags: flags.rangeFlags,
      setting: flags.setting,
      transport: flags.transport,
      timeoutMilliseconds: flags.timeout * 1000,
      keepLogits: flags.check === true,
      onText: (text) => {
        clearInterval(ticking);
        bar.end();
        if (flags.json) return;
        terminal.out(text);
        printed = true;
      },
    });
    const { client } = run;
    const ids = [...client.promptIds, ...client.newIds];
    const cut = client.stopped === 'length' && newTokens < flags.maxNewTokens;
    return { ids, promptTokens: client.promptIds.length, stopped: cut ? 'context' : client.stopped, logits: run.logits, run };
  } finally {
    clearInterval(ticking);
    bar.end();
    if (printed) terminal.out('\n');
  }
}

/** A new sampler for every text: each begins with the seed. */
const sampleOf = (flags: GenerateFlags): Sampler => (flags.temperature > 0 ? sampler(samplingOf(flags)) : greedy);

/** The same prompt by the other backends, fed with this run's own tokens, in this process. */
async function check(
  flags: GenerateFlags,
  terminal: Terminal,
  model: LoadedModel,
  { ids, promptTokens, logits }: Written,
  ring: RingParameters,
): Promise<Agreement> {
  const bar = progress(terminal, flags.progress === true);
  bar.show('check: fixed and onnx on the same tokens');
  try {
    const shown = flags.reveal === 'token' ? undefined : logits;
    return await agree(model, { ids, promptTokens, logits: shown, ring, sampler: () => sampleOf(flags) });
  } finally {
    bar.end();
  }
}

interface Outcome {
  readonly written: Written;
  readonly tokenizer: Tokenizer;
  readonly ring: RingParameters;
  readonly elapsed: number;
  readonly agreement: Agreement | undefined;
}

function print(flags: GenerateFlags, terminal: Terminal, { written, tokenizer, ring, elapsed, agreement }: Outcome): void {
  const { ids, promptTokens, stopped, run } = written;
  const checked = agreement === undefined ? {} : { agreement, harness: 'the launching process, trusted: it has both sides' };
  if (flags.json) {
    const { backend, setting } = flags;
    const measured = run === undefined ? {} : { setting, ring, ...privateFields(run) };
    const text = tokenizer.decode(ids);
    printJson(terminal, { ids: [...ids], text, seconds: elapsed, promptTokens, stopped, backend, ...measured, ...checked });
    return;
  }
  if (run !== undefined) terminal.error(`\n${runTable(run)}`);
  const newTokens = ids.length - promptTokens;
  if (run !== undefined || terminal.errorIsTerminal)
    terminal.error(`${newTokens} tokens in ${formatSeconds(elapsed)} (${flags.backend}, ended by ${stopped})\n`);
  for (const [name, { sameIds, maxAbsLogitError }] of Object.entries(agreement ?? {}))
    terminal.error(
      `check (trusted test harness): ${name} ${sameIds ? 'chose the same tokens' : 'chose OTHER tokens'}${
        maxAbsLogitError === undefined ? '' : `, logits within ${maxAbsLogitError.toExponential(2)}`
      }\n`,
    );
}
