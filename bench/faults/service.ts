import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { openBundleStore } from '../../src/party/bundles.ts';
import { type Role, runClient, type Service, serveDealer, serveModel } from '../../src/party/index.ts';
import type { LogFields } from '../../src/party/log.ts';
import {
  type Crossing,
  type Line,
  type LineFault,
  type LineOptions,
  line,
  type Outcome,
  startRole,
} from '../../test/party/relay.ts';
import { malformed, untrue } from './malform.ts';
import { type Fault, isLineKind, type Moment, phaseOf, rings } from './plan.ts';
import type { Bed, Spares } from './strike.ts';
import type { Seen } from './verdict.ts';

/**
 * Faults of one client's session while two others run, against one standing server and one standing dealer or helper that see all of
 * them, one after the other: the others must be exact, and so must whoever comes next.
 */

type Setting = 'dealer' | 'helper';
/** What befalls: a frame of the client's own lines, a frame of a session's line between server and dealer, or the client's process. */
export type ServiceFault = { readonly number: number; readonly setting: Setting } & (
  | {
      readonly kind: Extract<Fault, { seed: number }>['kind'];
      readonly moment: Moment;
      readonly seed: number;
      readonly shared: boolean;
    }
  /** A message of the client's lines is malformed, or its words are other ones of the same form. */
  | { readonly kind: 'malformed' | 'lie'; readonly moment: Moment; readonly draw: number }
  | { readonly kind: 'kill' | 'stop' | 'restart'; readonly moment: Moment }
  | { readonly kind: 'pause'; readonly moment: Moment; readonly timeouts: number }
);

export interface Standing {
  readonly setting: Setting;
  readonly directory: string;
  readonly lines: { readonly level: string; readonly event: string; readonly fields: LogFields; readonly at: number }[];
  readonly link: { fault: LineFault | undefined; onFrame: ((crossing: Crossing) => void) | undefined };
  /** Ends both, and gives what is left in the server's store that nobody has burned. */
  readonly close: () => Promise<readonly string[]>;
}

const limits = { maximumSessions: 16, maximumWaiting: 16, maximumPromptTokens: 64, maximumNewTokens: 64 };

export async function stand(bed: Bed, setting: Setting): Promise<Standing> {
  const directory = bed.directory(`standing-${setting}`);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const lines: Standing['lines'][number][] = [];
  const link: Standing['link'] = { fault: undefined, onFrame: undefined };
  const common = {
    setting,
    limits,
    timeoutMilliseconds: bed.timeoutMilliseconds,
    handshakeMilliseconds: 20_000,
    maximumSessionMilliseconds: 120_000,
    log: (level: string, event: string, fields: LogFields = {}) =>
      void lines.push({ level, event, fields, at: performance.now() }),
  };
  const services: Service[] = [];
  const state = (name: string): string => join(directory, name);
  services.push(
    await serveDealer({
      ...common,
      listen: [`unix:${directory}/d`],
      state: state('dealer'),
      maximumMaskedBytes: 2 ** 30,
      maximumBundles: 100,
    }),
  );
  // The first connection of the server is the one over which the masked weights go; each session then makes its own.
  let taken = 0;
  const between = await line(`unix:${directory}/sd`, `unix:${directory}/d`, 'server', setting, {
    onFrame: (crossing) => {
      link.onFrame?.(crossing);
      return undefined;
    },
    get fault() {
      const { fault } = link;
      // One connection, which asks once for each of its directions.
      if (fault !== undefined && ++taken === 2) {
        link.fault = undefined;
        taken = 0;
      }
      return fault;
    },
  });
  services.push(
    await serveModel({
      ...common,
      policy: { reveal: ['logits', 'token'] },
      model: bed.models.whole,
      listen: [`unix:${directory}/s`],
      dealer: between.address,
      state: state('server'),
      prepare: { count: 0, shapes: [] },
    }),
  );
  return {
    setting,
    directory,
    lines,
    link,
    async close() {
      for (const service of services.reverse()) await service.drain(0);
      between.close();
      const left = await (await openBundleStore(state('server'), 'server')).list();
      return left.filter((entry) => entry.state !== 'burned').map((entry) => `${entry.id} is ${entry.state}`);
    },
  };
}

