import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { quantise, type RingProgram } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import { type ModelConfig, parseModelConfig } from '../models/config.ts';
import { type Files, memoryFiles } from '../models/files.ts';
import {
  type Plan,
  parsePreprocessor,
  planOf,
  preprocess,
  type RgbImage,
  traceLlamaPrivate,
  traceVitPrivate,
} from '../models/index.ts';
import { readJson } from '../models/json.ts';
import { loadTokenizer, type Tokenizer } from '../models/tokenizer.ts';
import { type Program, programHash, type Tensor } from '../program/index.ts';
import type { Control, RunRequest } from './control.ts';

/** Public files of a checkpoint: the client needs them to turn text into tokens. */
const publicFiles = ['tokenizer.json', 'tokenizer_config.json', 'preprocessor_config.json', 'generation_config.json'] as const;

/** The public half of a checkpoint: its configuration without calibration ranges, its tokenizer. No weight, no coefficient. */
export async function readManifest(files: Files, config: Record<string, unknown>): Promise<Control<'manifest'>> {
  const contents: Record<string, string> = {};
  for (const name of publicFiles) {
    if (await files.exists(name)) contents[name] = new TextDecoder().decode(await files.read(name));
  }
  return { type: 'manifest', config: withoutRanges(config), files: contents };
}

function withoutRanges(config: Record<string, unknown>): Record<string, unknown> {
  const plan = config.sotto;
  if (typeof plan !== 'object' || plan === null) return config;
  const { ranges: _, ...rest } = plan as Record<string, unknown>;
  return { ...config, sotto: rest };
}

/** The manifest's files, for the loaders that read folders. */
export function manifestFiles(manifest: Control<'manifest'>): Files {
  const encoder = new TextEncoder();
  return memoryFiles(Object.fromEntries(Object.entries(manifest.files).map(([name, text]) => [name, encoder.encode(text)])));
}

export const manifestTokenizer = (manifest: Control<'manifest'>): Promise<Tokenizer> => loadTokenizer(manifestFiles(manifest));

/** A picture's pixel values (C, H, W) as the model's preprocessor makes them. */
export async function manifestPixels(manifest: Control<'manifest'>, image: RgbImage): Promise<Tensor> {
  const preprocessor = parsePreprocessor(await readJson(manifestFiles(manifest), 'preprocessor_config.json', 2 ** 20));
  const config = parseModelConfig(manifest.config);
  return preprocess(image, preprocessor, config.family === 'vit' ? config.numChannels : 3);
}

/** What all three parties derive from the public configuration and the run, each for itself. */
export interface TracedRun {
  readonly config: ModelConfig;
  readonly plan: Plan;
  readonly program: Program;
  readonly ringProgram: RingProgram;
  /** SHA-256 of the program's text, the ring and the protocol's version. */
  readonly hash: string;
}

export function traceRun(rawConfig: Record<string, unknown>, run: RunRequest): TracedRun {
  const config = parseModelConfig(rawConfig);
  const plan = planOf(config);
  const { promptTokens, newTokens, reveal } = run;
  if (config.family === 'bert')
    throw new SottoError('usage', `a ${config.layout} is not served between parties yet`, {
      place: { field: 'model_type' },
      remedy: 'serve a llama or a vit; `sotto forecast` counts what a private run of this one would cost',
    });
  if ((run.task === 'generate') !== (config.family === 'llama'))
    throw new SottoError('usage', `a ${config.family} does not ${run.task}`, {
      remedy: `use ${config.family === 'llama' ? 'generate' : 'classify'}`,
    });
  const program =
    config.family === 'llama'
      ? traceLlamaPrivate(config, plan, { promptTokens, newTokens, reveal })
      : traceVitPrivate(config, plan);
  const identity = JSON.stringify({ program: programHash(program), ring: run.ring, protocol: 'dealer/1' });
  const hash = bytesToHex(sha256(new TextEncoder().encode(identity)));
  return { config, plan, program, ringProgram: quantise(program, run.ring), hash };
}
