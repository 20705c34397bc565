// A standing party as a process: the commands `serve`, `dealer` and `helper`, with the words that follow.
import { Command } from 'commander';
import { registerServe } from '../../src/cli/serve.ts';
import { terminalOver } from '../../src/cli/terminal.ts';

const terminal = terminalOver({
  out: (text: string) => void process.stdout.write(text),
  error: (text: string) => void process.stderr.write(text),
  outIsTerminal: false,
  errorIsTerminal: false,
  columns: 100,
  now: () => performance.now(),
  environment: process.env,
  onInterrupt: () => () => {},
  packageFolder: new URL('../..', import.meta.url).pathname,
});
const program = new Command('sotto');
registerServe(program, terminal);
await program.parseAsync(process.argv.slice(2), { from: 'user' });
