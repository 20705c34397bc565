import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { privateProgram, type RingProgram } from '../backends/ring/index.ts';
import { printable, SottoError } from '../errors/index.ts';
import { jobProgram } from '../jobs/program.ts';
import { type ModelConfig, parseModelConfig } from '../models/config.ts';
import { classifiesPictures } from '../models/families/index.ts';
import { type Files, memoryFiles } from '../models/files.ts';
import { type Plan, type Preprocessor, parsePreprocessor, planOf } from '../models/index.ts';
import { isObject, readJson } from '../models/json.ts';
import { publicConfig, publicFile, publicFiles } from '../models/public-config.ts';
import { earlyDefinition, loadTokenizer, type Tokenizer } from '../models/tokenizer.ts';
import { type Program, programHash } from '../program/index.ts';
import type { Control, RunRequest } from './control.ts';

/** Of a tokenizer, and of the settings beside it. */
const publicFileBytes = 128 * 2 ** 20;

/** The public half of a checkpoint: what a client needs of its configuration and its tokenizer. No weight, no coefficient, no range. */
export async function readManifest(files: Files, config: Record<string, unknown>): Promise<Control<'manifest'>> {
  const contents: Record<string, string> = {};
  for (const name of Object.keys(publicFiles)) {
    if (!(await files.exists(name))) continue;
    contents[name] = JSON.stringify(publicFile(name, await readJson(files, name, publicFileBytes)));
  }
  // Clients read one form of tokenizer, whatever the folder has.
  const early = await earlyDefinition(files);
  if (early !== undefined) contents['tokenizer.json'] = JSON.stringify(early);
  return { type: 'manifest', config: publicConfig(config), files: contents };
}

/** What a manifest may be at all: known files, and of the configuration what a client acts on. Throws a `peer` error. */
export function checkManifest({ config, files }: Control<'manifest'>): void {
  const refuse = (what: string): never => {
    throw new SottoError('peer', `sent ${what} in its manifest`, {
      place: { party: 'server' },
      remedy: 'check that both parties run the same version of sotto',
    });
  };
  if (Object.keys(files).some((name) => !Object.hasOwn(publicFiles, name))) refuse('files that no client reads');
  if (canonical(publicConfig(config)) !== canonical(config)) refuse('fields that no client needs');
}

/** Names everything in a manifest that a client acts on: SHA-256, in hexadecimal, of its configuration and files with keys in order. */
export function manifestHash({ config, files }: Pick<Control<'manifest'>, 'config' | 'files'>): string {
  return bytesToHex(sha256(new TextEncoder().encode(`sotto manifest 1\n${canonical({ config, files })}`)));
}

/** No configuration is nested deeper. */
const deepest = 16;

/** JSON with the keys of every object in order. */
function canonical(value: unknown, depth = 0): string {
  if (depth > deepest)
    throw new SottoError('peer', 'sent a configuration that is nested too deep', {
      place: { party: 'server' },
      remedy: 'take another server',
    });
  if (Array.isArray(value)) return `[${value.map((each) => canonical(each, depth + 1)).join(',')}]`;
  if (!isObject(value)) return JSON.stringify(value);
  const entries = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonical(value[key], depth + 1)}`);
  return `{${entries.join(',')}}`;
}

/** A manifest as a client reads it, once. */
export interface OpenManifest {
  readonly config: ModelConfig;
  readonly plan: Plan;
  /** The server's tokenizer; what it decodes to is printable, since it ends on a terminal or a page. */
  tokenizer(): Promise<Tokenizer>;
  /** What makes pixels of a picture. */
  preprocessor(): Promise<Preprocessor>;
}

/** Parses what `checkManifest` let pass. Throws `model` and `input` errors. */
export function openManifest({ config: raw, files: texts }: Pick<Control<'manifest'>, 'config' | 'files'>): OpenManifest {
  const encoder = new TextEncoder();
  const files = memoryFiles(Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, encoder.encode(text)])));
  const config = parseModelConfig(raw);
  return {
    config,
    plan: planOf(config),
    async tokenizer() {
      const tokenizer = await loadTokenizer(files);
      return { ...tokenizer, decode: (ids) => printable(tokenizer.decode(ids)) };
    },
    preprocessor: async () => parsePreprocessor(await readJson(files, 'preprocessor_config.json', 2 ** 20)),
  };
}

/** What the parties run. */
export interface RunProgram {
  readonly ringProgram: RingProgram;
  /** SHA-256 of the program's text, the ring and the protocol's version. */
  readonly hash: string;
}

/** What all three parties derive from the public configuration and the run, each for itself. */
export interface TracedRun extends RunProgram {
  readonly config: ModelConfig;
  readonly plan: Plan;
  readonly program: Program;
}

export function traceRun(rawConfig: Record<string, unknown>, run: RunRequest): TracedRun {
  const config = parseModelConfig(rawConfig);
  return traceModel({ config, plan: planOf(config) }, run);
}

/** The same of a configuration that is parsed. */
export function traceModel({ config, plan }: Pick<OpenManifest, 'config' | 'plan'>, run: RunRequest): TracedRun {
  const program = jobProgram(config, plan, run);
  const flags = run.rangeFlags === true ? { rangeFlags: true } : {};
  const identity = JSON.stringify({ program: programHash(program), ring: run.ring, ...flags, protocol: 'dealer/1' });
  const hash = bytesToHex(sha256(new TextEncoder().encode(identity)));
  return { config, plan, program, ringProgram: privateProgram(program, run.ring, { rangeFlags: run.rangeFlags === true }), hash };
}

/** Beyond these a configuration asks for more than any model that a client could run: nothing of it is traced. */
const mostStatements = 2 ** 14;
const mostElements = 2 ** 27;

/** Whether a run is of a size that this client takes, by its shapes alone. Throws a `peer` error before anything is allocated. */
export function checkSize(config: ModelConfig, { promptTokens, newTokens }: RunRequest): void {
  const tokens = classifiesPictures(config) ? (config.imageSize / config.patchSize) ** 2 + 1 : promptTokens;
  const width = Math.max(config.hiddenSize, config.numAttentionHeads * config.headDim, 2 * config.intermediateSize);
  const once = classifiesPictures(config) ? config.numChannels * config.patchSize ** 2 : config.vocabSize;
  const elements = Math.max(tokens * Math.max(width, once), config.numAttentionHeads * tokens * (tokens + newTokens));
  if (config.numHiddenLayers * newTokens <= mostStatements && elements <= mostElements) return;
  throw new SottoError('peer', 'describes a model that no client of this version runs', {
    place: { party: 'server' },
    remedy: 'ask for fewer tokens, or take another server',
  });
}
