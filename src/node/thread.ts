import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { Worker, type WorkerOptions } from 'node:worker_threads';

/**
 * Starts a worker thread whose main module lies beside `from` (an `import.meta.url`), by its name without extension: compiled or, where `from` is a
 * source, through the loader that sources need.
 */
export function startThread(from: string, name: string, options: WorkerOptions): Worker {
  if (!from.endsWith('.ts')) return new Worker(new URL(`./${name}.js`, from), options);
  const loader = new URL('./esm/api/index.mjs', pathToFileURL(createRequire(from).resolve('tsx'))).href;
  const module = new URL(`./${name}.ts`, from).href;
  const source = `import(${JSON.stringify(loader)}).then(({ register }) => { register(); return import(${JSON.stringify(module)}); })`;
  return new Worker(source, { ...options, eval: true });
}
