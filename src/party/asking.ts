import { forecast, type Setting } from '../backends/cost/index.ts';
import type { RingParameters } from '../backends/ring/index.ts';
import { writesText } from '../models/families/index.ts';
import type { Channel } from '../net/contract.ts';
import { sourceOf } from '../node/strangers.ts';
import type { BudgetFile, Left } from './budgets.ts';
import type { RunRequest } from './control.ts';
import type { Log } from './log.ts';
import type { RunProgram } from './manifest.ts';
import type { ServedModel } from './model.ts';
import { Objection, TurnedAway } from './refusals.ts';

/** What a step of a text opens to its client: all logits, or the likeliest token alone. */
export type Reveal = 'logits' | 'token';

/**
 * What clients may ask for. A client that lies in its messages opens what it likes of the last step: one linear function of the head's
 * matrix for each set of logits, so that as many sets as the matrix has rows are the matrix; the place of the largest of such
 * values where tokens alone are revealed. How many it opens is for the operator to say (docs/threat-model.md has the numbers).
 */
export interface AskPolicy {
  readonly reveal: readonly Reveal[];
  /** Steps that are opened to one client certificate in an hour; no bound where absent. */
  readonly tokensPerHour?: number | undefined;
  /** The same for everybody without one who comes from one address. Weak: addresses are cheap, and shared. */
  readonly anonymousTokensPerHour?: number | undefined;
  /**
   * Bits of range flags that one certificate, or one address without, is told in an hour: a run of T outputs tells one of T + 1 things, ⌈log₂(T + 1)⌉
   * bits. Zero: runs with them are not served. No bound where absent.
   */
  readonly flagBitsPerHour?: number | undefined;
  /** Nobody without a certificate is a client. */
  readonly clientCertificates?: boolean | undefined;
}

/** What an operator who says nothing lets clients ask: of a text the likeliest tokens alone. */
export const usualPolicy: AskPolicy = { reveal: ['token'] };
/** Whatever a model can answer: of a party that its operator starts for one client's run. */
export const openPolicy: AskPolicy = { reveal: ['logits', 'token'] };

/** What a run opens of each step. A classifier has one answer, so that serving it at all is the operator's choice. */
export const isRevealed = ({ reveal }: AskPolicy, run: Pick<RunRequest, 'task' | 'reveal'>): boolean =>
  run.task !== 'generate' || reveal.includes(run.reveal ?? 'logits');

/** Throws where the policy asks clients for certificates and this one shows none. */
export function checkCertificate(client: Channel, { clientCertificates }: Pick<AskPolicy, 'clientCertificates'>): void {
  if (clientCertificates !== true || client.security?.certificate !== undefined) return;
  throw new Objection('role', 'shows no certificate, and clients without one are not served here', {
    party: 'client',
    remedy: 'give the client a certificate, and a tls: address',
  });
}

/** What is left to one client. */
interface Bucket {
  left: number;
  at: number;
}

const hourMilliseconds = 3_600_000;
/** Of whom a count is kept; who comes when there are so many shares one with all others that come then. */
const mostBuckets = 2 ** 16;

/** What range flags tell of a run at most: before which output, if any, the first of them is one. */
const flagBits = (outputs: number): number => Math.ceil(Math.log2(outputs + 1));

/** What clients have asked for, counted when they ask: who goes in the middle of a run has paid for all of it. */
export class Asking {
  readonly #policy: AskPolicy;
  readonly #tokens: Budget;
  readonly #flags: Budget;

  readonly #file: BudgetFile | undefined;
  readonly #wall: () => number;

  /** `now` in milliseconds; `wall`, with the file that keeps what certificates have used up, since 1970. Anonymous clients are in memory alone. */
  constructor(policy: AskPolicy, now: () => number, { file, wall = Date.now }: Kept = {}) {
    this.#policy = policy;
    this.#file = file;
    this.#wall = wall;
    const before = (of: Left['of']) => (certificate: string) => {
      const found = file?.find(of, certificate);
      // A clock that went back gives nothing.
      return found && { left: found.left, at: now() - Math.max(0, wall() - found.at) };
    };
    this.#tokens = new Budget('the tokens that are opened', now, before('tokens'));
    this.#flags = new Budget('the bits of range flags that are told', now, before('flagBits'));
  }

