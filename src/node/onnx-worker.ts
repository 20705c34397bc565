import type { InferenceSession, Tensor } from 'onnxruntime-node';

/** A tensor on its way between threads. */
export interface Parcel {
  readonly name: string;
  readonly type: 'float32' | 'int32' | 'uint8';
  readonly shape: readonly number[];
  readonly values: Float32Array | Int32Array | Uint8Array;
}
export type Signature = Omit<Parcel, 'values'>;

export type Request =
  | { readonly kind: 'providers' }
  /** Makes a session and drops it. */
  | { readonly kind: 'try'; readonly model: Uint8Array; readonly options: InferenceSession.SessionOptions }
  /** Keeps a tensor for any number of sessions. */
  | { readonly kind: 'hold'; readonly key: number; readonly parcel: Parcel }
  | { readonly kind: 'drop'; readonly key: number }
  | {
      readonly kind: 'create';
      readonly session: number;
      readonly model: Uint8Array;
      readonly options: InferenceSession.SessionOptions;
      readonly bound: readonly (readonly [string, number])[];
      /** Tensors that become part of the session. */
      readonly packed: readonly Parcel[];
      readonly outputs: readonly Signature[];
      /** Input and output names of what stays here between runs, with its first values. */
      readonly state: readonly { readonly input: string; readonly output: string; readonly parcel: Parcel }[];
    }
  | { readonly kind: 'run'; readonly session: number; readonly feeds: readonly Parcel[]; readonly fetch: readonly string[] }
  | { readonly kind: 'read'; readonly session: number; readonly names: readonly string[] }
  | { readonly kind: 'write'; readonly session: number; readonly parcels: readonly Parcel[] }
  | { readonly kind: 'release'; readonly session: number };

export type Envelope = Request & { readonly id: number };
export type Reply = { readonly id: number } & (
  | { readonly parcels: readonly Parcel[] }
  | { readonly providers: readonly string[] }
  | { readonly error: string }
);

type Runtime = typeof import('onnxruntime-node');
interface Port {
  on(event: 'message', listener: (message: Envelope) => void): void;
  postMessage(message: Reply, transfer: ArrayBuffer[]): void;
}

/**
 * The worker's whole program. It is sent to the thread as source text, so that it runs the same from compiled and from TypeScript
 * sources: it may use nothing but its arguments.
 */
// biome-ignore lint/complexity/noExcessiveLinesPerFunction: the whole of a thread, which is started with the text of this one function
export function serve(runtime: Runtime, port: Port): void {
  // Errors are thrown; they need not be printed too.
  runtime.env.logLevel = 'fatal';
  interface Resident {
    current: Tensor;
    next: Tensor;
    readonly output: string;
  }
  interface Loaded {
    readonly session: InferenceSession;
    readonly bound: Record<string, Tensor>;
    readonly outputs: Map<string, Signature>;
    readonly state: Map<string, Resident>;
  }
  const held = new Map<number, Tensor>();
  const loaded = new Map<number, Loaded>();

  const toTensor = (parcel: Parcel): Tensor => new runtime.Tensor(parcel.type, parcel.values as Float32Array, parcel.shape);
  const empty = ({ type, shape }: Signature): Tensor => {
    const length = shape.reduce((product, extent) => product * extent, 1);
    const values =
      type === 'float32' ? new Float32Array(length) : type === 'int32' ? new Int32Array(length) : new Uint8Array(length);
    return new runtime.Tensor(type, values as Float32Array, shape);
  };
  const toParcel = (name: string, tensor: Tensor): Parcel => ({
    name,
    type: tensor.type as Parcel['type'],
    shape: tensor.dims,
    values: tensor.data as Float32Array,
  });

  const create = async (request: Request & { kind: 'create' }): Promise<void> => {
    const externalData = request.packed.map(({ name, values }) => ({ path: name, data: new Uint8Array(values.buffer) }));
    const options = externalData.length === 0 ? request.options : { ...request.options, externalData };
    const session = await runtime.InferenceSession.create(request.model, options);
    loaded.set(request.session, {
      session,
      bound: Object.fromEntries(request.bound.map(([name, key]) => [name, held.get(key)!])),
      outputs: new Map(request.outputs.map((output) => [output.name, output])),
      state: new Map(
        request.state.map(({ input, output, parcel }) => [input, { current: toTensor(parcel), next: empty(parcel), output }]),
      ),
    });
  };

  /** State is fed from one buffer and fetched into another, then they change places: one buffer for both is silently wrong. */
  const run = async (request: Request & { kind: 'run' }): Promise<Parcel[]> => {
    const { session, bound, outputs, state } = loaded.get(request.session)!;
    const feeds: Record<string, Tensor> = { ...bound };
    const fetches: Record<string, Tensor> = {};
    for (const parcel of request.feeds) feeds[parcel.name] = toTensor(parcel);
    for (const [name, resident] of state) {
      feeds[name] = resident.current;
      fetches[resident.output] = resident.next;
    }
    for (const name of request.fetch) fetches[name] = empty(outputs.get(name)!);
    await session.run(feeds, fetches);
    for (const resident of state.values()) [resident.current, resident.next] = [resident.next, resident.current];
    return request.fetch.map((name) => toParcel(name, fetches[name]!));
  };

  const read = (request: Request & { kind: 'read' }): Parcel[] => {
    const { state } = loaded.get(request.session)!;
    return request.names.map((name) => {
      const parcel = toParcel(name, state.get(name)!.current);
      return { ...parcel, values: parcel.values.slice() };
    });
  };

  const write = (request: Request & { kind: 'write' }): void => {
    const { state } = loaded.get(request.session)!;
    for (const parcel of request.parcels) (state.get(parcel.name)!.current.data as Float32Array).set(parcel.values);
  };

  const release = async (request: Request & { kind: 'release' }): Promise<void> => {
    const { session } = loaded.get(request.session)!;
    loaded.delete(request.session);
    await session.release();
  };

  const answer = async (request: Request): Promise<Parcel[] | readonly string[]> => {
    switch (request.kind) {
      case 'providers':
        return runtime.listSupportedBackends().map((backend) => backend.name);
      case 'try':
        await (await runtime.InferenceSession.create(request.model, request.options)).release();
        return [];
      case 'hold':
        held.set(request.key, toTensor(request.parcel));
        return [];
      case 'drop':
        held.delete(request.key);
        return [];
      case 'create':
        await create(request);
        return [];
      case 'run':
        return run(request);
      case 'read':
        return read(request);
      case 'write':
        write(request);
        return [];
      case 'release':
        await release(request);
        return [];
    }
  };

  const handle = async (message: Envelope): Promise<void> => {
    try {
      const result = await answer(message);
      if (message.kind === 'providers') port.postMessage({ id: message.id, providers: result as string[] }, []);
      else {
        const parcels = result as Parcel[];
        port.postMessage(
          { id: message.id, parcels },
          parcels.map((parcel) => parcel.values.buffer as ArrayBuffer),
        );
      }
    } catch (error) {
      port.postMessage({ id: message.id, error: error instanceof Error ? error.message : String(error) }, []);
    }
  };
  let queue: Promise<void> = Promise.resolve();
  port.on('message', (message) => {
    queue = queue.then(() => handle(message));
  });
}
