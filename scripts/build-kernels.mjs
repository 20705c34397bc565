// Compiles the AssemblyScript kernels: those on ring words for both words, each for its own and for a shared memory, and those on lattices with and
// without a fused multiply-add. Writes the modules as base64 into a source file beside each group, so that they load the same way in
// Node, in browsers and in workers. A group is skipped while its sources are unchanged.
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const here = fileURLToPath(import.meta.url);
const kernels = join(dirname(here), '../src/kernels');
const sharing = ['--sharedMemory', '--enable', 'threads', '--initialMemory', '1', '--maximumMemory', '65535'];
const groups = [
  {
    folder: join(kernels, 'wasm'),
    entry: 'ring.as.ts',
    variants: [
      { name: 'ring32', flags: ['--use', 'Word=u32'] },
      { name: 'ring64', flags: ['--use', 'Word=u64'] },
      { name: 'ring32Shared', flags: ['--use', 'Word=u32', ...sharing] },
      { name: 'ring64Shared', flags: ['--use', 'Word=u64', ...sharing] },
    ],
  },
  {
    folder: join(kernels, 'lattice/wasm'),
    entry: 'lattice.as.ts',
    variants: [
      { name: 'fused', flags: ['--use', 'Fused=u64', '--enable', 'relaxed-simd'] },
      // Without the feature: a relaxed instruction that slipped in is an error of the build.
      { name: 'split', flags: ['--use', 'Fused=u32'] },
    ],
  },
];

async function compile(folder, entry, flags, outFile) {
  const { error, stderr } = await asc.main([
    join(folder, entry),
    ...['--baseDir', folder, '--outFile', outFile, '--use', 'abort=', '--runtime', 'stub'],
    ...['-O3', '--converge', '--noAssert', '--enable', 'simd', '--importMemory', ...flags],
  ]);
  if (error) throw new Error(`asc: ${stderr.toString() || error.message}`);
}

async function build({ folder, entry, variants }) {
  const target = join(folder, 'binary.generated.ts');
  const sources = readdirSync(folder)
    .filter((name) => name.endsWith('.as.ts'))
    .sort();
  const hash = createHash('sha256').update(readFileSync(here)).update(asc.version);
  for (const name of sources) hash.update(name).update(readFileSync(join(folder, name)));
  const stamp = `// sources: ${hash.digest('hex')}`;
  if (existsSync(target) && readFileSync(target, 'utf8').startsWith(stamp)) {
    console.log(`kernels: ${entry} unchanged`);
    return;
  }
  const temporary = mkdtempSync(join(tmpdir(), 'sotto-kernels-'));
  try {
    const lines = [];
    for (const { name, flags } of variants) {
      const outFile = join(temporary, `${name}.wasm`);
      await compile(folder, entry, flags, outFile);
      const bytes = readFileSync(outFile);
      lines.push(`  ${name}: '${bytes.toString('base64')}',`);
      console.log(`kernels: ${name} ${bytes.length} bytes`);
    }
    const text = `${stamp}\n// Written by scripts/build-kernels.mjs.\nexport const binaries = {\n${lines.join('\n')}\n};\n`;
    const next = `${target}.${process.pid}`;
    writeFileSync(next, text);
    renameSync(next, target);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

for (const group of groups) await build(group);
