import { fileURLToPath } from 'node:url';
import { inject } from 'vitest';
import type { OwnModule } from '../src/node/own-module.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** What the compiler said where the sources do not build; tests of the built command then fail with it. */
    buildFailure: string;
  }
}

/**
 * Stands in for `src/node/own-module.ts` in tests (vitest.config.ts): processes and threads start from the compiled package, which is built
 * before tests where sources are newer. A start from sources, through their loader, takes four times the work.
 */
export function ownModule(from: string, name: string): OwnModule {
  return { path: builtFile(fileURLToPath(new URL(`./${name}.js`, from))) };
}

export const processFlags = (): string[] => [];

const root = fileURLToPath(new URL('..', import.meta.url));

function checkBuilt(): void {
  const failure = inject('buildFailure');
  if (failure !== '') throw new Error(`the sources do not build:\n${failure}`);
}

/** The compiled file of a source of the package, both by their paths. */
export function builtFile(source: string): string {
  checkBuilt();
  return source.replace(`${root}src/`, `${root}dist/`).replace(/\.ts$/, '.js');
}

/** The command as it is installed. */
export function builtCommand(): string {
  checkBuilt();
  return `${root}bin/sotto.js`;
}
