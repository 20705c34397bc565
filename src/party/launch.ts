import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Setting } from '../backends/cost/index.ts';
import { type ErrorKind, type Place, SottoError } from '../errors/index.ts';
import type { TextAsk } from '../jobs/classify.ts';
import type { SamplingOptions } from '../models/index.ts';
import { embeddingFile } from '../models/public-embedding.ts';
import { folderFiles } from '../node/files.ts';
import { ownModule, processFlags } from '../node/own-module.ts';
import { temporaryFolder } from '../node/temporary.ts';
import { modelManifestHash } from './model.ts';
import { refusedPrefix } from './refusals.ts';
import type { ClientReport, Role, RoleReport } from './report.ts';

/** A private run whose three parties are processes of this machine. */
export interface LaunchOptions {
  readonly model: string;
  readonly task:
    | {
        readonly kind: 'generate';
        readonly prompt: { readonly text: string } | { readonly ids: readonly number[] };
        readonly newTokens: number;
        readonly reveal?: 'logits' | 'token' | undefined;
        /** As `ClientTask` has it. */
        readonly earlyStop?: boolean | undefined;
        readonly sampling?: SamplingOptions | undefined;
      }
    | { readonly kind: 'classify'; readonly image: string }
    | ({ readonly kind: 'classify' } & TextAsk);
  readonly ring: { readonly bits: number; readonly fraction: number };
  /** See ClientOptions. */
  readonly rangeFlags?: boolean | undefined;
  /** `dealer` where absent. */
  readonly setting?: Setting | undefined;
  readonly transport: 'unix' | 'tcp';
  readonly timeoutMilliseconds: number;
  /** Brings the opened logits to this process: for checks only, since it may hold the server's model too. */
  readonly keepLogits?: boolean;
  /** Pieces of the text as the client opens them, the prompt first. */
  readonly onText?: (text: string) => void;
}

/**
 * What the client opened, and the reports of all three parties. `text` is empty where a picture was classified, `logits` unless
 * they are kept.
 */
export interface LaunchResult {
  readonly client: ClientReport;
  readonly server: RoleReport;
  /** In the helper setting the helper's. */
  readonly dealer: RoleReport;
  readonly text: string;
  readonly logits: readonly Float64Array[];
}

/** What a role process is started with: exactly what its party may know. */
export type RoleOrder = { readonly timeoutMilliseconds: number; readonly setting?: 'helper' } & (
  | { readonly role: Setting; readonly listen: string; readonly startMilliseconds: number; readonly linkToken: Uint8Array }
  | {
      readonly role: 'server';
      readonly listen: string;
      readonly dealer: string;
      readonly linkToken: Uint8Array;
      readonly model: string;
      readonly state: string;
      /** What a model is measured for that was never calibrated. */
      readonly measuring?: { readonly ring: { readonly bits: number; readonly fraction?: number | undefined } };
    }
  | ({
      readonly role: 'client';
      readonly server: string;
      readonly dealer: string;
      readonly state: string;
      readonly sendLogits: boolean;
      /** Of the model's manifest, which the launcher knows. */
      readonly manifestHash?: string | undefined;
      /** The file of a public table of embeddings. */
      readonly embedding?: string | undefined;
    } & Pick<LaunchOptions, 'task' | 'ring' | 'rangeFlags'>)
);

/** What a role process tells the launcher. */
export type RoleEvent =
  | { readonly type: 'listening'; readonly address: string }
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'logits'; readonly logits: Float64Array }
  | { readonly type: 'report'; readonly report: RoleReport }
  | { readonly type: 'error'; readonly error: { kind: ErrorKind; reason: string; place: Place; remedy: string } };

/** How long the server may load weights before it comes to the dealer. */
const startMilliseconds = 600_000;
/** How long a role may take to end after another has failed, beside its own timeout. */
const graceMilliseconds = 2000;

/**
 * Runs client, server and dealer as three processes of this machine. Each is given what its party may know and nothing else: the
 * server the model's folder, the client the prompt, the dealer an address. An error of one ends all, and the one that
 * explains the others is thrown. No process and no file is left when this returns or throws.
 */
