import { forecast, type Setting } from '../backends/cost/index.ts';
import type { RingParameters } from '../backends/ring/index.ts';
import type { Channel } from '../net/contract.ts';
import { sourceOf } from '../node/strangers.ts';
import type { RunRequest } from './control.ts';
import type { Log } from './log.ts';
import type { RunProgram } from './manifest.ts';
import type { ServedModel } from './model.ts';
import { Objection, TurnedAway } from './refusals.ts';

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
  /** Nobody without a certificate is a client. */
  readonly clientCertificates?: boolean | undefined;
}

export const openPolicy: AskPolicy = { reveal: ['logits', 'token'] };

/** Throws where the policy asks clients for certificates and this one shows none. */
export function checkCertificate(client: Channel, { clientCertificates }: Pick<AskPolicy, 'clientCertificates'>): void {
  if (clientCertificates !== true || client.security?.certificate !== undefined) return;
  throw new Objection('role', 'shows no certificate, and clients without one are not served here', {
    party: 'client',
    remedy: 'give the client a certificate, and a tls: address',
  });
}

interface Bucket {
  tokens: number;
  at: number;
}

const hourMilliseconds = 3_600_000;
/** Of whom a count is kept; who comes when there are so many shares one with all others that come then. */
const mostBuckets = 2 ** 16;

/** What clients have asked for, counted when they ask: who goes in the middle of a run has paid for all of it. */
export class Asking {
  readonly #policy: AskPolicy;
  readonly #now: () => number;
  readonly #buckets = new Map<string, Bucket>();

  /** `now` in milliseconds. */
  constructor(policy: AskPolicy, now: () => number) {
    this.#policy = policy;
    this.#now = now;
  }

  /** Throws `TurnedAway` where this client may not have this run, or not yet; counts it otherwise. */
  take(client: Channel, run: RunRequest): void {
    const { reveal, tokensPerHour, anonymousTokensPerHour } = this.#policy;
    if (!reveal.includes(run.reveal ?? 'logits'))
      throw new TurnedAway('reveal', `${run.reveal ?? 'logits'} were asked for, and ${reveal.join(' and ')} are revealed here`);
    const most = client.security?.certificate === undefined ? anonymousTokensPerHour : tokensPerHour;
    if (most === undefined) return;
    const asked = run.task === 'classify' ? 1 : run.newTokens;
    if (asked > most)
      throw new TurnedAway('limit', `${asked} tokens were asked for, ${most} are opened in an hour`, {
        limit: { of: 'newTokens', most },
      });
    this.#spend(whoIs(client), asked, most);
  }

  #spend(who: string, asked: number, most: number): void {
    const now = this.#now();
    const bucket = this.#bucketOf(who, most, now);
    bucket.tokens = Math.min(most, bucket.tokens + ((now - bucket.at) * most) / hourMilliseconds);
    bucket.at = now;
    if (bucket.tokens < asked) {
      const retrySeconds = Math.max(1, Math.ceil(((asked - bucket.tokens) * hourMilliseconds) / most / 1000));
      throw new TurnedAway('budget', 'the tokens that are opened to one client in an hour are used up', { retrySeconds });
    }
    bucket.tokens -= asked;
  }

  #bucketOf(who: string, most: number, now: number): Bucket {
    const found = this.#buckets.get(who);
    if (found !== undefined) return found;
    if (this.#buckets.size >= mostBuckets)
      // Who has been away for an hour has all of it again.
      for (const [name, { at }] of this.#buckets) if (now - at >= hourMilliseconds) this.#buckets.delete(name);
    const name = this.#buckets.size < mostBuckets ? who : 'everybody else';
    const bucket = this.#buckets.get(name) ?? { tokens: most, at: now };
    this.#buckets.set(name, bucket);
    return bucket;
  }
}

/** Whom a party takes a peer for where it shares something out: its certificate, or else where it comes from. */
export function whoIs({ security, source }: Channel): string {
  const certificate = security?.certificate;
  return certificate === undefined ? `from ${placeOf(source)}` : `certificate ${certificate}`;
}

/** The source that strangers are counted by, too; everybody on this machine is one. */
export const placeOf = (source: string | undefined): string => sourceOf(source) ?? 'this machine';

/** Says at the start what clients may ask, what it costs to make, and how much of the last matrix it is. */
export async function logPolicy(
  log: Log,
  { policy, model, setting }: { readonly policy: AskPolicy; readonly model: ServedModel; readonly setting: Setting },
  trace: (run: RunRequest) => Promise<RunProgram>,
): Promise<void> {
  const { reveal, tokensPerHour, anonymousTokensPerHour, clientCertificates = false } = policy;
  const bounds = {
    ...(tokensPerHour === undefined ? {} : { tokensPerHour }),
    ...(anonymousTokensPerHour === undefined ? {} : { anonymousTokensPerHour }),
  };
  const bounded = tokensPerHour !== undefined && (clientCertificates || anonymousTokensPerHour !== undefined);
  log(bounded ? 'info' : 'warn', 'policy', { reveal: reveal.join(','), clientCertificates, ...bounds });
  const ring: RingParameters = model.plan.ring ?? { bits: 64, fraction: 16 };
  const { family } = model.config;
  if (family === 'bert') return;
  for (const each of family === 'llama' ? reveal : (['logits'] as const)) {
    const shown = each === 'token' ? { reveal: each } : {};
    const task = family === 'llama' ? 'generate' : 'classify';
    const { ringProgram } = await trace({ task, promptTokens: 1, newTokens: 1, ring, ...shown });
    const { offline } = forecast(ringProgram, setting).total;
    const offlineBytes = offline.clientSentBytes + offline.serverSentBytes + offline.dealerSentBytes;
    log('info', 'forecast', { reveal: each, promptTokens: 1, newTokens: 1, offlineBytes });
  }
}
