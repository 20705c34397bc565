import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { SottoError } from '../errors/index.ts';
import { registerCalibrate } from './calibrate.ts';
import { registerCertificates } from './certificates.ts';
import { registerClassify } from './classify.ts';
import { registerConvert } from './convert.ts';
import { registerCost } from './cost.ts';
import { registerDemo } from './demo.ts';
import { registerEval } from './eval.ts';
import { exitCodeHelp, report } from './exit.ts';
import { registerGenerate } from './generate.ts';
import { registerInspect } from './inspect.ts';
import { registerParty } from './party.ts';
import { registerPull } from './pull.ts';
import { registerServe } from './serve.ts';
import { type Surroundings, type Terminal, terminalOver } from './terminal.ts';
import { registerTrain } from './train.ts';

const overview = `
Examples:
  $ sotto demo                  # a private text between three processes
  $ sotto pull OWNER/NAME       # fetch a checkpoint from the hub
  $ sotto generate --model stories-teacher --prompt "Once upon a time"    # in the clear
  $ sotto generate --model stories-polynomial --prompt "Once" --backend mpc --max-new-tokens 16
  $ sotto cost --shape bert-base --plan full-p8 --prompt-tokens 128 --network wan

${exitCodeHelp}
`;

/** The whole command line, not yet parsed. Errors are thrown, output goes to the terminal given. */
export function commandLine(terminal: Terminal): Command {
  const { version } = JSON.parse(readFileSync(join(terminal.packageFolder, 'package.json'), 'utf8')) as { version: string };
  const program = new Command('sotto')
    .description('Private inference for transformers: polynomial models under secure multi-party computation.')
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: terminal.out,
      writeErr: terminal.error,
      outputError: () => undefined,
      getOutHelpWidth: () => terminal.columns,
      getErrHelpWidth: () => terminal.columns,
    })
    .showSuggestionAfterError()
    .addHelpText('after', overview)
    .hook('preAction', () => checkWorkingFolder(terminal));
  registerGenerate(program, terminal);
  registerClassify(program, terminal);
  registerCost(program, terminal);
  registerConvert(program, terminal);
  registerCalibrate(program, terminal);
  registerTrain(program, terminal);
  registerEval(program, terminal);
  registerPull(program, terminal);
  registerInspect(program, terminal);
  registerDemo(program, terminal);
  registerServe(program, terminal);
  registerParty(program, terminal);
  registerCertificates(program, terminal);
  return program;
}

/** Node's own modules, and every relative path, need a folder to begin in. */
function checkWorkingFolder(terminal: Terminal): void {
  try {
    terminal.workingFolder();
  } catch (cause) {
    throw new SottoError('resource', 'the working folder has been removed, or this user may not enter it', {
      remedy: 'change to a folder that exists',
      cause,
    });
  }
}

/** Runs one command; `words` are those after the program's name. Gives the exit code. */
export async function main(words: readonly string[], surroundings: Surroundings): Promise<number> {
  const terminal = terminalOver(surroundings);
  const json = words.includes('--json');
  try {
    if (words.length === 0) throw new CommanderError(2, 'sotto.noCommand', 'no command was given');
    await commandLine(terminal).parseAsync([...words], { from: 'user' });
    return 0;
  } catch (error) {
    return report(error, terminal, json);
  }
}
