import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  // Processes and threads of tests start from the compiled package.
  resolve: {
    alias: [{ find: /^\.[\w./-]*\/own-module\.ts$/, replacement: fileURLToPath(new URL('test/built.ts', import.meta.url)) }],
  },
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/build.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