export async function launchLocal(options: LaunchOptions): Promise<LaunchResult> {
  const folder = await temporaryFolder('run');
  const directory = folder.path;
  const roles: RoleProcess[] = [];
  folder.beforeSignal(() => {
    for (const role of roles) role.stop();
  });
  const start = (order: RoleOrder, onEvent?: (event: RoleEvent) => void): RoleProcess => {
    const role = new RoleProcess(order, onEvent);
    roles.push(role);
    return role;
  };
  const { timeoutMilliseconds, transport, setting = 'dealer' } = options;
  const named = setting === 'helper' ? { setting } : {};
  const address = (name: string): string =>
    transport === 'unix' ? `unix:${join(directory, `${name}.socket`)}` : 'tcp:127.0.0.1:0';
  try {
    // What server and dealer know each other by; the client is not told.
    const linkToken = new Uint8Array(randomBytes(32));
    const dealer = start({ role: setting, listen: address(setting), timeoutMilliseconds, startMilliseconds, linkToken });
    const dealerAddress = await dealer.listening;
    const state = (name: string): string => join(directory, name);
    const server = start({
      role: 'server',
      ...named,
      listen: address('server'),
      dealer: dealerAddress,
      linkToken,
      model: options.model,
      state: state('server'),
      measuring: { ring: options.ring },
      timeoutMilliseconds,
    });
    // A folder that cannot be read is the server's to report.
    const manifest = modelManifestHash(options.model, { ring: options.ring });
    manifest.catch(() => undefined);
    const serverAddress = await server.listening;
    const embedding = await publishedTable(options.model, directory);
    const texts: string[] = [];
    const logits: Float64Array[] = [];
    const client = start(
      {
        role: 'client',
        ...named,
        server: serverAddress,
        dealer: dealerAddress,
        state: state('client'),
        sendLogits: options.keepLogits ?? false,
        manifestHash: await manifest,
        ...(embedding === undefined ? {} : { embedding }),
        task: options.task,
        ring: options.ring,
        rangeFlags: options.rangeFlags,
        timeoutMilliseconds,
      },
      (event) => {
        if (event.type === 'text') {
          texts.push(event.text);
          options.onText?.(event.text);
        } else if (event.type === 'logits') logits.push(event.logits);
      },
    );
    // It was the only one to come.
    client.report.catch(() => server.nobodyElse());
    const reports = await settled([client, server, dealer], timeoutMilliseconds);
    return { client: reports[0] as ClientReport, server: reports[1]!, dealer: reports[2]!, text: texts.join(''), logits };
  } finally {
    await Promise.all(roles.map((role) => role.kill()));
    await folder.remove();
  }
}

/** What the model's folder publishes for clients, where they can reach it without reaching the folder. */
async function publishedTable(model: string, directory: string): Promise<string | undefined> {
  const copy = join(directory, embeddingFile);
  const files = folderFiles(model);
  if (!(await files.exists(embeddingFile))) return undefined;
  await copyFile(join(model, embeddingFile), copy);
  return copy;
}

interface Failure {
  readonly role: Role;
  readonly error: Error;
}

/**
 * All reports, or the error that explains the others. After the first failure the other roles have a moment to end by themselves, or,
 * where a peer was missed, their own timeouts: who then neither reports nor fails is ended, and is the silent one.
 */
async function settled(roles: readonly RoleProcess[], timeoutMilliseconds: number): Promise<RoleReport[]> {
  const failures: Failure[] = [];
  let timer: NodeJS.Timeout | undefined;
  const failed = (role: RoleProcess, error: Error): void => {
    failures.push({ role: role.role, error });
    const missed = isPeer(error) && !role.lost;
    const patience = missed ? graceMilliseconds + timeoutMilliseconds : isEcho(error) ? graceMilliseconds : 0;
    timer ??= setTimeout(() => roles.forEach((each) => void each.kill()), patience);
  };
  const results = await Promise.all(roles.map((role) => role.report.catch((error: Error) => failed(role, error))));
  clearTimeout(timer);
  if (failures.length > 0) throw cause(failures, new Set(roles.filter((role) => role.lost).map((role) => role.role)));
  return results as RoleReport[];
}

