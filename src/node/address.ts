import type { TlsCredentials } from './tls.ts';

/**
 * `unix:/path`, `tcp:host:port`, `tls:host:port`, `ws:host:port[/path]` or `wss:host:port[/path]` (an IPv6 host in brackets; port 0 lets the
 * system choose when listening). Who listens may name several, with commas between.
 */
export type Address = string;

/** How a connection is made or waited for. Times are in milliseconds; a peer that is too slow is a `peer` error. */
export interface SocketOptions {
  readonly address: Address;
  /** The other side's name in error messages. */
  readonly peer: string;
  /** How long one receive or one send may wait for the peer. */
  readonly timeoutMilliseconds: number;
  readonly maximumPayloadBytes?: number;
  /** How long the handshake of an accepted connection may take; `timeoutMilliseconds` where absent. */
  readonly handshakeMilliseconds?: number;
  /** For `tls:` and `wss:` addresses, which need them; `peer` is then the role that the other side's certificate must name. */
  readonly credentials?: TlsCredentials | undefined;
  /** Pages of these origins (`https://example.org`) may come to `ws:` and `wss:` addresses that are listened on, `*` for any; none where absent. */
  readonly origins?: readonly string[] | undefined;
}

/** One address that is listened on. */
export interface Entrance {
  readonly address: Address;
  close(): void;
}
