import { Worker } from 'node:worker_threads';
import { SottoError } from '../errors/index.ts';
import type { ProductSize } from '../kernels/checks.ts';
import type { RingKernels, WordBits } from '../kernels/contract.ts';
import { WasmKernels, type WasmOptions } from '../kernels/wasm/kernels.ts';

/** How many threads, and how much memory of them all. */
export interface ParallelOptions extends WasmOptions {
  /** Threads that compute, the calling one included. */
  readonly workers: number;
}
/** Kernels that share their work among threads. */
export type ParallelKernels = RingKernels & {
  /** Ends the threads; nothing may be computed afterwards. */
  close(): Promise<void>;
};

/** Words of the control area that all threads share. */
const WAKE = 0;
const CLAIM = 1;
const DONE = 2;
const EXIT = 3;
const TASKS_AT = 16;
const TASK_WORDS = 16;
/** One less than 8 bits hold, because the calling thread raises the claim once past the end. */
const MOST_TASKS = 254;
const PRODUCT = 1;
const ROTATED = 2;
/** A claim holds a job's number (15 bits), how many tasks it has (8 bits) and which one is next (8 bits). */
const JOBS = 2 ** 15;

/** Below this many products, waking a thread costs more than it saves. */
const INLINE_PRODUCTS = 2 ** 20;
/** Tasks have at least this many products, and each thread finds about this many, so that a slow thread does not hold up the rest. */
const TASK_PRODUCTS = 2 ** 18;
const TASKS_PER_THREAD = 3;
const FEW_ROWS = 6;
/** A worker that has not finished a task after this long is gone. */
const PATIENCE_MS = 60_000;

/**
 * The worker, as text, so that it starts the same way from sources and from the compiled package. It takes tasks of the current job by
 * raising the claim, which fails when another thread was faster or the job is over; then it sleeps until the next job.
 */
const workerSource = `
const { parentPort, workerData } = require('node:worker_threads');
const { module, memory, control, scratch } = workerData;
const { product, rotatedInner } = new WebAssembly.Instance(module, { env: { memory } }).exports;
const state = new Int32Array(control);
parentPort.postMessage('ready');
while (Atomics.load(state, ${EXIT}) === 0) {
  const wake = Atomics.load(state, ${WAKE});
  for (;;) {
    const claim = Atomics.load(state, ${CLAIM});
    const next = claim & 255;
    const count = (claim >>> 8) & 255;
    if (next >= count) break;
    if (Atomics.compareExchange(state, ${CLAIM}, claim, claim + 1) !== claim) continue;
    const t = ${TASKS_AT} + next * ${TASK_WORDS};
    if (state[t] === ${PRODUCT}) product(...state.subarray(t + 1, t + 15), scratch);
    else rotatedInner(...state.subarray(t + 1, t + 7));
    if (Atomics.add(state, ${DONE}, 1) + 1 === count) Atomics.notify(state, ${DONE});
  }
  Atomics.wait(state, ${WAKE}, wake);
}
`;

type Task = readonly number[];

/** The kernels over one memory shared with worker threads. Calls stay synchronous: the calling thread computes too and then waits. */
class ThreadedKernels extends WasmKernels implements ParallelKernels {
  readonly #threads: number;
  readonly #state = new Int32Array(new SharedArrayBuffer(4 * (TASKS_AT + MOST_TASKS * TASK_WORDS)));
  #workers: Worker[] = [];
  #job = 0;

  constructor(wordBits: WordBits, options: ParallelOptions) {
    super(wordBits, { ...options, threads: options.workers });
    this.#threads = options.workers;
  }