  /** Throws `TurnedAway` where no client may have this run. */
  check(run: RunRequest): void {
    const { reveal, flagBitsPerHour } = this.#policy;
    if (!isRevealed(this.#policy, run))
      throw new TurnedAway('reveal', `${run.reveal ?? 'logits'} were asked for, and ${reveal.join(' and ')} are revealed here`);
    if (run.rangeFlags === true && flagBitsPerHour === 0)
      throw new TurnedAway('reveal', 'range flags were asked for, and are not told here');
  }

  /**
   * Throws `TurnedAway` where this client may not have this run, or not yet; counts it otherwise, a certificate's on the disk before it returns.
   */
  async take(client: Channel, run: RunRequest): Promise<void> {
    this.check(run);
    const { tokensPerHour, anonymousTokensPerHour, flagBitsPerHour } = this.#policy;
    const outputs = run.task === 'classify' ? 1 : run.newTokens;
    const who = whoIs(client);
    const certificate = client.security?.certificate;
    const most = certificate === undefined ? anonymousTokensPerHour : tokensPerHour;
    const tokens = most === undefined ? undefined : this.#tokens.open(who, { asked: outputs, most, longest: most });
    const flagged = run.rangeFlags === true ? flagBitsPerHour : undefined;
    const asked = flagBits(outputs);
    const flags = flagged === undefined ? undefined : this.#flags.open(who, { asked, most: flagged, longest: 2 ** flagged - 1 });
    // Who is refused for one has spent nothing of the other.
    if (tokens !== undefined) tokens.left -= outputs;
    if (flags !== undefined) flags.left -= asked;
    if (certificate === undefined || this.#file === undefined) return;
    const at = this.#wall();
    const changed = [
      ...(tokens === undefined ? [] : [{ of: 'tokens' as const, certificate, left: tokens.left, at }]),
      ...(flags === undefined ? [] : [{ of: 'flagBits' as const, certificate, left: flags.left, at }]),
    ];
    if (changed.length > 0) await this.#file.keep(changed);
  }
}

interface Kept {
  readonly file?: BudgetFile | undefined;
  readonly wall?: () => number;
}

interface Spending {
  readonly asked: number;
  /** In an hour. */
  readonly most: number;
  /** New tokens of the longest run that `most` is enough for. */
  readonly longest: number;
}

/** What each client may have of one kind in an hour: it fills again as time goes by. */
class Budget {
  readonly #what: string;
  readonly #now: () => number;
  readonly #before: (certificate: string) => Bucket | undefined;
  readonly #buckets = new Map<string, Bucket>();

  /** `before`: what a certificate had left when it was last here. */
  constructor(what: string, now: () => number, before: (certificate: string) => Bucket | undefined) {
    this.#what = what;
    this.#now = now;
    this.#before = before;
  }

  /** What is left to this client, which is as much as it asks for. Throws `TurnedAway` where it is not. */
  open(who: string, { asked, most, longest }: Spending): Bucket {
    if (asked > most)
      throw new TurnedAway('limit', `${asked} were asked for of ${this.#what}, ${most} are in an hour`, {
        limit: { of: 'newTokens', most: Math.min(longest, Number.MAX_SAFE_INTEGER) },
      });
    const now = this.#now();
    const bucket = this.#bucketOf(who, most, now);
    bucket.left = Math.min(most, bucket.left + ((now - bucket.at) * most) / hourMilliseconds);
    bucket.at = now;
    if (bucket.left >= asked) return bucket;
    const retrySeconds = Math.max(1, Math.ceil(((asked - bucket.left) * hourMilliseconds) / most / 1000));
    throw new TurnedAway('budget', `${this.#what} to one client in an hour are used up`, { retrySeconds });
  }

  #bucketOf(who: string, most: number, now: number): Bucket {
    const found = this.#buckets.get(who);
    if (found !== undefined) return found;
    if (this.#buckets.size >= mostBuckets)
      // Who has been away for an hour has all of it again.
      for (const [name, { at }] of this.#buckets) if (now - at >= hourMilliseconds) this.#buckets.delete(name);
    const name = this.#buckets.size < mostBuckets ? who : 'everybody else';
    const certificate = name.startsWith(certified) ? this.#before(name.slice(certified.length)) : undefined;
    const bucket = this.#buckets.get(name) ?? certificate ?? { left: most, at: now };
    this.#buckets.set(name, bucket);
    return bucket;
  }
}

const certified = 'certificate ';

/** Whom a party takes a peer for where it shares something out: its certificate, or else where it comes from. */
export function whoIs({ security, source }: Channel): string {
  const certificate = security?.certificate;
  return certificate === undefined ? `from ${placeOf(source)}` : `${certified}${certificate}`;
}

/** The source that strangers are counted by, too; everybody on this machine is one. */
export const placeOf = (source: string | undefined): string => sourceOf(source) ?? 'this machine';

/** Says at the start what clients may ask, what it costs to make, and how much of the last matrix it is. */
export async function logPolicy(
  log: Log,
  { policy, model, setting }: { readonly policy: AskPolicy; readonly model: ServedModel; readonly setting: Setting },
  trace: (run: RunRequest) => Promise<RunProgram>,
): Promise<void> {
  const { reveal, tokensPerHour, anonymousTokensPerHour, flagBitsPerHour, clientCertificates = false } = policy;
  const bounds = {
    ...(tokensPerHour === undefined ? {} : { tokensPerHour }),
    ...(anonymousTokensPerHour === undefined ? {} : { anonymousTokensPerHour }),
    ...(flagBitsPerHour === undefined ? {} : { flagBitsPerHour }),
  };
  const bounded = tokensPerHour !== undefined && (clientCertificates || anonymousTokensPerHour !== undefined);
  log(bounded ? 'info' : 'warn', 'policy', { reveal: reveal.join(','), clientCertificates, ...bounds });
  const ring: RingParameters = model.plan.ring ?? { bits: 64, fraction: 16 };
  const writes = writesText(model.config);
  for (const each of writes ? reveal : (['logits'] as const)) {
    const shown = each === 'token' ? { reveal: each } : {};
    const task = writes ? 'generate' : 'classify';
    const watched = flagBitsPerHour === 0 ? {} : ({ rangeFlags: true } as const);
    const { ringProgram } = await trace({ task, promptTokens: 1, newTokens: 1, ring, ...shown, ...watched });
    const { offline } = forecast(ringProgram, setting).total;
    const offlineBytes = offline.clientSentBytes + offline.serverSentBytes + offline.dealerSentBytes;
    log('info', 'forecast', { reveal: each, promptTokens: 1, newTokens: 1, offlineBytes, ...readBy(model, each) });
  }
}

/** Bits of a weight, for how much of a matrix a client reads. */
const weightBits = 16;

/** What a client that lies reads of the last matrix (docs/threat-model.md): bits a step, and steps until it has all of it. */
function readBy({ config }: ServedModel, reveal: Reveal): { bitsPerToken: number; tokensToRead: number } {
  const outputs = writesText(config) ? config.vocabSize : config.labels.length;
  // A set of logits is one linear equation for each of its words, whatever their precision.
  const bitsPerToken = reveal === 'logits' ? weightBits * outputs : Math.max(1, Math.log2(outputs));
  return {
    bitsPerToken: Math.ceil(bitsPerToken),
    tokensToRead: Math.ceil((config.hiddenSize * weightBits * outputs) / bitsPerToken),
  };
}
