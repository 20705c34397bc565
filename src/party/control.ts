import { z } from 'zod';
import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';

/** The version of everything that parties say to each other: control messages, streams, protocol. */
export const protocolVersion = 'sotto/1';
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
});
export type RunRequest = z.infer<typeof runSchema>;

const schemas = {
  /** First on every connection. */
  hello: z.strictObject({
    type: z.literal('hello'),
    version: z.string().regex(/^[ -~]{1,100}$/),
    role: z.enum(['client', 'server', 'dealer', 'helper']),
  }),
  /** Server → client: everything public about the model. */
  manifest: z.strictObject({
    type: z.literal('manifest'),
    config: z.record(z.string(), z.unknown()),
    files: z.record(z.string(), z.string()),
  }),
  /** Client → server. */
  request: z.strictObject({ type: z.literal('request'), run: runSchema, program: hex(32), nonce: hex(16) }),
  /** Server → dealer. */
  order: z.strictObject({
    type: z.literal('order'),
    config: z.record(z.string(), z.unknown()),
    run: runSchema,
    program: hex(32),
    weights: hex(32),
    nonces: z.strictObject({ client: hex(16), server: hex(16) }),
  }),
  /** Dealer → server → client: the run is agreed on. In the helper setting the helper speaks for the dealer, and `bundle` is the session. */
  session: z.strictObject({
    type: z.literal('session'),
    bundle: hex(16),
    program: hex(32),
    weights: hex(32),
    nonces: z.strictObject({ client: hex(16), server: hex(16), dealer: hex(16) }),
  }),
  /** Client → dealer: which session this connection belongs to. */
  join: z.strictObject({ type: z.literal('join'), bundle: hex(16), program: hex(32) }),
  /** Both ways before the run: the bundle is claimed durably. */
  claimed: z.strictObject({ type: z.literal('claimed'), bundle: hex(16) }),
  /** Client → server, in the helper setting, on both of their connections: they belong together. */
  beside: z.strictObject({ type: z.literal('beside'), token: hex(16) }),
  /** Client → server in the middle of a run: the text has ended; the rest of the bundle is burned. Server → helper: the same. */
  stop: z.strictObject({ type: z.literal('stop'), tokens: count }),
  /** Any: the peer gave up, and why. */
  refusal: z.strictObject({ type: z.literal('refusal'), reason: z.string().max(500) }),
} as const;
type Schemas = typeof schemas;
export type ControlType = keyof Schemas;
export type Control<T extends ControlType> = z.infer<Schemas[T]>;

/** Longest messages that are read at all. A refusal may come in place of any. */
const longBytes = 32 * 2 ** 20;
const shortBytes = 4096;
const limitBytes = (type: ControlType): number => (type === 'manifest' || type === 'order' ? longBytes : shortBytes);

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
  const frame = await channel.receive();
  if (frame.kind !== controlFrame) throw unexpected(channel.peer, `a frame of kind ${frame.kind}`, type);
  return parseControl(frame.payload, channel.peer, type);
}

/** Every byte is hostile: throws a `peer` error, and looks at nothing beyond the type's limit. */
export function parseControl<T extends ControlType>(payload: Uint8Array, peer: string, type: T): Control<T> {
  if (payload.length > limitBytes(type)) throw unexpected(peer, `${payload.length} bytes`, type);
  let raw: unknown;
  try {
    raw = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
  } catch (cause) {
    throw unexpected(peer, 'bytes that are not JSON', type, cause);
  }
  const refusal = schemas.refusal.safeParse(raw);
  if (refusal.success) throw refused(peer, refusal.data.reason);
  const result = schemas[type].safeParse(raw);
  if (!result.success)
    throw unexpected(peer, `something that is no ${type}: ${result.error.issues[0]!.message}`, type, result.error);
  return result.data as Control<T>;
}

/** How a refusal's sentence starts: the launcher tells an echo from its cause by it. */
export const refusedPrefix = 'refused: ';

function refused(party: string, reason: string): SottoError {
  // What a peer writes may end in a terminal.
  const printable = reason.replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, ' ');
  return new SottoError('peer', `${refusedPrefix}${printable}`, { place: { party }, remedy: "see that party's log" });
}

/** The same channel, on which a refusal may come at any time: in the middle of a phase it is the peer's reason, not a stray frame. */
export function heedingRefusals(channel: Channel): Channel {
  return {
    peer: channel.peer,
    counters: channel.counters,
    send: (kind, payload) => channel.send(kind, payload),
    close: (reason) => channel.close(reason),
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
  if (refusal.success) throw refused(party, refusal.data.reason);
}

function unexpected(party: string, what: string, type: string, cause?: unknown): SottoError {
  return new SottoError('peer', `sent ${what} where ${type} was due`, {
    place: { party },
    remedy: 'check that all parties run the same version of sotto',
    cause,
  });
}

/** Both sides say who they are; another version or role is a `peer` error, and the other side is told. */
export async function greet(channel: Channel, own: Control<'hello'>['role'], expected: readonly string[]): Promise<string> {
  await sendControl(channel, { type: 'hello', version: protocolVersion, role: own });
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
  return hello.role;
}

/** Tells the peer why this side gives up. The reason is this side's own sentence and holds no secret. */
export async function refuse(channel: Channel, reason: string): Promise<void> {
  await sendControl(channel, { type: 'refusal', reason: reason.slice(0, 500) }).catch(() => undefined);
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
