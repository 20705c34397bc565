import { z } from 'zod';
import { SottoError } from '../errors/index.ts';

/**
 * How parties turn each other away: one of a list of reasons, with numbers from a list of names. Each receiver makes its own sentence of
 * it, so that no text of a peer, and nothing that a party computed with, is ever carried by a failure.
 */

/**
 * Why a party that is well turns a session away: it may be served later (`full`, `draining`, `budget`), or asked for less (`limit`) or for
 * something else (`reveal`).
 */
const admissionCodes = ['full', 'draining', 'limit', 'budget', 'reveal'] as const;
export type AdmissionCode = (typeof admissionCodes)[number];
/** What is wrong with the peer's own words: its version or role, its program, a session or an order that is not its to name; or that they do not come. */
const objectionCodes = ['version', 'role', 'program', 'session', 'order', 'late'] as const;
type ObjectionCode = (typeof objectionCodes)[number];
export const roles = ['client', 'server', 'dealer', 'helper'] as const;
const limited = ['promptTokens', 'newTokens', 'maskedBytes'] as const;

/**
 * The peer gave up, and which of the known reasons it is. With `failed` and `late`, `party` is who let it down; with another code, who said
 * so first.
 */
export const refusalSchema = z.strictObject({
  type: z.literal('refusal'),
  code: z.enum([...admissionCodes, ...objectionCodes, 'failed']),
  party: z.enum(roles).optional(),
  retrySeconds: z.number().int().min(1).max(86_400).optional(),
  limit: z.strictObject({ of: z.enum(limited), most: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER) }).optional(),
});
export type Refusal = Omit<z.infer<typeof refusalSchema>, 'type'>;

/** How a refusal's sentence starts: the launcher tells an echo from its cause by it. */
export const refusedPrefix = 'refused: ';

const limitNames = { promptTokens: 'prompt tokens', newTokens: 'new tokens', maskedBytes: 'bytes of masked weights' } as const;

/** What a refusal means, in this party's own words. */
function sentenceOf({ code, limit, party }: Refusal): string {
  if (code === 'failed') return party === undefined ? 'it met an error of its own' : `it was let down by party ${party}`;
  if (code === 'late') return `what was due${party === undefined ? '' : ` from party ${party}`} did not come in time`;
  const most = limit === undefined ? '' : `: at most ${limit.most} ${limitNames[limit.of]} are served`;
  const sentences = {
    full: 'as many sessions are served, and wait, as may',
    draining: 'it is shutting down',
    budget: 'the tokens, or the range flags, that one client is told in an hour are used up',
    reveal: 'this is not revealed there: ask for the other of logits and token, or for no range flags',
    limit: `more was asked for than is served${most}`,
    version: 'another version of sotto was expected',
    role: 'this role has no business there',
    program: 'the programs of the two sides differ',
    session: 'the session that was joined is not known there',
    order: 'the order is not by a copy that this server has brought there',
  } satisfies Record<Exclude<Refusal['code'], 'failed' | 'late'>, string>;
  return `${party === undefined ? '' : `party ${party}: `}${sentences[code]}`;
}

const isAdmission = (code: Refusal['code']): code is AdmissionCode => (admissionCodes as readonly string[]).includes(code);

/** A peer turned this party away. Of kind `peer` where something failed there; `resource` where it is well and has no room, or a limit. */
export class Refused extends SottoError {
  readonly code: Refusal['code'];
  /** With `late`: who was. */
  readonly late: Refusal['party'];
  readonly retrySeconds: number | undefined;
  readonly limit: Refusal['limit'];
  constructor(party: string, refusal: Refusal) {
    const { code, retrySeconds } = refusal;
    const again = retrySeconds === undefined ? 'ask for less' : `try again in ${retrySeconds} s`;
    const remedy = isAdmission(code) ? again : "see that party's log";
    super(isAdmission(code) ? 'resource' : 'peer', `${refusedPrefix}${sentenceOf(refusal)}`, { place: { party }, remedy });
    this.code = code;
    this.late = code === 'late' ? refusal.party : undefined;
    this.retrySeconds = retrySeconds;
    this.limit = refusal.limit;
  }

  /** That party is well, and only has no room for this. */
  get turnedAway(): boolean {
    return isAdmission(this.code);
  }
}

/** A peer's words are not as they must be, and it is told which of them. */
export class Objection extends SottoError {
  readonly code: ObjectionCode;
  constructor(code: ObjectionCode, reason: string, { party, remedy }: { readonly party: string; readonly remedy: string }) {
    super('peer', reason, { place: { party }, remedy });
    this.code = code;
  }
}

/** This party is well and takes no such session now. */
export class TurnedAway extends SottoError {
  readonly code: AdmissionCode;
  readonly retrySeconds: number | undefined;
  readonly limit: Refusal['limit'];
  constructor(code: AdmissionCode, reason: string, { retrySeconds, limit }: Pick<Refusal, 'retrySeconds' | 'limit'> = {}) {
    super('resource', reason, { remedy: retrySeconds === undefined ? 'ask for less' : `try again in ${retrySeconds} s` });
    this.code = code;
    this.retrySeconds = retrySeconds;
    this.limit = limit;
  }
}

/**
 * What a peer may learn of an error: one of the known reasons, and of what peers did, which of them did it. Any sentence may tell of the
 * prompt, of a path or of a weight, so that none goes out.
 */
export function refusalOf(error: unknown): Refusal {
  if (error instanceof TurnedAway) return admissionOf(error);
  if (!(error instanceof SottoError)) return { code: 'failed' };
  const party = roles.find((role) => role === error.place.party);
  const said = party === undefined ? {} : { party };
  // Not only who was late hears of it.
  if (error instanceof Objection) return error.code === 'late' ? { code: 'late', ...said } : { code: error.code };
  if (error instanceof Refused && error.code === 'late')
    return { code: 'late', ...said, ...(error.late === undefined ? {} : { party: error.late }) };
  if (error instanceof Refused && error.turnedAway) return { ...admissionOf(error), ...said };
  return error.kind === 'peer' ? { code: 'failed', ...said } : { code: 'failed' };
}

const admissionOf = ({ code, retrySeconds, limit }: TurnedAway | Refused): Refusal => ({
  code,
  ...(retrySeconds === undefined ? {} : { retrySeconds }),
  ...(limit === undefined ? {} : { limit }),
});