const ring = rings[0];
export interface Answer {
  readonly outcome: Outcome<object>;
  readonly tokens: readonly number[];
  readonly logits: readonly Float64Array[];
}

/** A client in this process. */
async function answered(
  { setting }: Standing,
  bed: Bed,
  at: { readonly server: string; readonly dealer: string; readonly state: string },
  timeoutMilliseconds = bed.timeoutMilliseconds,
): Promise<Answer> {
  const tokens: number[] = [];
  const logits: Float64Array[] = [];
  const work = runClient({
    rangeFlags: false,
    ...at,
    setting,
    ring,
    timeoutMilliseconds,
    task: { kind: 'generate', prompt: { ids: bed.promptIds }, newTokens: bed.newTokens, onToken: (id) => void tokens.push(id) },
    onLogits: (values) => void logits.push(values),
  });
  const outcome = await work.then(
    (report) => ({ report, at: performance.now() }),
    (error) => ({ error, at: performance.now() }),
  );
  return { outcome, tokens, logits };
}

let clients = 0;
/** The directory of one more client, and its two lines to the standing parties. */
async function withLines<T>(
  standing: Standing,
  options: LineOptions,
  work: (at: { server: string; dealer: string; state: string }) => Promise<T>,
) {
  const { directory, setting } = standing;
  const own = join(directory, `c${clients++}`);
  mkdirSync(own, { mode: 0o700 });
  const lines: Line[] = [];
  try {
    lines.push(await line(`unix:${own}/s`, `unix:${directory}/s`, 'client', 'server', options));
    lines.push(await line(`unix:${own}/d`, `unix:${directory}/d`, 'client', setting, options));
    return await work({ server: `unix:${own}/s`, dealer: `unix:${own}/d`, state: join(own, 'state') });
  } finally {
    for (const each of lines) each.close();
  }
}

const direct = ({ directory }: Standing) => {
  const state = join(directory, `c${clients++}`);
  return { server: `unix:${directory}/s`, dealer: `unix:${directory}/d`, state };
};

/** The frames of a client's lines, and of its session's line between server and dealer, without a fault. */
export async function cleanSession(standing: Standing, bed: Bed): Promise<{ own: Moment[]; shared: Moment[]; answer: Answer }> {
  const [own, shared]: [Moment[], Moment[]] = [[], []];
  const note =
    (list: Moment[]) =>
    ({ from, to, connection, frame, kind }: Crossing) =>
      void list.push({ from, to, connection, frame, phase: phaseOf(kind) });
  // The first session also has the masked weights sent: what it shows of the line between is that of the link.
  await answered(standing, bed, direct(standing), 60_000);
  standing.link.onFrame = note(shared);
  const options: LineOptions = {
    onFrame: (crossing) => {
      note(own)(crossing);
      return undefined;
    },
  };
  const answer = await withLines(standing, options, (at) => answered(standing, bed, at, 60_000));
  standing.link.onFrame = undefined;
  return { own, shared, answer };
}

export interface SessionSeen {
  readonly faulted: Seen;
  readonly others: readonly Answer[];
}