const isEcho = (error: Error): boolean => error instanceof SottoError && error.reason.startsWith(refusedPrefix);
const isPeer = (error: Error): error is SottoError => error instanceof SottoError && error.kind === 'peer';

/**
 * The error that is no echo, of those in the order in which they came: a role's own failure before a broken connection, a connection to a
 * role that was lost before others, and a refusal, which repeats what the other side throws itself, last.
 */
function cause(failures: readonly Failure[], lost: ReadonlySet<Role>): Error {
  const rank = ({ role, error }: Failure): number => {
    if (isEcho(error)) return 4;
    if (!isPeer(error)) return 0;
    if (lost.has(role)) return 2;
    return lost.has(error.place.party as Role) ? 1 : 3;
  };
  return failures.reduce((best, failure) => (rank(failure) < rank(best) ? failure : best)).error;
}

class RoleProcess {
  readonly role: Role;
  readonly listening: Promise<string>;
  readonly report: Promise<RoleReport>;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #lost = false;

  constructor(order: RoleOrder, onEvent?: (event: RoleEvent) => void) {
    this.role = order.role;
    const module = ownModule(import.meta.url, 'role');
    const execArgv = processFlags(module);
    const child = fork(module.path, [], { execArgv, serialization: 'advanced', stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#child = child;
    let heard: (address: string) => void;
    let failedToListen: (error: Error) => void;
    this.listening = new Promise((resolve, reject) => {
      heard = resolve;
      failedToListen = reject;
    });
    let ended: () => void;
    this.#ended = new Promise((resolve) => {
      ended = resolve;
    });
    this.report = new Promise((resolve, reject) => {
      let told = false;
      const fail = (error: Error): void => {
        reject(error);
        failedToListen(error);
      };
      child.on('message', (event: RoleEvent) => {
        try {
          onEvent?.(event);
        } catch (error) {
          fail(error as Error);
        }
        told ||= event.type === 'report' || event.type === 'error';
        if (event.type === 'listening') heard(event.address);
        else if (event.type === 'report') resolve(event.report);
        else if (event.type === 'error') fail(asError(order.role, event.error));
      });
      child.on('error', (error) => {
        fail(notStarted(order.role, error));
        if (child.pid === undefined) ended();
      });
      child.on('exit', async (code, signal) => {
        // What it said before its end may still be on the way.
        if (child.connected) await once(child, 'disconnect');
        this.#lost = !told;
        fail(
          new SottoError('peer', `the process ended with ${signal ?? `code ${code}`}`, {
            place: { party: order.role },
            remedy: 'see its output above',
          }),
        );
        ended();
      });
    });
    // Both may be rejected before anyone looks at them.
    this.listening.catch(() => undefined);
    this.report.catch(() => undefined);
    try {
      child.send(order, () => undefined);
    } catch (error) {
      child.emit('error', error);
    }
  }

  /** It ended, or was ended, without a word. */
  get lost(): boolean {
    return this.#lost;
  }

  /** Tells a server that it need not wait for clients any longer. */
  nobodyElse(): void {
    if (this.#child.connected) this.#child.send('nobody else', () => undefined);
  }

  /** Ends it at once, and does not wait. */
  stop(): void {
    this.#child.kill('SIGKILL');
  }

  /** Resolves once the process is gone. */
  async kill(): Promise<void> {
    this.stop();
    await this.#ended;
  }
}

const notStarted = (party: Role, error: Error): SottoError =>
  new SottoError('resource', `the process of the ${party} did not start or take its order: ${error.message}`, {
    place: { party },
    remedy: 'check the limits of processes and memory',
    cause: error,
  });

function asError(role: Role, error: { kind: ErrorKind; reason: string; place: Place; remedy: string }): SottoError {
  const place = error.place.party === undefined || error.place.party === role ? { party: role, ...error.place } : error.place;
  return new SottoError(error.kind, error.reason, { place, remedy: error.remedy });
}
