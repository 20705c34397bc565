import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Pipe } from '../../src/net/contract.ts';
import { type FaultPlan, faultyPipe } from '../../src/net/faulty.ts';
import { encodeFrameHeader, frameHeaderBytes } from '../../src/net/frame.ts';
import { ownModule, processFlags } from '../../src/node/own-module.ts';
import { type BundleEntry, openBundleStore } from '../../src/party/bundles.ts';
import type { ClientTask } from '../../src/party/client-task.ts';
import { type ClientReport, type Role, type RoleReport, runClient, runDealer, runServer } from '../../src/party/index.ts';
import type { RoleEvent, RoleOrder } from '../../src/party/launch.ts';

/** Three parties whose connections all lead through this process, which sees every frame and may damage it. */

export interface Crossing {
  readonly from: Role;
  readonly to: Role;
  /** Of those that were made on this line, counted from 0: in the helper setting the client makes two to the server. */
  readonly connection: number;
  /** Counted from 0 in this direction of this connection. */
  readonly frame: number;
  readonly kind: number;
  readonly payload: Uint8Array;
}
export type Change = { readonly kind: number; readonly payload: Uint8Array };
export interface LineOptions {
  /** Called for every frame before it goes on; may give another one in its place. */
  readonly onFrame?: (crossing: Crossing) => Change | undefined;
  /** The end of a connection, as one side caused it. */
  readonly onEnd?: (from: Role, to: Role) => void;
  /** Befalls one connection of one line, the first one where no other is named. Read whenever a connection is made. */
  readonly fault?: LineFault | undefined;
}
export interface LineFault {
  readonly from: Role;
  readonly to: Role;
  readonly connection?: number | 'any';
  readonly plan: FaultPlan;
}

export interface Line {
  readonly address: string;
  close(): void;
}

