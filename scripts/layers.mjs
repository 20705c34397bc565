// The layers of src/, in order: a folder may import only those that its line names. `node scripts/layers.mjs` writes the
// tsconfig.json of every layer from this list; the compiler (`tsc -b`) then enforces it.
import { writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const portable = 'portable';
const node = 'node';
const page = 'page';
export const layers = [
  ['errors', portable, []],
  ['math', portable, ['errors']],
  ['kernels', portable, ['errors', 'math']],
  ['kernels/lattice', portable, ['errors', 'math', 'kernels']],
  ['lattice', portable, ['errors', 'math', 'kernels', 'kernels/lattice']],
  ['program', portable, ['errors']],
  ['backends/reference', portable, ['errors', 'math', 'program']],
  ['backends/onnx', portable, ['errors', 'program']],
  ['backends/ring', portable, ['errors', 'math', 'kernels', 'program']],
  ['net', portable, ['errors']],
  ['backends/cost', portable, ['errors', 'math', 'program', 'backends/ring', 'net']],
  ['backends/fixed', portable, ['errors', 'math', 'kernels', 'program', 'backends/ring']],
  ['backends/mpc', portable, ['errors', 'math', 'kernels', 'program', 'backends/ring', 'backends/cost', 'net']],
  ['pictures', portable, ['errors']],
  ['models', portable, ['errors', 'math', 'program', 'backends/ring', 'pictures']],
  [
    'jobs',
    portable,
    ['errors', 'kernels', 'program', 'backends/ring', 'backends/cost', 'backends/fixed', 'backends/mpc', 'models'],
  ],
  ['convert', portable, ['errors', 'math', 'program', 'backends/ring', 'models']],
  [
    'node',
    node,
    ['errors', 'math', 'kernels', 'kernels/lattice', 'program', 'backends/onnx', 'backends/reference', 'net', 'models'],
  ],
  ['evaluate', node, ['errors', 'math', 'program', 'models', 'jobs', 'node']],
  // What is measured and learnt with, and no party of a run needs: benchmark tasks, readers of data sets, augmentation, plots.
  ['lab', node, ['errors', 'math', 'program', 'pictures', 'models', 'jobs', 'node', 'evaluate']],
  [
    'train',
    node,
    [
      'errors',
      'math',
      'program',
      'backends/onnx',
      'backends/reference',
      'pictures',
      'models',
      'jobs',
      'convert',
      'node',
      'evaluate',
      'lab',
    ],
  ],
  [
    'party',
    node,
    [
      'errors',
      'math',
      'kernels',
      'program',
      'backends/ring',
      'backends/cost',
      'backends/fixed',
      'backends/mpc',
      'net',
      'pictures',
      'models',
      'jobs',
      'convert',
      'node',
    ],
  ],
];

// The library and the command line may import everything above them.
for (const name of ['package', 'cli']) layers.push([name, node, layers.map(([other]) => other)]);
// What runs in a browser has its types and none of Node's. Of `party` it takes the client; the bundler refuses what needs Node.
const inBrowser = [
  'errors',
  'math',
  'kernels',
  'program',
  'backends/ring',
  'backends/cost',
  'backends/mpc',
  'net',
  'pictures',
  'models',
  'jobs',
  'party',
];
layers.push(['browser', page, inBrowser]);

const write = (path, value) => writeFileSync(join(root, path), `${JSON.stringify(value, null, 2)}\n`);
const nested = (name) => layers.map(([other]) => other).filter((other) => other.startsWith(`${name}/`));
for (const [name, kind, imports] of layers) {
  const here = `src/${name}`;
  const up = relative(join(root, here), root);
  write(`${here}/tsconfig.json`, {
    extends: `${up}/tsconfig.base.json`,
    compilerOptions: {
      rootDir: `${up}/src`,
      outDir: `${up}/dist`,
      tsBuildInfoFile: `${up}/dist/${name.replace('/', '-')}.tsbuildinfo`,
      ...(kind === node ? { types: ['node'] } : {}),
      ...(kind === page ? { lib: ['es2024', 'dom'] } : {}),
    },
    include: ['./**/*.ts', ...(kind === portable ? [`${up}/src/platform.d.ts`] : [])],
    exclude: ['./**/*.as.ts', ...nested(name).map((inner) => `./${inner.slice(name.length + 1)}`)],
    references: imports.map((other) => ({ path: `${relative(join(root, here), join(root, 'src', other))}` })),
  });
}
write('tsconfig.json', { files: [], references: layers.map(([name]) => ({ path: `src/${name}` })) });
