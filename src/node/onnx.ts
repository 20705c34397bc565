import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import { inputName, outputName, toOnnx } from '../backends/onnx/index.ts';
import { SottoError } from '../errors/index.ts';
import type { Element, Executable, Feed, NodeOf, Program, Step, SteppingBackend, Tensor } from '../program/index.ts';
import { same, trace } from '../program/index.ts';
import type { Envelope, Parcel, Reply, Request, Signature } from './onnx-worker.ts';
import { serve } from './onnx-worker.ts';

/** Where ONNX Runtime computes: its execution providers, those that a machine may have. */
export const devices = ['cpu', 'cuda', 'webgpu'] as const;
export type Device = (typeof devices)[number];

/** How much ONNX Runtime may rewrite a graph. From `basic` on it merges equal nodes, which undoes recomputation on purpose. */
export type Optimisation = 'disabled' | 'basic' | 'extended' | 'all';

/** How ONNX Runtime computes. */
export interface OnnxOptions {
  /** Execution providers in order of preference; `['cpu']` by default. */
  readonly providers?: readonly string[];
  /** Threads inside one operator; 1 by default. */
  readonly threads?: number;
  /** `'all'` by default. */
  readonly optimisation?: Optimisation;
  /**
   * How bound tensors are held by `compile`: `'shared'` (default) keeps one copy for all programs; `'packed'` gives each program a copy
   * in the layout that its products want, which makes single rows (decoding) about twice as fast and long inputs no faster.
   */
  readonly weights?: 'shared' | 'packed';
  /** Writes a profile of every run next to this path when a session is closed. */
  readonly profile?: string;
}

export interface OnnxBackend extends SteppingBackend {
  /** Throws a `usage` error where the machine lacks a provider; the first compilation does the same. */
  ready(): Promise<void>;
  /** Ends the worker; executables of this backend are dead afterwards. */
  close(): Promise<void>;
}

/**
 * ONNX Runtime in a worker thread, float32. Bound tensors are sent once however many programs share them (they are told apart by
 * their `values` array, which must not change afterwards). Errors: `usage` for a provider that is not there, `input` for feeds that
 * do not fit, `resource` where the runtime fails.
 */
/**
 * Where ONNX Runtime is installed beside sotto, which does not bring it: it is fast in the clear, and no party of a private run needs it. Undefined
 * where it is not.
 */
export function onnxRuntime(): string | undefined {
  try {
    return createRequire(import.meta.url).resolve('onnxruntime-node');
  } catch {
    return undefined;
  }
}

/** Throws a `usage` error where ONNX Runtime is not installed. */
export function onnxBackend(options: OnnxOptions = {}): OnnxBackend {
  if (onnxRuntime() === undefined)
    throw new SottoError('usage', 'ONNX Runtime is not installed', {
      place: { field: 'backend' },
      remedy:
        'ONNXRUNTIME_NODE_INSTALL=skip npm install onnxruntime-node@1.30, or compute with the backend `reference` where there is a choice',
    });

  const thread = new Thread();
  const tensors = new HeldTensors(thread);
  let sessions = 0;
  let checked: Promise<void> | undefined;
  const ready = (): Promise<void> => (checked ??= checkProviders(thread, options));
  const compile = async (
    program: Program,
    bound: ReadonlyMap<string, Feed>,
    state: ReadonlyMap<string, Tensor>,
  ): Promise<Session> => {
    await ready();
    const session = new Session(thread, tensors, sessions++, program);
    await session.create(options, bound, state);
    return session;
  };
  return {
    name: 'onnx',
    async compile(program, bound): Promise<Executable> {
      return compile(program, bound, new Map());
    },
    async compileStep(program, { state, bound = new Map() }): Promise<Step> {
      return compile(program, bound, state);
    },
    ready,
    close: () => thread.close(),
  };
}

