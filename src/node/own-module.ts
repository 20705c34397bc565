import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** A module of this package that a process or a thread is started with. */
export interface OwnModule {
  /** Of its file. */
  readonly path: string;
  /** What registers the loader that a source needs: for `--import` of a process, and for a thread to import and call; absent where it is compiled. */
  readonly loader?: { readonly process: string; readonly thread: string };
}

/** The module that lies beside `from` (an `import.meta.url`), by its name without extension: compiled, or a source where `from` is one. */
export function ownModule(from: string, name: string): OwnModule {
  const source = from.endsWith('.ts');
  const path = fileURLToPath(new URL(`./${name}.${source ? 'ts' : 'js'}`, from));
  if (!source) return { path };
  const loader = pathToFileURL(createRequire(from).resolve('tsx')).href;
  return { path, loader: { process: loader, thread: new URL('./esm/api/index.mjs', loader).href } };
}

/** What Node is given before a module's path to start it as a process. */
export const processFlags = ({ loader }: OwnModule): string[] => (loader === undefined ? [] : ['--import', loader.process]);