  /** Starts the other threads; resolves when all of them listen. */
  async start(): Promise<void> {
    for (let i = 1; i < this.#threads; i++) {
      const scratch = this.scratchAt + i * this.scratchBytes;
      const workerData = { module: this.module, memory: this.memory, control: this.#state.buffer, scratch };
      this.#workers.push(new Worker(workerSource, { eval: true, workerData, execArgv: [] }));
    }
    try {
      await Promise.all(
        this.#workers.map((worker) => new Promise((ready, fail) => worker.once('message', ready).once('error', fail))),
      );
    } catch (cause) {
      await this.close();
      throw new SottoError('resource', 'a kernel worker did not start', { remedy: 'use fewer workers', cause });
    }
    // An idle worker must not keep the process alive.
    for (const worker of this.#workers) worker.unref();
  }

  /** Ends the workers. The kernels still work afterwards, on the calling thread alone. */
  async close(): Promise<void> {
    const workers = this.#workers;
    this.#workers = [];
    Atomics.store(this.#state, EXIT, 1);
    Atomics.add(this.#state, WAKE, 1);
    Atomics.notify(this.#state, WAKE);
    await Promise.all(workers.map((worker) => worker.terminate()));
  }

  protected override product(out: number, a: number, b: number, size: ProductSize, accumulate: boolean): void {
    const products = size.batch * size.m * size.k * size.n;
    // A product with few rows only streams b: long runs of columns suit the memory better than many tasks.
    const parts = size.m < FEW_ROWS ? Math.min(this.#threads, this.#parts(products)) : this.#parts(products);
    if (parts === 1) super.product(out, a, b, size, accumulate);
    else this.#run(productTasks(out, a, b, size, accumulate, parts, this.wordBytes));
  }

  protected override rotated(out: number, vectors: number, table: number, delta: number, rows: number, n: number): void {
    const parts = Math.min(rows, this.#parts(rows * n));
    if (parts <= 1) {
      super.rotated(out, vectors, table, delta, rows, n);
      return;
    }
    const each = Math.ceil(rows / parts);
    const tasks: Task[] = [];
    for (let r = 0; r < rows; r += each) {
      const at = r * this.wordBytes;
      tasks.push([ROTATED, out + at, vectors + at * n, table, delta + at, Math.min(each, rows - r), n]);
    }
    this.#run(tasks);
  }

  #parts(products: number): number {
    if (this.#workers.length === 0 || products < INLINE_PRODUCTS) return 1;
    return Math.min(this.#threads * TASKS_PER_THREAD, Math.floor(products / TASK_PRODUCTS), MOST_TASKS);
  }

  #run(tasks: readonly Task[]): void {
    const state = this.#state;
    const count = tasks.length;
    for (let t = 0; t < count; t++) state.set(tasks[t]!, TASKS_AT + t * TASK_WORDS);
    this.#job = (this.#job + 1) % JOBS;
    Atomics.store(state, DONE, 0);
    Atomics.store(state, CLAIM, (this.#job << 16) | (count << 8));
    Atomics.add(state, WAKE, 1);
    Atomics.notify(state, WAKE, count - 1);
    for (let next = Atomics.add(state, CLAIM, 1) & 255; next < count; next = Atomics.add(state, CLAIM, 1) & 255) {
      this.#runTask(tasks[next]!);
      Atomics.add(state, DONE, 1);
    }
    for (let done = Atomics.load(state, DONE); done < count; done = Atomics.load(state, DONE)) {
      if (Atomics.wait(state, DONE, done, PATIENCE_MS) === 'timed-out' && Atomics.load(state, DONE) === done) {
        throw new SottoError('resource', `a kernel worker has not answered for ${PATIENCE_MS} ms`, {
          remedy: 'start the process again',
        });
      }
    }
  }

  #runTask([kind, ...words]: Task): void {
    const { product, rotatedInner } = this.run as unknown as Record<string, (...words: number[]) => void>;
    if (kind === PRODUCT) product!(...words, this.scratchAt);
    else rotatedInner!(...words);
  }
}

/** Cuts a product into about `parts` tasks: whole matrices where there are enough of them, else ranges of columns or rows. */
function productTasks(
  out: number,
  a: number,
  b: number,
  { batch, m, k, n }: ProductSize,
  accumulate: boolean,
  parts: number,
  wordBytes: number,
): Task[] {
  const task = (first: number, matrices: number, i: number, rows: number, j: number, columns: number): Task => {
    const toOut = out + (first * m * n + i * n + j) * wordBytes;
    const fromA = a + (first * m * k + i * k) * wordBytes;
    const fromB = b + (first * k * n + j) * wordBytes;
    return [PRODUCT, toOut, fromA, fromB, matrices, rows, k, columns, k, n, n, m * k, k * n, m * n, accumulate ? 1 : 0];
  };
  const tasks: Task[] = [];
  const matrices = Math.ceil(batch / parts);
  const cuts = Math.max(1, Math.floor(parts / batch));
  // Multiples of 16 rows or columns keep every task on whole tiles and above the sizes that are worth packing.
  const byColumns = n >= m;
  const step = Math.ceil((byColumns ? n : m) / cuts / 16) * 16;
  for (let first = 0; first < batch; first += matrices) {
    const count = Math.min(matrices, batch - first);
    if (byColumns) for (let j = 0; j < n; j += step) tasks.push(task(first, count, 0, m, j, Math.min(step, n - j)));
    else for (let i = 0; i < m; i += step) tasks.push(task(first, count, i, Math.min(step, m - i), 0, n));
  }
  return tasks;
}

/**
 * Kernels that split large products over `workers` threads (the caller's included) of this process. `bytes()` are views of a
 * SharedArrayBuffer, which Node's own APIs accept.
 */
export async function createParallelKernels(wordBits: WordBits, options: ParallelOptions): Promise<ParallelKernels> {
  if (!Number.isInteger(options.workers) || options.workers < 1 || options.workers > 64) {
    throw new SottoError('usage', `${options.workers} workers`, { remedy: 'pass a whole number from 1 to 64' });
  }
  const kernels = new ThreadedKernels(wordBits, options);
  await kernels.start();
  return kernels;
}