function sessionOptions({ providers = ['cpu'], threads = 1, optimisation = 'all', profile }: OnnxOptions) {
  return {
    executionProviders: [...providers],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: optimisation,
    logSeverityLevel: 4 as const,
    // Powers of small numbers fall below float32's normal range, where a processor takes a hundred times as long.
    extra: { session: { set_denormal_as_zero: '1' } },
    ...(profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: profile }),
  };
}

/**
 * Makes sure that the machine has the providers. What ONNX Runtime lists may lack its libraries or a device, so a session is tried;
 * where one fails, all are, and the error names those that there are.
 */
async function checkProviders(thread: Thread, options: OnnxOptions): Promise<void> {
  const { providers = ['cpu'] } = options;
  if (providers.every((name) => name === 'cpu')) return;
  const reply = await thread.ask({ kind: 'providers' });
  const listed = 'providers' in reply ? reply.providers : [];
  const attempt = async (name: string): Promise<string | undefined> => {
    if (!listed.includes(name)) return 'ONNX Runtime was built without it';
    if (name === 'cpu') return undefined;
    return await thread.ask({ kind: 'try', model: probe(), options: sessionOptions({ providers: [name] }) }).then(
      () => undefined,
      (error: SottoError) =>
        error.reason
          .split('\n')[0]!
          .replace(/^.* was false\. /, '')
          .slice(0, 300),
    );
  };
  for (const name of providers) {
    const problem = await attempt(name);
    if (problem === undefined) continue;
    const others: string[] = [];
    for (const other of listed) if (other !== name && (await attempt(other)) === undefined) others.push(other);
    throw new SottoError('usage', `this machine cannot compute on ${name}: ${problem}`, {
      place: { field: 'device' },
      remedy: `choose from what there is: ${others.join(', ')}`,
    });
  }
}

/** A program of one product, to see whether a provider works at all. */
const probe = (): Uint8Array =>
  toOnnx(
    trace((ops) => {
      const x = ops.input('x', [2, 2], 'public');
      return { y: ops.matmul(x, x) };
    }),
  );

type InputNode = NodeOf<'input'>;

/** A program inside the worker, with or without state. */
class Session implements Executable, Step {
  readonly #thread: Thread;
  readonly #tensors: HeldTensors;
  readonly #session: number;
  readonly #program: Program;
  readonly #inputs: ReadonlyMap<string, InputNode>;
  readonly #state = new Set<string>();
  readonly #held: number[] = [];
  #fed: readonly string[] = [];

  constructor(thread: Thread, tensors: HeldTensors, session: number, program: Program) {
    this.#thread = thread;
    this.#tensors = tensors;
    this.#session = session;
    this.#program = program;
    const inputs = program.nodes.filter((node): node is InputNode => node.operation === 'input');
    this.#inputs = new Map(inputs.map((node) => [node.parameters.name, node]));
  }

