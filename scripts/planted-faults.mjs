// `node scripts/planted-faults.mjs [PART OF A NAME]`: plants each fault of planted-faults.json, faults that were mended once, and runs the tests that
// must fail with it. A fault that no test catches, or whose place is gone, ends this with 1. Sources are put back, also after Ctrl-C; the compiled
// package stays as it is, so that the faults are in what tests load from sources.
import { spawnSync } from 'node:child_process';
import { readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const wanted = process.argv[2] ?? '';
const faults = JSON.parse(readFileSync(join(root, 'scripts/planted-faults.json'), 'utf8'));

function plant({ file, from, to }) {
  const path = join(root, file);
  const sound = readFileSync(path, 'utf8');
  const { atime, mtime } = statSync(path);
  if (sound.split(from).length !== 2) throw new Error(`${file} does not hold the place once: name it anew`);
  const write = (text) => {
    writeFileSync(path, text);
    // Tests build the package where sources are newer.
    utimesSync(path, atime, mtime);
  };
  write(sound.replace(from, () => to));
  return () => write(sound);
}

/** Names of the tests that failed, of those that ran. */
function failed(tests) {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const { stdout, stderr } = spawnSync(process.execPath, [vitest, 'run', '--reporter=json', ...tests], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  const begin = stdout.indexOf('{"num');
  if (begin < 0) throw new Error(`no tests ran: ${stderr.slice(-2000)}`);
  const { testResults } = JSON.parse(stdout.slice(begin));
  const names = testResults.flatMap(({ assertionResults }) =>
    assertionResults.filter(({ status }) => status === 'failed').map(({ title }) => title),
  );
  // A file that does not even load has no tests.
  return names.length > 0 ? names : testResults.filter(({ status }) => status === 'failed').map(({ message }) => message);
}

let missed = 0;
for (const fault of faults.filter(({ name }) => name.includes(wanted))) {
  const restore = plant(fault);
  // A signal of the terminal reaches the tests too: they end, and what is planted goes.
  const nothing = () => undefined;
  process.on('SIGINT', nothing);
  let names;
  try {
    names = failed(fault.tests);
  } finally {
    restore();
    process.off('SIGINT', nothing);
  }
  if (names.length === 0) missed++;
  console.log(
    `${names.length === 0 ? 'MISSED' : 'caught'}  ${fault.name} (${fault.mended})${names.length === 0 ? '' : `: ${names[0]}`}`,
  );
}
if (missed > 0) {
  console.error(`${missed} faults were not caught`);
  process.exit(1);
}
