#!/usr/bin/env node
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const packageFolder = join(dirname(fileURLToPath(import.meta.url)), '..');
const { main } = await import('../dist/cli/main.js').catch((error) => {
  if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
  process.stderr.write(`sotto: the package is not built (${error.message}) — run \`npm run build\` in ${packageFolder}\n`);
  process.exit(1);
});
const { patientWriter } = await import('../dist/cli/lines.js');
// npx hands on no signal that it alone is given: what it started ends with it, as if it had been told itself.
if (process.env.npm_command === 'exec') {
  const starter = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === starter) return;
    clearInterval(watch);
    process.kill(process.pid, 'SIGTERM');
  }, 500).unref();
}
const errors = patientWriter(process.stderr);
// A reader that has seen enough (`sotto … | head`) is no failure; a result that has no place to go is one.
process.stdout.on('error', (error) => {
  if (error.code === 'EPIPE') process.exit(0);
  const line = `sotto: the results cannot be written to the standard output (${error.code}) — give it a place with room, or a pipe\n`;
  process.stderr.write(line, () => process.exit(8));
});
process.exitCode = await main(process.argv.slice(2), {
  out: (text) => void process.stdout.write(text),
  error: errors.write,
  lostLines: errors.lost,
  outIsTerminal: process.stdout.isTTY === true,
  errorIsTerminal: process.stderr.isTTY === true,
  columns: process.stdout.columns ?? process.stderr.columns ?? 100,
  now: () => performance.now(),
  environment: process.env,
  onInterrupt: (handler) => {
    process.once('SIGINT', handler);
    return () => process.off('SIGINT', handler);
  },
  packageFolder,
  workingFolder: () => process.cwd(),
});
// A log that nobody reads does not keep the process; whoever reads the results may take his time.
setTimeout(() => {
  if (process.stderr.writableLength > 0 && process.stdout.writableLength === 0) process.exit();
}, 1000).unref();
