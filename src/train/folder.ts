import { randomBytes } from 'node:crypto';
import { appendFile, constants, copyFile, link, mkdir, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { SottoError } from '../errors/index.ts';
import type { Files } from '../models/files.ts';
import { readJsonObject } from '../models/json.ts';
import { openSafetensors, readTensor, writeSafetensors } from '../models/safetensors.ts';
import { asError, folderFiles } from '../node/files.ts';
import type { Tensor } from '../program/index.ts';
import type { Recipe } from './recipe.ts';

/**
 * The folder of a run: `run.json` (the recipe), `start/` (the checkpoint that training starts from), `state.safetensors` (weights and
 * moments after the step in its metadata, replaced as a whole), `log.jsonl`, `checkpoint/` (the result). `lock` names the process
 * that writes here.
 */
export interface RunFolder {
  readonly directory: string;
  readonly files: Required<Files>;
  readonly start: Required<Files>;
  /** The start of a stage: `start/` of the first, `start-2/` of the second. */
  readonly stageStart: (index: number) => Required<Files>;
  readonly result: Required<Files>;
  close(): Promise<void>;
}

/** Takes a folder for one run. Errors: `usage` where another process holds it, or where it holds another recipe's run. */
export async function openRunFolder(directory: string, recipe: Recipe, resume: boolean): Promise<RunFolder> {
  const files = folderFiles(directory);
  await mkdir(directory, { recursive: true }).catch((cause) => Promise.reject(asError(directory, '.', cause)));
  const unlock = await lock(directory);
  try {
    if (!(await files.exists('run.json'))) await files.write('run.json', toJson({ recipe }));
    const known = (await readJsonObject(files, 'run.json', 2 ** 20)).recipe;
    const started = await files.exists('log.jsonl');
    if (!isDeepStrictEqual(known, JSON.parse(JSON.stringify(recipe))))
      throw new SottoError('usage', 'the folder holds a run of another recipe', {
        place: { file: directory },
        remedy: 'name a new folder, or the recipe of this run',
      });
    if (started && !resume)
      throw new SottoError('usage', 'the folder holds a run already', {
        place: { file: directory },
        remedy: 'resume it, or name a new folder',
      });
  } catch (error) {
    await unlock();
    throw error;
  }
  const part = (name: string) => folderFiles(join(directory, name));
  const stageStart = (index: number) => part(index === 0 ? 'start' : `start-${index + 1}`);
  return { directory, files, start: part('start'), stageStart, result: part('checkpoint'), close: unlock };
}

const toJson = (value: unknown): Uint8Array => new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);

/** Creates the lock file, or takes over one whose process is gone. */
async function lock(directory: string): Promise<() => Promise<void>> {
  const path = join(directory, 'lock');
  const own = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
  const typed = (cause: unknown): never => {
    throw asError(directory, 'lock', cause);
  };
  try {
    // Written first and then given its name, so that nobody reads a lock without its owner.
    const file = await open(own, 'wx').catch(typed);
    await file
      .writeFile(`${process.pid}\n`)
      .finally(() => file.close())
      .catch(typed);
    for (let attempt = 0; attempt < 20; attempt++) {
      if (await named(own, path).catch(typed)) return () => rm(path, { force: true });
      if (await isHeld(path)) break;
      // One at a time looks again and removes it: another's fresh lock must not be taken for the stale one.
      const turn = `${path}.turn`;
      if (await named(own, turn).catch(typed)) {
        if (!(await isHeld(path))) await rm(path, { force: true });
        await rm(turn, { force: true });
      } else if (attempt === 18 && !(await isHeld(turn))) await rm(turn, { force: true });
      else await new Promise((resolve) => setTimeout(resolve, 5));
    }
  } finally {
    await rm(own, { force: true });
  }
  throw new SottoError('usage', 'another run is writing to this folder', {
    place: { file: path },
    remedy: 'wait for it, or name another folder; remove the file if no such process exists',
  });
}

/** Gives a file a further name, which must not exist; false where it does. */
async function named(file: string, name: string): Promise<boolean> {
  const taken = (cause: { code?: string }): boolean => {
    if (cause.code === 'EEXIST') return false;
    throw cause;
  };
  return await link(file, name).then(
    () => true,
    (cause: { code?: string }) =>
      // Some file systems have one name a file.
      ['EPERM', 'ENOTSUP', 'ENOSYS'].includes(cause.code ?? '')
        ? copyFile(file, name, constants.COPYFILE_EXCL).then(() => true, taken)
        : taken(cause),
  );
}

const isHeld = async (path: string): Promise<boolean> =>
  isAlive(Number.parseInt(await readFile(path, 'utf8').catch(() => ''), 10));

function isAlive(process_: number): boolean {
  if (!Number.isInteger(process_)) return false;
  try {
    process.kill(process_, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === 'EPERM';
  }
}

/** Writes the state after `step` in one piece. */
export async function writeState(files: Required<Files>, step: number, state: ReadonlyMap<string, Tensor>): Promise<void> {
  const tensors = [...state].map(([name, { shape, values }]) => ({ name, shape, values: values as Float32Array }));
  await files.write('state.safetensors', writeSafetensors(tensors, { metadata: { step: String(step) } }));
}

/** The last state written, or undefined. */
export async function readState(files: Files): Promise<{ step: number; state: Map<string, Tensor> } | undefined> {
  if (!(await files.exists('state.safetensors'))) return undefined;
  const { tensors, metadata } = await openSafetensors(files, 'state.safetensors');
  const step = Number(metadata.step);
  if (!Number.isInteger(step) || step < 0)
    throw new SottoError('input', 'the saved state names no step', {
      place: { file: `${files.name}/state.safetensors` },
      remedy: 'start the run again',
    });
  const state = new Map<string, Tensor>();
  for (const [name, entry] of tensors) state.set(name, { shape: entry.shape, values: await readTensor(files, entry) });
  return { step, state };
}

/** The step of the last state written; 0 where there is none. */
export async function readStateStep(files: Files): Promise<number> {
  if (!(await files.exists('state.safetensors'))) return 0;
  const step = Number((await openSafetensors(files, 'state.safetensors')).metadata.step);
  return Number.isInteger(step) ? step : 0;
}

/** One line of the log. */
export interface LogLine {
  readonly step: number;
  readonly [figure: string]: number;
}

/** The log of a run, cut back to the step that a resumed run continues from, and how to append to it. */
export async function openLog(
  directory: string,
  files: Required<Files>,
  step: number,
): Promise<{ lines: LogLine[]; append(line: LogLine): Promise<void> }> {
  const text = (await files.exists('log.jsonl')) ? new TextDecoder().decode(await files.read('log.jsonl')) : '';
  const lines = text
    .split('\n')
    .flatMap((line) => parseLine(line))
    .filter((line) => line.step <= step);
  await files.write('log.jsonl', new TextEncoder().encode(lines.map(toLine).join('')));
  const append = async (line: LogLine): Promise<void> => {
    lines.push(line);
    await appendFile(join(directory, 'log.jsonl'), toLine(line)).catch((cause) =>
      Promise.reject(asError(directory, 'log.jsonl', cause)),
    );
  };
  return { lines, append };
}

const toLine = (line: LogLine): string => `${JSON.stringify(line)}\n`;

/** A line that a crash cut short is dropped: the step it was about is run again. */
function parseLine(line: string): LogLine[] {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && Number.isInteger((value as LogLine).step) ? [value as LogLine] : [];
  } catch {
    return [];
  }
}
