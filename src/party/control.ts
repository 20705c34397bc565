import { z } from 'zod';
import { SottoError } from '../errors/index.ts';
import { deepestJson, nestedDeeper } from '../models/json.ts';
import type { Channel } from '../net/contract.ts';
import { Objection, type Refusal, Refused, refusalSchema, roles } from './refusals.ts';

/** The version of everything that parties say to each other: control messages, streams, protocol. */
export const protocolVersion = 'sotto/6';
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
  /** A text of secret length stands in the prompt's tokens, by the client's mask; their number is `promptTokens` alone where absent. */
  padded: z.literal(true).optional(),
  /** With every output goes one bit: whether a value left the range in which the run is exact. */
  rangeFlags: z.literal(true).optional(),
});
/** What a client asks for in the open: job, lengths, ring, and what is revealed. Nothing of it is secret. */
export type RunRequest = z.infer<typeof runSchema>;

/**
 * Every message there is. docs/threat-model.md has a row for each of the fields: who may know it, and what it opens (`test/party/fields.test.ts`
 * compares). No message carries a text that its sender wrote freely.
 */
export const schemas = {
  /** First on every connection. A client's second connection to the server says so by the token that it sent over the first. */
  hello: z.strictObject({
    type: z.literal('hello'),
    version: z.string().regex(/^sotto\/\d{1,6}$/),
    role: z.enum(roles),
    beside: hex(16).optional(),
  }),
  /** Server → client before the session, every few seconds: this many clients are served first. */
  waiting: z.strictObject({ type: z.literal('waiting'), ahead: z.number().int().min(0).max(1_000_000) }),
  /** Server → client: everything public about the model. */
  manifest: z.strictObject({
    type: z.literal('manifest'),
    config: z.record(z.string(), z.unknown()),
    files: z.record(z.string(), z.string()),
  }),
  /** Client → server. The nonce commits to the ticket by which this client, and nobody else, joins the session at the dealer. */
  request: z.strictObject({ type: z.literal('request'), run: runSchema, program: hex(32), nonce: hex(16) }),
  /** Dealer → server, first on every connection: what is said of this connection's rights is bound to it. */
  challenge: z.strictObject({ type: z.literal('challenge'), nonce: hex(32) }),
  /** Server → dealer: this connection stands, and copies of the weights are sent over it. On a plain address the server proves itself. */
  link: z.strictObject({ type: z.literal('link'), nonce: hex(32), proof: hex(32).optional() }),
  /** Dealer → server: the secret that vouches for orders by this link's copies; the dealer proves itself as the server did. */
  linked: z.strictObject({ type: z.literal('linked'), link: hex(16), secret: hex(32), proof: hex(32).optional() }),
  /** Server → dealer, on its link: hold a masked copy of the weights that this program reads, for later orders. V follows, then `copied` comes. */
  copy: z.strictObject({
    type: z.literal('copy'),
    config: z.record(z.string(), z.unknown()),
    run: runSchema,
    program: hex(32),
    copy: hex(32),
  }),
  copied: z.strictObject({ type: z.literal('copied'), copy: hex(32) }),
  /** Server → dealer, before an order: whose it is. The MAC is over every byte of the order and over the connection. */
  voucher: z.strictObject({ type: z.literal('voucher'), link: hex(16), mac: hex(32) }),
  /**
   * Server → dealer, behind its voucher: by a copy that the dealer holds. `ahead`: no client yet; the dealer stores the client's half, and the
   * nonce for the client is the server's.
   */
  order: z.strictObject({
    type: z.literal('order'),
    ahead: z.boolean(),
    config: z.record(z.string(), z.unknown()),
    run: runSchema,
    program: hex(32),
    copy: hex(32),
    nonces: z.strictObject({ client: hex(16), server: hex(16) }),
  }),
  /**
   * Dealer → server: the run is agreed on. In the helper setting the helper speaks for the dealer, and `bundle` is the session. Made `ahead`
   * it has the ticket, which the dealer forgets: the client's half is sealed under it.
   */
  agreed: z.strictObject({
    type: z.literal('agreed'),
    ahead: z.boolean(),
    bundle: hex(16),
    program: hex(32),
    nonces: z.strictObject({ client: hex(16), server: hex(16), dealer: hex(16) }),
    ticket: hex(32).optional(),
  }),
  /**
   * Server → client: the same. `ahead`: the material was made before this client came, so the client's nonce is not the one it sent, and
   * the ticket is not its own.
   */
  session: z.strictObject({
    type: z.literal('session'),
    ahead: z.boolean(),
    bundle: hex(16),
    program: hex(32),
    nonces: z.strictObject({ client: hex(16), server: hex(16), dealer: hex(16) }),
    ticket: hex(32).optional(),
  }),
  /** Client → dealer: which session this connection belongs to, and what only its client knows. */
  join: z.strictObject({ type: z.literal('join'), bundle: hex(16), program: hex(32), ticket: hex(32) }),
  /** Both ways before the run: the bundle is claimed durably. */
  claimed: z.strictObject({ type: z.literal('claimed'), bundle: hex(16) }),
  /** Dealer → server, after the material of an order made ahead: the client's half is on disk. */
  stored: z.strictObject({ type: z.literal('stored'), bundle: hex(16) }),
  /** Client → server, in the helper setting: the token in the hello of the connection that it opens next. */
  beside: z.strictObject({ type: z.literal('beside'), token: hex(16) }),
  /** Client → server in the middle of a run, where its policy lets that show: the text has ended. Server → helper: the same. */
  stop: z.strictObject({ type: z.literal('stop'), tokens: count }),
  refusal: refusalSchema,
} as const;
type Schemas = typeof schemas;
/** The kinds of control messages of the protocol. */
export type ControlType = keyof Schemas;
/** A control message of a kind, as its schema has checked it. */
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
  await channel.send(controlFrame, encodeControl(message));
}

