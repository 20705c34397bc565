import { z } from 'zod';
import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';

/** The version of everything that parties say to each other: control messages, streams, protocol. */
export const protocolVersion = 'sotto/2';
/** The frame kind of control messages: JSON before and after the phases, and in the middle of a run only `stop`. */
export const controlFrame = 0;

const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`));
const count = z.number().int().min(1).max(1_000_000);
export const ringSchema = z.strictObject({ bits: z.number().int().min(4).max(64), fraction: z.number().int().min(1).max(40) });
/** What a run is: the client asks for it, the server checks it, all three trace it. */
export const runSchema = z.strictObject({
  task: z.enum(['generate', 'classify']),
  promptTokens: count,
  newTokens: count,
  ring: ringSchema,
  /** What a text's client learns of each step: all logits (where absent), or the likeliest token alone. */
  reveal: z.enum(['logits', 'token']).optional(),
});
export type RunRequest = z.infer<typeof runSchema>;

/** Why a party that is well turns a session away: it may be served later (`full`, `draining`), or asked for less (`limit`). */
export const refusalCodes = ['full', 'draining', 'limit'] as const;
export type RefusalCode = (typeof refusalCodes)[number];

const schemas = {
  /** First on every connection. A client's second connection to the server says so by the token that it sent over the first. */
  hello: z.strictObject({
    type: z.literal('hello'),
    version: z.string().regex(/^[ -~]{1,100}$/),
    role: z.enum(['client', 'server', 'dealer', 'helper']),
    beside: hex(16).optional(),
  }),
  /** Server → client before the manifest, every few seconds: this many clients are served first. */
  waiting: z.strictObject({ type: z.literal('waiting'), ahead: z.number().int().min(0).max(1_000_000) }),
  /** Server → client: everything public about the model. */
  manifest: z.strictObject({
    type: z.literal('manifest'),
    config: z.record(z.string(), z.unknown()),
    files: z.record(z.string(), z.string()),
  }),
  /** Client → server. */
  request: z.strictObject({ type: z.literal('request'), run: runSchema, program: hex(32), nonce: hex(16) }),
  /** Server → dealer: this connection stands, and copies of the weights are sent over it. */
  link: z.strictObject({ type: z.literal('link') }),
  /** Server → dealer, on its standing connection: hold a masked copy of the weights that this program reads, for later orders. V follows, then `copied` comes. */
  copy: z.strictObject({
    type: z.literal('copy'),
    config: z.record(z.string(), z.unknown()),
    run: runSchema,
    program: hex(32),
    weights: hex(32),
  }),
  copied: z.strictObject({ type: z.literal('copied'), weights: hex(32) }),
  /**
   * Server → dealer. `setup`: V follows on this connection, or the dealer holds it by the name in `weights`. `ahead`: no client yet; the
   * dealer stores the client's half for whoever joins by the bundle's id, and the nonce for the client is the server's.
   */
  order: z.strictObject({
    type: z.literal('order'),
    setup: z.enum(['here', 'held']),
    ahead: z.boolean(),
    config: z.record(z.string(), z.unknown()),
    run: runSchema,
    program: hex(32),
    weights: hex(32),
    nonces: z.strictObject({ client: hex(16), server: hex(16) }),
  }),
  /**
   * Dealer → server → client: the run is agreed on. In the helper setting the helper speaks for the dealer, and `bundle` is the session.
   * `ahead`: the material was made before this client came, so the client's nonce is not the one it sent.
   */
  session: z.strictObject({
    type: z.literal('session'),
    ahead: z.boolean(),
    bundle: hex(16),
    program: hex(32),
    weights: hex(32),
    nonces: z.strictObject({ client: hex(16), server: hex(16), dealer: hex(16) }),
  }),
  /** Client → dealer: which session this connection belongs to. */
  join: z.strictObject({ type: z.literal('join'), bundle: hex(16), program: hex(32) }),
  /** Both ways before the run: the bundle is claimed durably. */
  claimed: z.strictObject({ type: z.literal('claimed'), bundle: hex(16) }),
  /** Dealer → server, after the material of an order made ahead: the client's half is on disk. */
  stored: z.strictObject({ type: z.literal('stored'), bundle: hex(16) }),
  /** Client → server, in the helper setting: the token in the hello of the connection that it opens next. */
  beside: z.strictObject({ type: z.literal('beside'), token: hex(16) }),
  /** Client → server in the middle of a run: the text has ended; the rest of the bundle is burned. Server → helper: the same. */
  stop: z.strictObject({ type: z.literal('stop'), tokens: count }),
  /** Any: the peer gave up, and why. With a code nothing failed: it turns this session away. */
  refusal: z.strictObject({
    type: z.literal('refusal'),
    reason: z.string().max(500),
    code: z.enum(refusalCodes).optional(),
    retrySeconds: z.number().int().min(1).max(86_400).optional(),
  }),
} as const;
type Schemas = typeof schemas;
export type ControlType = keyof Schemas;
export type Control<T extends ControlType> = z.infer<Schemas[T]>;

/** Longest messages that are read at all: a manifest has a tokenizer, an order a configuration. A refusal may come in place of any. */
const manifestBytes = 32 * 2 ** 20;
const longBytes = 2 ** 20;
const shortBytes = 4096;
const limitBytes = (type: ControlType): number =>
  type === 'manifest' ? manifestBytes : type === 'order' || type === 'copy' ? longBytes : shortBytes;
/** What a channel must take for the control messages of a server to its client, of a server to its dealer, and of anybody else. */
export const manifestControlBytes = manifestBytes;
export const longControlBytes = longBytes;
export const shortControlBytes = shortBytes;

export async function sendControl<T extends ControlType>(channel: Channel, message: Control<T>): Promise<void> {
  const payload = new TextEncoder().encode(JSON.stringify(message));
  if (payload.length > limitBytes(message.type))
    throw new SottoError('input', `the public files of the model make a ${message.type} of ${payload.length} bytes`, {
      remedy: `at most ${limitBytes(message.type)} bytes are sent: take a smaller tokenizer.json`,
    });
  await channel.send(controlFrame, payload);
}

/** Reads a control message of one type. A refusal, another type or another frame is a `peer` error that says so. */
export async function receiveControl<T extends ControlType>(channel: Channel, type: T): Promise<Control<T>> {
  return await receiveEither(channel, [type]);
}

/** The same where messages of several types may come; they are told apart by their `type`. */
export async function receiveEither<T extends ControlType>(channel: Channel, types: readonly [T, ...T[]]): Promise<Control<T>> {
  const frame = await channel.receive();
  if (frame.kind !== controlFrame) throw unexpected(channel.peer, `a frame of kind ${frame.kind}`, types.join(' or '));
  return parseControl(frame.payload, channel.peer, ...types);
}

/** The manifest, after as many notes as the server sends while others are served. */
export async function receiveManifest(channel: Channel, onWaiting?: (ahead: number) => void): Promise<Control<'manifest'>> {
  for (;;) {
    const message = await receiveEither<'manifest' | 'waiting'>(channel, ['manifest', 'waiting']);
    if (message.type === 'manifest') return message;
    onWaiting?.(message.ahead);
  }
}

/** Every byte is hostile: throws a `peer` error, and looks at nothing beyond the types' limit. */
export function parseControl<T extends ControlType>(
  payload: Uint8Array,
  peer: string,
  ...types: readonly [T, ...T[]]
): Control<T> {
  const due = types.join(' or ');
  if (payload.length > Math.max(...types.map(limitBytes))) throw unexpected(peer, `${payload.length} bytes`, due);
  let raw: unknown;
  try {
    raw = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
  } catch (cause) {
    throw unexpected(peer, 'bytes that are not JSON', due, cause);
  }
  const refusal = schemas.refusal.safeParse(raw);
  if (refusal.success) throw new Refused(peer, refusal.data);
  const type = types.find((each) => each === (raw as { type?: unknown } | null)?.type) ?? types[0];
  const result = schemas[type].safeParse(raw);
  if (!result.success)
    throw unexpected(peer, `something that is no ${due}: ${result.error.issues[0]!.message}`, due, result.error);
  if (payload.length > limitBytes(type)) throw unexpected(peer, `${payload.length} bytes`, type);
  return result.data as Control<T>;
}

/** How a refusal's sentence starts: the launcher tells an echo from its cause by it. */
export const refusedPrefix = 'refused: ';

/** A peer turned this party away. Of kind `peer` where something failed there; `resource` where it is well and has no room, or a limit. */
export class Refused extends SottoError {
  readonly code: RefusalCode | undefined;
  readonly retrySeconds: number | undefined;
  constructor(party: string, { reason, code, retrySeconds }: Omit<Control<'refusal'>, 'type'>) {
    // What a peer writes may end in a terminal.
    const printable = reason.replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, ' ');
    const again = retrySeconds === undefined ? 'ask for less' : `try again in ${retrySeconds} s`;
    const remedy = code === undefined ? "see that party's log" : again;
    super(code === undefined ? 'peer' : 'resource', `${refusedPrefix}${printable}`, { place: { party }, remedy });
    this.code = code;
    this.retrySeconds = retrySeconds;
  }
}

/** The same channel, on which a refusal may come at any time: in the middle of a phase it is the peer's reason, not a stray frame. */
export function heedingRefusals(channel: Channel): Channel {
  return {
    peer: channel.peer,
    counters: channel.counters,
    gone: channel.gone,
    send: (kind, payload) => channel.send(kind, payload),
    close: (reason) => channel.close(reason),
    allow: (bytes) => channel.allow?.(bytes),
    async receive() {
      const frame = await channel.receive();
      if (frame.kind === controlFrame && frame.payload.length <= shortBytes) refuseIfRefused(channel.peer, frame.payload);
      return frame;
    },
  };
}

function refuseIfRefused(party: string, payload: Uint8Array): void {
  let raw: unknown;
  try {
    raw = JSON.parse(new TextDecoder().decode(payload));
  } catch {
    return;
  }
  const refusal = schemas.refusal.safeParse(raw);
  if (refusal.success) throw new Refused(party, refusal.data);
}

function unexpected(party: string, what: string, type: string, cause?: unknown): SottoError {
  return new SottoError('peer', `sent ${what} where ${type} was due`, {
    place: { party },
    remedy: 'check that all parties run the same version of sotto',
    cause,
  });
}

/** Both sides say who they are; another version or role is a `peer` error, and the other side is told. Gives the other's words. */
export async function greet(
  channel: Channel,
  own: Control<'hello'>['role'],
  expected: readonly string[],
  more: Pick<Control<'hello'>, 'beside'> = {},
): Promise<Control<'hello'>> {
  await sendControl(channel, { type: 'hello', version: protocolVersion, role: own, ...more });
  const hello = await receiveControl(channel, 'hello');
  if (hello.version !== protocolVersion) {
    await refuse(channel, `version ${protocolVersion} was expected, not ${hello.version}`);
    throw new SottoError('peer', `speaks ${hello.version}, this party ${protocolVersion}`, {
      place: { party: channel.peer },
      remedy: 'install the same version of sotto on both sides',
    });
  }
  if (!expected.includes(hello.role)) {
    await refuse(channel, `the role ${hello.role} has no business here`);
    throw new SottoError('peer', `is a ${hello.role}`, {
      place: { party: channel.peer },
      remedy: `connect a ${expected.join(' or ')} here`,
    });
  }
  return hello;
}

/** Tells the peer why this side gives up. The reason is this side's own sentence and holds no secret. */
export async function refuse(
  channel: Channel,
  reason: string,
  admission: Pick<Control<'refusal'>, 'code' | 'retrySeconds'> = {},
): Promise<void> {
  await sendControl(channel, { type: 'refusal', reason: reason.slice(0, 500), ...admission }).catch(() => undefined);
}

/**
 * What a peer may learn of an error. A sentence about peers is made of what peers did; any other may tell of the prompt, of a path or of
 * a weight, so that only its kind goes out.
 */
export function publicReason(error: unknown): string {
  if (!(error instanceof SottoError)) return 'it failed';
  if (error.kind !== 'peer') return `it met an error of kind ${error.kind}`;
  return `${error.place.party === undefined ? '' : `party ${error.place.party}: `}${error.reason}`;
}

/** Program hashes must agree before anything secret is said. */
export function sameProgram(party: string, theirs: string, own: string): void {
  if (theirs !== own)
    throw new SottoError('peer', `runs the program ${theirs.slice(0, 12)}…, this party ${own.slice(0, 12)}…`, {
      place: { party },
      remedy: 'use the same model, plan, lengths, ring and version of sotto on all sides',
    });
}