  async create(options: OnnxOptions, bound: ReadonlyMap<string, Feed>, state: ReadonlyMap<string, Tensor>): Promise<void> {
    const given = [...bound].filter(([name]) => this.#inputs.has(name));
    const inside = options.weights === 'packed' && state.size === 0 ? given : [];
    const model = toOnnx(this.#program, new Set(inside.map(([name]) => name)));
    const packed = inside.map(([name, tensor]) => this.#parcel(name, tensor));
    const resident = [...state].map(([name, tensor]) => {
      this.#state.add(name);
      const node = this.#input(name);
      const next = this.#program.outputs.get(`next/${name}`);
      if (next === undefined || !same(this.#program.nodes[next]!.shape, node.shape))
        throw new SottoError('model', `the state ${name} has no output next/${name} of shape [${node.shape}]`, {
          remedy: 'give the next value of every state input as an output of the same shape',
        });
      return { input: inputName(name), output: outputName(`next/${name}`), parcel: this.#parcel(name, tensor) };
    });
    const keys: [string, number][] = [];
    for (const [name, tensor] of inside.length > 0 ? [] : given) {
      const key = await this.#tensors.hold(tensor, typeOf(this.#input(name).element), () => this.#parcel(name, tensor));
      this.#held.push(key);
      keys.push([inputName(name), key]);
    }
    this.#fed = [...this.#inputs.keys()].filter((name) => !bound.has(name) && !state.has(name));
    const outputs = [...this.#program.outputs].map(([name, index]): Signature => {
      const { shape, element } = this.#program.nodes[index]!;
      return { name: outputName(name), shape, type: typeOf(element) };
    });
    const request: Request = {
      kind: 'create',
      session: this.#session,
      model,
      options: sessionOptions(options),
      bound: keys,
      packed,
      outputs,
      state: resident,
    };
    const moved = [model.buffer as ArrayBuffer, ...buffers(packed), ...buffers(resident.map(({ parcel }) => parcel))];
    await this.#thread.ask(request, moved);
  }

  async run(feeds: ReadonlyMap<string, Feed>, outputs?: readonly string[]): Promise<Map<string, Tensor>> {
    const parcels = this.#fed.map((name) => this.#parcel(name, feeds.get(name)));
    const wanted = outputs ?? [...this.#program.outputs.keys()].filter((name) => !this.#isNextState(name));
    for (const name of wanted)
      if (!this.#program.outputs.has(name) || this.#isNextState(name))
        throw new SottoError('input', `no output ${name} to fetch`, {
          remedy: 'name an output of the program; read state with readState',
        });
    const request: Request = { kind: 'run', session: this.#session, feeds: parcels, fetch: wanted.map(outputName) };
    const reply = await this.#thread.ask(request, buffers(parcels));
    return unpack(reply, outputName(''));
  }

  async readState(names: readonly string[] = [...this.#state]): Promise<Map<string, Tensor>> {
    for (const name of names) this.#stateInput(name);
    return unpack(await this.#thread.ask({ kind: 'read', session: this.#session, names: names.map(inputName) }), inputName(''));
  }

  async writeState(values: ReadonlyMap<string, Tensor>): Promise<void> {
    const parcels = [...values].map(([name, tensor]) => this.#parcel(this.#stateInput(name), tensor));
    await this.#thread.ask({ kind: 'write', session: this.#session, parcels }, buffers(parcels));
  }

  async close(): Promise<void> {
    await this.#thread.ask({ kind: 'release', session: this.#session });
    for (const key of this.#held.splice(0)) await this.#tensors.release(key);
  }

  #isNextState(output: string): boolean {
    return output.startsWith('next/') && this.#state.has(output.slice('next/'.length));
  }
  #stateInput(name: string): string {
    if (!this.#state.has(name))
      throw new SottoError('input', `${name} is no state of this program`, { remedy: 'name a state input' });
    return name;
  }
  #input(name: string): InputNode {
    const node = this.#inputs.get(name);
    if (node === undefined)
      throw new SottoError('input', 'the program has no such input', { place: { tensor: name }, remedy: 'check the name' });
    return node;
  }

  /** A tensor as float32 or int32 in a buffer of its own, which is then moved to the worker. */
  #parcel(name: string, tensor: Feed | undefined): Parcel {
    const { shape, element } = this.#input(name);
    const reason =
      tensor === undefined
        ? 'no value was fed'
        : same(tensor.shape, shape)
          ? undefined
          : `shape [${tensor.shape}] where [${shape}] is due`;
    if (reason !== undefined)
      throw new SottoError('input', reason, { place: { tensor: name }, remedy: 'feed every input with its shape' });
    const { values } = tensor!;
    const type = typeOf(element);
    return { name: inputName(name), type, shape, values: new arrays[type](values) };
  }
}

const types: Readonly<Record<Element, Parcel['type']>> = { float: 'float32', index: 'int32', byte: 'uint8' };
const typeOf = (element: Element): Parcel['type'] => types[element];
const arrays = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array } as const;
const buffers = (parcels: readonly Parcel[]): ArrayBuffer[] => parcels.map((parcel) => parcel.values.buffer as ArrayBuffer);

function unpack(reply: Reply, prefix: string): Map<string, Tensor> {
  const parcels = 'parcels' in reply ? reply.parcels : [];
  return new Map(
    parcels.map(({ name, shape, values }) => {
      const whole = values instanceof Uint8Array ? Int32Array.from(values) : values;
      return [name.slice(prefix.length), { shape, values: whole }];
    }),
  );
}

/** Bound tensors in the worker, counted by the sessions that use them. */
class HeldTensors {
  readonly #thread: Thread;
  /** By array, then by type and shape: two programs may read one array differently. */
  readonly #keys = new WeakMap<Feed['values'], Map<string, number>>();
  readonly #users = new Map<number, { forget: () => void; count: number }>();
  #next = 0;

  constructor(thread: Thread) {
    this.#thread = thread;
  }

  async hold(tensor: Feed, type: Parcel['type'], parcel: () => Parcel): Promise<number> {
    const signature = `${type} ${tensor.shape}`;
    const keys = this.#keys.get(tensor.values) ?? new Map<string, number>();
    const known = keys.get(signature);
    if (known !== undefined) {
      this.#users.get(known)!.count++;
      return known;
    }
    const key = this.#next++;
    const sent = parcel();
    this.#keys.set(tensor.values, keys.set(signature, key));
    this.#users.set(key, { forget: () => keys.delete(signature), count: 1 });
    await this.#thread.ask({ kind: 'hold', key, parcel: sent }, buffers([sent]));
    return key;
  }

  async release(key: number): Promise<void> {
    const user = this.#users.get(key)!;
    if (--user.count > 0) return;
    this.#users.delete(key);
    user.forget();
    await this.#thread.ask({ kind: 'drop', key });
  }
}

/** The worker, started at the first request. It keeps the process alive only while a request is under way. */
class Thread {
  readonly #waiting = new Map<number, { resolve: (reply: Reply) => void; reject: (error: Error) => void }>();
  #worker: Worker | undefined;
  #closed = false;
  #next = 0;

  ask(request: Request, transfer: readonly ArrayBuffer[] = []): Promise<Reply> {
    if (this.#closed) return Promise.reject(new SottoError('usage', 'the ONNX backend is closed', { remedy: 'make a new one' }));
    const worker = (this.#worker ??= this.#start());
    const id = this.#next++;
    const envelope: Envelope = { ...request, id };
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      worker.ref();
      worker.postMessage(envelope, transfer);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#worker?.terminate();
  }

  #start(): Worker {
    // Since 1.30 the runtime's Linux builds report each session to its maker, from a store in the user's cache, unless the process says no. A
    // thread has a copy of the environment that the runtime does not see: it must be said here.
    process.env.ORT_DISABLE_TELEMETRY = '1';
    // Bundlers may wrap inner functions in a `__name` helper, which the worker must then have.
    const source = `var __name = (f) => f; (${serve.toString()})(require(${JSON.stringify(onnxRuntime())}), require('node:worker_threads').parentPort)`;
    // A process that was started with --input-type reads the worker as what it says.
    const worker = new Worker(source, { eval: true, execArgv: [] });
    worker.on('message', (reply: Reply) => {
      const { resolve, reject } = this.#waiting.get(reply.id)!;
      this.#waiting.delete(reply.id);
      if (this.#waiting.size === 0) worker.unref();
      if ('error' in reply) reject(new SottoError('resource', `ONNX Runtime: ${reply.error}`, { remedy: 'see its message' }));
      else resolve(reply);
    });
    const fail = (reason: string): void => {
      for (const { reject } of this.#waiting.values())
        reject(new SottoError('resource', `the ONNX worker ended: ${reason}`, { remedy: 'check memory; make a new backend' }));
      this.#waiting.clear();
      this.#closed = true;
    };
    worker.on('error', (error) => fail(error.message));
    worker.on('exit', (code) => fail(`exit code ${code}`));
    return worker;
  }
}
