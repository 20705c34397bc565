import { pathToFileURL } from 'node:url';
import { Worker, type WorkerOptions } from 'node:worker_threads';
import { ownModule } from './own-module.ts';

/** Starts a worker thread whose main module lies beside `from` (an `import.meta.url`), by its name without extension. */
export function startThread(from: string, name: string, options: WorkerOptions): Worker {
  const { path, loader } = ownModule(from, name);
  if (loader === undefined) return new Worker(path, options);
  const module = JSON.stringify(pathToFileURL(path).href);
  const source = `import(${JSON.stringify(loader.thread)}).then(({ register }) => { register(); return import(${module}); })`;
  return new Worker(source, { ...options, eval: true });
}