/** One fault, two clients beside it, and what each of them got. */
export async function sessionFault(standing: Standing, bed: Bed, fault: ServiceFault, spares: Spares): Promise<SessionSeen> {
  const before = standing.lines.length;
  let struckAt: number | undefined;
  let strike = (): void => {};
  const isShared = 'shared' in fault && fault.shared;
  const { from, to, connection, frame } = fault.moment;
  const plan = 'seed' in fault && isLineKind(fault.kind) ? { fault: fault.kind, frame, seed: fault.seed } : undefined;
  const options: LineOptions = {
    ...(plan === undefined || isShared ? {} : { fault: { from, to, connection, plan } }),
    onFrame: (crossing) => {
      if (isShared || struckAt !== undefined) return undefined;
      if (crossing.from !== from || crossing.to !== to || crossing.connection !== connection || crossing.frame !== frame)
        return undefined;
      struckAt = performance.now();
      strike();
      if (!('draw' in fault)) return undefined;
      const say = fault.kind === 'lie' ? untrue : malformed;
      return { kind: crossing.kind, payload: say(crossing.payload, fault.draw) };
    },
  };
  if (plan !== undefined && isShared) {
    struckAt = performance.now();
    standing.link.fault = { from, to, connection: 'any', plan };
  }
  const others = [answered(standing, bed, direct(standing)), answered(standing, bed, direct(standing))];
  const faulted = await withLines(standing, options, async (at): Promise<Answer> => {
    if (plan !== undefined || 'draw' in fault) return await answered(standing, bed, at);
    const { kind } = fault;
    const child = await spares.take();
    const order = {
      ...at,
      role: 'client',
      ...(standing.setting === 'helper' ? { setting: 'helper' as const } : {}),
      ring,
      timeoutMilliseconds: bed.timeoutMilliseconds,
      sendLogits: false,
      task: { kind: 'generate', prompt: { ids: bed.promptIds }, newTokens: bed.newTokens },
    } as const;
    const second = kind === 'restart' ? await spares.take() : undefined;
    let again: Promise<unknown> = Promise.resolve();
    strike = () => {
      child.kill(kind === 'kill' || kind === 'restart' ? 'SIGKILL' : 'SIGSTOP');
      if (fault.kind === 'pause') setTimeout(() => child.kill('SIGCONT'), fault.timeouts * bed.timeoutMilliseconds);
      else if (kind === 'stop') setTimeout(() => child.kill('SIGKILL'), 2 * bed.timeoutMilliseconds);
      // The one that comes after it is a client like any other.
      else if (second !== undefined)
        again = once(child, 'exit').then(() => startRole(order, second).report.catch(() => undefined));
    };
    const outcome = await startRole(order, child).report.then(
      (report): Outcome<object> => ({ report, at: performance.now() }),
      (error): Outcome<object> => ({ error, at: performance.now() }),
    );
    await again;
    for (const each of [child, second]) each?.kill('SIGKILL');
    return { outcome, tokens: [], logits: [] };
  });
  const beside = await Promise.all(others);
  await settled(standing, bed);
  standing.link.fault = undefined;
  const told = standing.lines.slice(before);
  const isProcess = plan === undefined && !('draw' in fault);
  return {
    others: beside,
    faulted: {
      ends: [{ role: 'client', outcome: faulted.outcome }, ...told.flatMap(endOf)],
      tokens: faulted.tokens,
      logits: faulted.logits,
      stored: [],
      culprits: isProcess ? ['client'] : [from, to],
      victim: isProcess ? 'client' : undefined,
      struckAt,
    },
  };
}

/** What an operator reads of a session that failed, as a party's end. An unexpected error has no type there either. */
function endOf({ level, event, fields, at }: Standing['lines'][number]): Seen['ends'] {
  if (event !== 'session-failed') return [];
  const name = level === 'error' ? 'Error' : 'SottoError';
  const { party, reason = '', kind = '', task } = fields;
  const error = { name, kind, reason, place: party === undefined ? {} : { party } };
  const role: Role = task === 'deal' || task === 'hand' ? 'dealer' : 'server';
  return [{ role, outcome: { error, at } }];
}

/** Until no session is left: every one that began has ended, one way or another. */
async function settled({ lines }: Standing, { timeoutMilliseconds }: Bed): Promise<void> {
  const open = (): number =>
    lines.reduce(
      (sum, { event }) => sum + Number(event === 'session-began') - Number(/^session-(ended|failed|refused)$/.test(event)),
      0,
    );
  const until = performance.now() + 3 * timeoutMilliseconds + 3000;
  while (open() > 0) {
    if (performance.now() > until) throw new Error(`${open()} sessions never end`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