export function encodeControl<T extends ControlType>(message: Control<T>): Uint8Array<ArrayBuffer> {
  const payload = new TextEncoder().encode(JSON.stringify(message));
  if (payload.length > limitBytes(message.type))
    throw new SottoError('input', `the public files of the model make a ${message.type} of ${payload.length} bytes`, {
      remedy: `at most ${limitBytes(message.type)} bytes are sent: take a smaller tokenizer.json`,
    });
  return payload;
}

/** Reads a control message of one type. A refusal, another type or another frame is a `peer` error that says so. */
export async function receiveControl<T extends ControlType>(channel: Channel, type: T): Promise<Control<T>> {
  return await receiveEither(channel, [type]);
}

/** The same where messages of several types may come; they are told apart by their `type`. */
export async function receiveEither<T extends ControlType>(channel: Channel, types: readonly [T, ...T[]]): Promise<Control<T>> {
  return parseControl(await receiveBytes(channel, types.join(' or ')), channel.peer, ...types);
}

/** A control message as it came, before anything is made of it. */
export async function receiveBytes(channel: Channel, due: string): Promise<Uint8Array> {
  const { kind, payload } = await channel.receive();
  if (kind !== controlFrame) throw unexpected(channel.peer, `a frame of kind ${kind}`, due);
  return payload;
}

/** The session, after as many notes as the server sends while others are served. */
export async function receiveSession(channel: Channel): Promise<Control<'session'>> {
  for (;;) {
    const message = await receiveEither<'session' | 'waiting'>(channel, ['session', 'waiting']);
    if (message.type === 'session') return message;
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
  } catch {
    // The parser's own words would quote the peer's.
    throw unexpected(peer, 'bytes that are not JSON', due);
  }
  if (nestedDeeper(raw, deepestJson)) throw unexpected(peer, `JSON that is nested deeper than ${deepestJson} levels`, due);
  const refusal = schemas.refusal.safeParse(raw);
  if (refusal.success) throw new Refused(peer, refusal.data);
  const type = types.find((each) => each === (raw as { type?: unknown } | null)?.type) ?? types[0];
  const result = schemas[type].safeParse(raw);
  if (!result.success) throw unexpected(peer, `something that is no ${due}${wrongField(type, result.error)}`, due);
  if (payload.length > limitBytes(type)) throw unexpected(peer, `${payload.length} bytes`, type);
  return result.data as Control<T>;
}

/** Which of a message's own fields is wrong; nothing that the peer wrote. */
function wrongField(type: ControlType, error: z.ZodError): string {
  const field = error.issues[0]?.path[0];
  return typeof field === 'string' && field in schemas[type].shape ? ` (${field})` : '';
}

/** The same channel, on which a refusal may come at any time: in the middle of a phase it is the peer's reason, not a stray frame. */
export function heedingRefusals(channel: Channel): Channel {
  return {
    peer: channel.peer,
    counters: channel.counters,
    gone: channel.gone,
    security: channel.security,
    source: channel.source,
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

function unexpected(party: string, what: string, type: string): SottoError {
  return new SottoError('peer', `sent ${what} where ${type} was due`, {
    place: { party },
    remedy: 'check that all parties run the same version of sotto',
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
  const party = channel.peer;
  if (hello.version !== protocolVersion) {
    await refuse(channel, { code: 'version' });
    const remedy = 'install the same version of sotto on both sides';
    throw new Objection('version', `speaks ${hello.version}, this party ${protocolVersion}`, { party, remedy });
  }
  if (!expected.includes(hello.role)) {
    await refuse(channel, { code: 'role' });
    throw new Objection('role', `is a ${hello.role}`, { party, remedy: `connect a ${expected.join(' or ')} here` });
  }
  return hello;
}

/** Tells the peer that this side gives up. */
export async function refuse(channel: Channel, refusal: Refusal): Promise<void> {
  await sendControl(channel, { type: 'refusal', ...refusal }).catch(() => undefined);
}

/** Program hashes must agree before anything secret is said. */
export function sameProgram(party: string, theirs: string, own: string): void {
  if (theirs !== own)
    throw new Objection('program', `runs the program ${theirs.slice(0, 12)}…, this party ${own.slice(0, 12)}…`, {
      party,
      remedy: 'use the same model, plan, lengths, ring and version of sotto on all sides',
    });
}
