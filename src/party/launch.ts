import { type ChildProcess, fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ErrorKind, type Place, SottoError } from '../errors/index.ts';
import type { SamplingOptions } from '../models/index.ts';
import type { ClientReport, Role, RoleReport } from './report.ts';

export interface LaunchOptions {
  readonly model: string;
  readonly task:
    | {
        readonly kind: 'generate';
        readonly prompt: { readonly text: string } | { readonly ids: readonly number[] };
        readonly newTokens: number;
        readonly sampling?: SamplingOptions | undefined;
      }
    | { readonly kind: 'classify'; readonly image: string };
  readonly ring: { readonly bits: number; readonly fraction: number };
  readonly transport: 'unix' | 'tcp';
  readonly timeoutMilliseconds: number;
  /** Brings the opened logits to this process: for checks only, since it may hold the server's model too. */
  readonly keepLogits?: boolean;
  readonly onText?: (text: string) => void;
}

export interface LaunchResult {
  readonly client: ClientReport;
  readonly server: RoleReport;
  readonly dealer: RoleReport;
  readonly text: string;
  readonly logits: readonly Float64Array[];
}

/** What a role process is started with: exactly what its party may know. */
export type RoleOrder = { readonly timeoutMilliseconds: number } & (
  | { readonly role: 'dealer'; readonly listen: string }
  | { readonly role: 'server'; readonly listen: string; readonly dealer: string; readonly model: string; readonly state: string }
  | ({
      readonly role: 'client';
      readonly server: string;
      readonly dealer: string;
      readonly state: string;
      readonly sendLogits: boolean;
    } & Pick<LaunchOptions, 'task' | 'ring'>)
);

/** What a role process tells the launcher. */
export type RoleEvent =
  | { readonly type: 'listening'; readonly address: string }
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'logits'; readonly logits: Float64Array }
  | { readonly type: 'report'; readonly report: RoleReport }
  | { readonly type: 'error'; readonly error: { kind: ErrorKind; reason: string; place: Place; remedy: string } };

const roleFile = (): string => {
  const own = fileURLToPath(import.meta.url);
  return join(own, '..', `role${own.endsWith('.ts') ? '.ts' : '.js'}`);
};

/**
 * Runs client, server and dealer as three processes of this machine. Each is given what its party may know and nothing else: the
 * server the model's folder, the client the prompt, the dealer an address. An error of one ends all; the first that is not a broken
 * connection is thrown.
 */
export async function launchLocal(options: LaunchOptions): Promise<LaunchResult> {
  const directory = await mkdtemp(join(tmpdir(), 'sotto-'));
  const roles: RoleProcess[] = [];
  const start = (order: RoleOrder, onEvent?: (event: RoleEvent) => void): RoleProcess => {
    const role = new RoleProcess(order, onEvent);
    roles.push(role);
    return role;
  };
  const { timeoutMilliseconds, transport } = options;
  const address = (name: string): string =>
    transport === 'unix' ? `unix:${join(directory, `${name}.socket`)}` : 'tcp:127.0.0.1:0';
  try {
    const dealer = start({ role: 'dealer', listen: address('dealer'), timeoutMilliseconds });
    const dealerAddress = await dealer.listening;
    const state = (name: string): string => join(directory, name);
    const server = start({
      role: 'server',
      listen: address('server'),
      dealer: dealerAddress,
      model: options.model,
      state: state('server'),
      timeoutMilliseconds,
    });
    const serverAddress = await server.listening;
    const texts: string[] = [];
    const logits: Float64Array[] = [];
    const client = start(
      {
        role: 'client',
        server: serverAddress,
        dealer: dealerAddress,
        state: state('client'),
        sendLogits: options.keepLogits ?? false,
        task: options.task,
        ring: options.ring,
        timeoutMilliseconds,
      },
      (event) => {
        if (event.type === 'text') {
          texts.push(event.text);
          options.onText?.(event.text);
        } else if (event.type === 'logits') logits.push(event.logits);
      },
    );
    const reports = await settled([client, server, dealer]);
    return { client: reports[0] as ClientReport, server: reports[1]!, dealer: reports[2]!, text: texts.join(''), logits };
  } finally {
    for (const role of roles) role.kill();
    await rm(directory, { recursive: true, force: true });
  }
}

/** All reports, or the error that explains the others: a `peer` error is often only the echo of another party's. */
async function settled(roles: readonly RoleProcess[]): Promise<RoleReport[]> {
  const results = await Promise.allSettled(roles.map((role) => role.report));
  const errors = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as Error] : []));
  if (errors.length > 0) throw errors.find((error) => !(error instanceof SottoError) || error.kind !== 'peer') ?? errors[0]!;
  return results.map((result) => (result as PromiseFulfilledResult<RoleReport>).value);
}

class RoleProcess {
  readonly listening: Promise<string>;
  readonly report: Promise<RoleReport>;
  readonly #child: ChildProcess;

  constructor(order: RoleOrder, onEvent?: (event: RoleEvent) => void) {
    this.#child = fork(roleFile(), [], { serialization: 'advanced', stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    let heard: (address: string) => void;
    let failedToListen: (error: Error) => void;
    this.listening = new Promise((resolve, reject) => {
      heard = resolve;
      failedToListen = reject;
    });
    this.report = new Promise((resolve, reject) => {
      const fail = (error: Error): void => {
        reject(error);
        failedToListen(error);
      };
      this.#child.on('message', (event: RoleEvent) => {
        onEvent?.(event);
        if (event.type === 'listening') heard(event.address);
        else if (event.type === 'report') resolve(event.report);
        else if (event.type === 'error') fail(asError(order.role, event.error));
      });
      this.#child.on('error', fail);
      this.#child.on('exit', (code, signal) =>
        fail(
          new SottoError('peer', `the process ended with ${signal ?? `code ${code}`}`, {
            place: { party: order.role },
            remedy: 'see its output above',
          }),
        ),
      );
    });
    // Both may be rejected before anyone looks at them.
    this.listening.catch(() => undefined);
    this.report.catch(() => undefined);
    this.#child.send(order);
  }

  kill(): void {
    if (this.#child.exitCode === null) this.#child.kill('SIGKILL');
  }
}

function asError(role: Role, error: { kind: ErrorKind; reason: string; place: Place; remedy: string }): SottoError {
  const place = error.place.party === undefined || error.place.party === role ? { party: role, ...error.place } : error.place;
  return new SottoError(error.kind, error.reason, { place, remedy: error.remedy });
}
