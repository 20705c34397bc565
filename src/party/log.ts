import { printableJson, SottoError } from '../errors/index.ts';

/** What happened, as an operator may keep it: names, counts and times. Nothing that a party computed with or read ever gets here. */
export interface LogFields {
  readonly session?: string;
  /** The run's name at all its parties. */
  readonly run?: string;
  readonly peer?: string;
  readonly task?: string;
  readonly phase?: string;
  readonly address?: string;
  readonly manifest?: string;
  readonly promptTokens?: number;
  readonly newTokens?: number;
  readonly reveal?: string;
  readonly tokensPerHour?: number;
  readonly anonymousTokensPerHour?: number;
  readonly flagBitsPerHour?: number;
  readonly clientCertificates?: boolean;
  readonly offlineBytes?: number;
  readonly bitsPerToken?: number;
  readonly tokensToRead?: number;
  readonly sentBytes?: number;
  readonly receivedBytes?: number;
  readonly seconds?: number;
  readonly hops?: number;
  readonly count?: number;
  readonly kind?: string;
  readonly party?: string;
  readonly place?: string;
  readonly reason?: string;
  readonly at?: string;
}
/** How much an event matters to who operates a party. */
export type LogLevel = 'info' | 'warn' | 'error';
/** Takes events of a standing party: names and fields of a closed list, none of them secret. */
export type Log = (level: LogLevel, event: string, fields?: LogFields) => void;
export type LogFormat = 'json' | 'text';

/** One line an event; `time` gives the wall clock. */
export function logger(format: LogFormat, write: (line: string) => void, time: () => Date): Log {
  return (level, event, fields = {}) => {
    const stamp = time().toISOString();
    if (format === 'json') return write(`${printableJson({ time: stamp, level, event, ...fields })}\n`);
    const words = Object.entries(fields).map(([name, value]) => `${name}=${typeof value === 'string' ? quoted(value) : value}`);
    write(`${[stamp, level, event, ...words].join(' ')}\n`);
  };
}

const quoted = (text: string): string => (/^[\w.:/-]+$/.test(text) ? text : printableJson(text));

/**
 * What a line may say of an error. Sentences of typed errors are sotto's own or a peer's printable words; those of a stranger's error may quote
 * what it choked on, so only its class and where it was thrown are told.
 */
export function errorFields(error: unknown): LogFields {
  if (error instanceof SottoError) {
    const { party, ...place } = error.place;
    const where = Object.entries(place).map(([name, value]) => `${name} ${value}`);
    return {
      kind: error.kind,
      ...(party === undefined ? {} : { party }),
      ...(where.length === 0 ? {} : { place: where.join(', ').slice(0, 200) }),
      reason: error.reason.slice(0, 500),
    };
  }
  const frames = error instanceof Error ? (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line)) : [];
  const name = error instanceof Error ? error.name : typeof error;
  return {
    kind: 'unexpected',
    reason: `${name}: a defect of sotto`,
    at: frames
      .slice(0, 6)
      .map((line) => line.trim())
      .join(' < '),
  };
}
