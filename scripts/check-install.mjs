// `npm run check:install`: packs the package, installs it in an empty project with nothing but the npm registry, and uses it there as a stranger would:
// a text in the clear without ONNX Runtime, the same between three processes, the library, and what is in the folder. Skips, and says so, where no
// registry answers. Limits: 20 MB installed (optional peers apart), no build state in the tarball.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { registryAnswers } from './registry.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const mostBytes = 20_000_000;

function run(folder, command, ...parameters) {
  const { status, stdout, stderr } = spawnSync(command, parameters, { cwd: folder, encoding: 'utf8', timeout: 600_000 });
  if (status !== 0) throw new Error(`${command} ${parameters.join(' ')} gave ${status}\n${stdout}\n${stderr}`);
  return stdout;
}

function sizeOf(folder) {
  let bytes = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true }))
    if (entry.isFile()) bytes += statSync(join(entry.parentPath ?? entry.path, entry.name)).size;
  return bytes;
}

function expect(holds, what) {
  if (!holds) throw new Error(`${what}: not so`);
  console.log(`  ${what}`);
}

if (!registryAnswers()) {
  console.log('SKIPPED: no npm registry answers here, so that nothing can be installed');
  process.exit(0);
}
console.log(`  Node ${process.version}`);
const work = mkdtempSync(join(tmpdir(), 'sotto-install-'));
try {
  const [{ filename, files }] = JSON.parse(run(root, 'npm', 'pack', '--json', '--ignore-scripts', '--pack-destination', work));
  const names = files.map(({ path }) => path);
  expect(!names.some((name) => name.endsWith('.tsbuildinfo')), 'the tarball holds no build state');
  for (const name of ['docs/threat-model.md', 'LICENSE', 'SECURITY.md', 'CHANGELOG.md', 'README.md'])
    expect(names.includes(name), `the tarball holds ${name}`);
  const project = join(work, 'project');
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{ "name": "stranger", "version": "1.0.0", "type": "module" }\n');
  run(project, 'npm', 'install', '--no-audit', '--no-fund', join(work, filename));
  const bytes = sizeOf(join(project, 'node_modules'));
  expect(bytes <= mostBytes, `${(bytes / 1e6).toFixed(1)} MB are installed, at most ${mostBytes / 1e6}`);
  const installed = readdirSync(join(project, 'node_modules'));
  expect(!installed.includes('onnxruntime-node') && !installed.includes('sharp'), 'no optional peer is installed');
  const model = join(project, 'node_modules/sotto/artefacts/stories-polynomial');
  const generate = (...more) =>
    JSON.parse(
      run(project, 'npx', 'sotto', 'generate', '--model', model, '--prompt', 'Once', '--max-new-tokens', '4', '--json', ...more),
    );
  const clear = generate();
  expect(clear.text.startsWith('Once'), 'a text is written in the clear without ONNX Runtime');
  expect(generate('--backend', 'mpc').text === clear.text, 'the same text is written between three processes');
  const onnx = spawnSync('npx', ['sotto', 'generate', '--model', model, '--prompt', 'Once', '--backend', 'onnx'], {
    cwd: project,
    encoding: 'utf8',
  });
  expect(onnx.status === 2 && /npm install onnxruntime-node/.test(onnx.stderr), '--backend onnx says how to get it (exit 2)');
  const used = `
    import { loadModel } from 'sotto';
    const model = await loadModel(${JSON.stringify(model)});
    const story = await model.generatePrivately('Once', { newTokens: 2 });
    console.log(story.online.hops);`;
  expect(Number(run(project, process.execPath, '--input-type=module', '--eval', used)) > 0, 'the library writes privately');
  // Every entry point compiles in a strict project without the DOM's types, declarations checked too; Node's are what any
  // project on Node has.
  const entries = Object.keys(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).exports).filter(
    (name) => !name.endsWith('.json'),
  );
  const imports = entries.map((name, place) => `export * as entry${place} from 'sotto${name.slice(1)}';\n`);
  writeFileSync(join(project, 'strict.ts'), imports.join(''));
  const compilerOptions = {
    ...{ strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, skipLibCheck: false },
    ...{ lib: ['es2023'], types: [], target: 'es2023', module: 'nodenext', noEmit: true },
  };
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['strict.ts'] }));
  run(project, 'npm', 'install', '--no-audit', '--no-fund', '--save-dev', '@types/node@20');
  run(project, process.execPath, join(root, 'node_modules/typescript/bin/tsc'), '-p', project);
  expect(entries.length > 10, `${entries.length} entry points compile strictly without the DOM's types`);
} finally {
  rmSync(work, { recursive: true, force: true });
}
