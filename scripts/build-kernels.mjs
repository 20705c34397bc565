// Compiles the AssemblyScript kernels for both words, each for its own and for a shared memory, and writes the four modules as base64
// into a source file, so that they load the same way in Node, in browsers and in workers. Skipped while the sources are unchanged.
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const here = fileURLToPath(import.meta.url);
const folder = join(dirname(here), '../src/kernels/wasm');
const target = join(folder, 'binary.generated.ts');
const variants = [
  { name: 'ring32', word: 'u32', shared: false },
  { name: 'ring64', word: 'u64', shared: false },
  { name: 'ring32Shared', word: 'u32', shared: true },
  { name: 'ring64Shared', word: 'u64', shared: true },
];

const sources = readdirSync(folder)
  .filter((name) => name.endsWith('.as.ts'))
  .sort();
const hash = createHash('sha256').update(readFileSync(here)).update(asc.version);
for (const name of sources) hash.update(name).update(readFileSync(join(folder, name)));
const stamp = `// sources: ${hash.digest('hex')}`;

async function compile({ word, shared }, outFile) {
  const sharing = shared ? ['--sharedMemory', '--enable', 'threads', '--initialMemory', '1', '--maximumMemory', '65535'] : [];
  const { error, stderr } = await asc.main([
    join(folder, 'ring.as.ts'),
    ...['--baseDir', folder, '--outFile', outFile, '--use', `Word=${word}`, '--use', 'abort=', '--runtime', 'stub'],
    ...['-O3', '--converge', '--noAssert', '--enable', 'simd', '--importMemory', ...sharing],
  ]);
  if (error) throw new Error(`asc: ${stderr.toString() || error.message}`);
}

if (existsSync(target) && readFileSync(target, 'utf8').startsWith(stamp)) {
  console.log('kernels: unchanged');
} else {
  const temporary = mkdtempSync(join(tmpdir(), 'sotto-kernels-'));
  try {
    const lines = [];
    for (const variant of variants) {
      const outFile = join(temporary, `${variant.name}.wasm`);
      await compile(variant, outFile);
      const bytes = readFileSync(outFile);
      lines.push(`  ${variant.name}: '${bytes.toString('base64')}',`);
      console.log(`kernels: ${variant.name} ${bytes.length} bytes`);
    }
    const text = `${stamp}\n// Written by scripts/build-kernels.mjs.\nexport const binaries = {\n${lines.join('\n')}\n};\n`;
    const next = `${target}.${process.pid}`;
    writeFileSync(next, text);
    renameSync(next, target);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}