/** Listens at `address` for `from` and passes everything on to `target`, where `to` listens. */
export async function line(address: string, target: string, from: Role, to: Role, options: LineOptions): Promise<Line> {
  const sockets: Socket[] = [];
  const server = createServer({ pauseOnConnect: true }, (near) => {
    const connection = sockets.length / 2;
    const far = createConnection(target.slice(5));
    sockets.push(near, far);
    pass(near, far, { from, to, connection }, options);
    pass(far, near, { from: to, to: from, connection }, options);
    near.resume();
  });
  await new Promise<void>((resolve) => server.listen(address.slice(5), resolve));
  return {
    address,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

type Way = Pick<Crossing, 'from' | 'to' | 'connection'>;

function pass(input: Socket, output: Socket, way: Way, { onFrame, onEnd, fault }: LineOptions): void {
  const { from, to, connection } = way;
  const plain: Pipe = {
    write: async (parts) => {
      for (const part of parts) if (!output.destroyed) output.write(part);
    },
    read: async () => null,
    end: async () => void output.end(),
    destroy: () => void output.destroy(),
  };
  const named = fault?.connection ?? 0;
  const meant = fault?.from === from && fault.to === to && (named === 'any' || named === connection);
  const pipe = meant ? faultyPipe(plain, fault.plan) : plain;
  let pending = Buffer.alloc(0);
  let frame = 0;
  input.on('data', (chunk) => {
    pending = Buffer.concat([pending, chunk]);
    while (pending.length >= frameHeaderBytes) {
      const end = frameHeaderBytes + pending.readUInt32LE(4);
      if (pending.length < end) return;
      const bytes = new Uint8Array(pending.subarray(0, end));
      pending = pending.subarray(end);
      const crossing = { ...way, frame, kind: bytes[1]!, payload: bytes.subarray(frameHeaderBytes) };
      const change = onFrame?.(crossing);
      const changed = change ? joined(encodeFrameHeader(change.kind, change.payload, frame), change.payload) : bytes;
      frame++;
      void pipe.write([changed]);
    }
  });
  input.on('end', () => {
    onEnd?.(from, to);
    void pipe.end();
  });
  input.on('error', () => pipe.destroy());
  input.on('close', () => void pipe.end());
}

const joined = (...parts: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

/** A process that waits for its order: which role to play, and with what. */
export function forkRole(execArgv: readonly string[] = []): ChildProcess {
  const role = ownModule(new URL('../../src/party/launch.ts', import.meta.url).href, 'role');
  return fork(role.path, [], {
    execArgv: [...processFlags(role), ...execArgv],
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
}

/** One role in a process of its own, started as the launcher does, and told what it is told there. */
export function startRole(
  order: RoleOrder,
  child = forkRole(),
): { child: ChildProcess; listening: Promise<string>; report: Promise<RoleReport> } {
  let heard: (address: string) => void;
  const listening = new Promise<string>((resolve) => {
    heard = resolve;
  });
  const report = new Promise<RoleReport>((resolve, reject) => {
    child.on('message', (event: RoleEvent) => {
      if (event.type === 'listening') heard(event.address);
      else if (event.type === 'report') resolve(event.report);
      else if (event.type === 'error')
        reject(Object.assign(new Error(event.error.reason), { name: typeOf(event.error) }, event.error));
    });
    child.on('exit', () => setTimeout(() => reject(new Error('ended')), 50));
  });
  report.catch(() => undefined);
  child.send(order);
  return { child, listening, report };
}

/** What is no error of sotto's own is told as a defect. */
const typeOf = ({ remedy }: { readonly remedy: string }): string =>
  remedy.includes('a defect of sotto') ? 'Error' : 'SottoError';

export interface PartiesOptions extends LineOptions {
  /** A directory of this run's own. */
  readonly directory: string;
  readonly model: string;
  readonly promptIds: readonly number[];
  readonly newTokens: number;
  readonly ring: { readonly bits: number; readonly fraction: number };
  readonly timeoutMilliseconds: number;
  readonly setting?: 'helper';
  /** Runs as a process, so that it can be stopped or killed; the others run here. */
  readonly apart?: Role;
  /** Gets the process, and what starts another one with the same order. */
  readonly onApart?: (child: ChildProcess, again: () => Promise<unknown>) => void;
  readonly forkApart?: () => ChildProcess;
  /** How long the dealer or helper waits for its server; a minute where it is not given. */
  readonly startMilliseconds?: number;
}

/** How a role ended and when, in milliseconds of `performance.now`. */
export interface Outcome<T> {
  readonly report?: T;
  readonly error?: { readonly name: string; readonly kind: string; readonly reason: string; readonly place: { party?: string } };
  readonly at: number;
}
export interface Outcomes {
  readonly client: Outcome<ClientReport>;
  readonly server: Outcome<RoleReport>;
  readonly dealer: Outcome<RoleReport>;
  readonly logits: Float64Array[];
  /** Of a client that runs here, as they were opened. */
  readonly tokens: number[];
  /** Both stores once all is over. */
  readonly stored: { readonly client: BundleEntry[]; readonly server: BundleEntry[] };
}

const outcome = <T>(report: Promise<T>): Promise<Outcome<T>> =>
  report.then(
    (value) => ({ report: value, at: performance.now() }),
    (error) => ({ error, at: performance.now() }),
  );

let runs = 0;
/** Runs the three roles to their ends. Never rejects for what a role does. */
export async function runParties(options: PartiesOptions): Promise<Outcomes> {
  const { directory, timeoutMilliseconds, apart } = options;
  const source = options.setting ?? 'dealer';
  const setting = options.setting === undefined ? {} : { setting: options.setting };
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const socket = (name: string): string => `unix:${join(directory, name)}`;
  const linkToken = new Uint8Array(32).fill(runs++);
  const state = { client: join(directory, 'client'), server: join(directory, 'server') };
  const lines: Line[] = [];
  const logits: Float64Array[] = [];
  const tokens: number[] = [];
  const children: ChildProcess[] = [];
  const started: Promise<unknown>[] = [];
  const processOf = (order: RoleOrder) => {
    const start = () => {
      const role = startRole(order, options.forkApart?.());
      children.push(role.child);
      return role;
    };
    const role = start();
    options.onApart?.(role.child, () => {
      const again = outcome(start().report);
      started.push(again);
      return again;
    });
    return role;
  };
  const listened = async <T>(order: RoleOrder, run: (onListening: (address: string) => void) => Promise<T>) => {
    if (apart === order.role) {
      const role = processOf(order);
      await role.listening;
      return role.report as Promise<unknown> as Promise<T>;
    }
    let report: Promise<T> | undefined;
    await new Promise<void>((resolve) => {
      report = run(() => resolve());
      report.catch(() => resolve());
    });
    return report!;
  };
  try {
    const dealerOrder = {
      role: source,
      ...setting,
      listen: socket('d'),
      timeoutMilliseconds,
      startMilliseconds: options.startMilliseconds ?? 60_000,
      linkToken,
    } as const;
    const dealing = listened(dealerOrder, (onListening) => runDealer({ ...dealerOrder, onListening }));
    const dealer = outcome(dealing);
    await waitFor(socket('d'), dealer);
    lines.push(await line(socket('sd'), socket('d'), 'server', source, options));
    const serverOrder = {
      role: 'server',
      ...setting,
      listen: socket('s'),
      dealer: socket('sd'),
      linkToken,
      model: options.model,
      state: state.server,
      timeoutMilliseconds,
    } as const;
    const nobodyElse = new AbortController();
    const serving = { ...serverOrder, nobodyElse: nobodyElse.signal };
    const server = outcome(listened(serverOrder, (onListening) => runServer({ ...serving, onListening })));
    await waitFor(socket('s'), server);
    lines.push(await line(socket('cs'), socket('s'), 'client', 'server', options));
    lines.push(await line(socket('cd'), socket('d'), 'client', source, options));
    const { ring, newTokens, promptIds } = options;
    const ofProcess = { kind: 'generate', prompt: { ids: promptIds }, newTokens } as const;
    const task = { ...ofProcess, onToken: (id) => void tokens.push(id) } satisfies ClientTask;
    const places = { server: socket('cs'), dealer: socket('cd'), state: state.client };
    const common = { ...setting, ...places, ring, rangeFlags: false, timeoutMilliseconds };
    let asked: Promise<ClientReport>;
    if (apart === 'client') {
      asked = processOf({ ...common, role: 'client', sendLogits: false, task: ofProcess }).report as Promise<ClientReport>;
    } else asked = runClient({ ...common, task, onLogits: (values) => void logits.push(values) });
    const client = outcome(asked);
    // It was the only one to come.
    void client.then(() => {
      nobodyElse.abort();
      if (apart === 'server' && children[0]!.connected) children[0]!.send('nobody else', () => undefined);
    });
    // A stopped process is ended once everybody else has given up.
    const others = Object.entries({ client, server, dealer }).flatMap(([role, end]) =>
      (role === 'dealer' ? source : role) === apart ? [] : [end],
    );
    void Promise.all(others).then((ends) => {
      // Where nobody missed it, it may only be slow.
      const patience = ends.some(({ error }) => error !== undefined) ? 200 : timeoutMilliseconds;
      setTimeout(() => children[0]?.kill('SIGKILL'), patience);
    });
    const ends = { client: await client, server: await server, dealer: await dealer };
    await Promise.all(started);
    const list = async (party: 'client' | 'server') => (await openBundleStore(state[party], party)).list();
    return { ...ends, logits, tokens, stored: { client: await list('client'), server: await list('server') } };
  } finally {
    for (const each of lines) each.close();
    for (const each of children) each.kill('SIGKILL');
  }
}

/** Until a socket's file is there, or who would have made it has ended. */
async function waitFor(address: string, end: Promise<unknown>): Promise<void> {
  let ended = false;
  void end.then(() => {
    ended = true;
  });
  for (let tries = 0; tries < 2000 && !ended && !existsSync(address.slice(5)); tries++)
    await new Promise((resolve) => setTimeout(resolve, 5));
}
