import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

/**
 * Of these folders no test changes what its process or its modules share: their files take turns in one, and load the sources once. Those of
 * memory.test.ts look at the memory of their process.
 */
const sharing = [
  ...['augment', 'backends', 'convert', 'data', 'formats', 'goldens', 'kernels', 'lattice'],
  ...['math', 'models', 'mpc', 'net', 'program', 'ring'],
].map((folder) => `test/${folder}/**/!(memory).test.ts`);

export default defineConfig({
  // Processes and threads of tests start from the compiled package.
  resolve: {
    alias: [{ find: /^\.[\w./-]*\/own-module\.ts$/, replacement: fileURLToPath(new URL('test/built.ts', import.meta.url)) }],
  },
  test: {
    globalSetup: ['test/build.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    projects: [
      { extends: true, test: { name: 'sharing', include: sharing, isolate: false } },
      { extends: true, test: { name: 'apart', include: ['test/**/*.test.ts'], exclude: sharing } },
    ],
  },
});
