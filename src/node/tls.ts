import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { connect, createServer, type SecureVersion, type TLSSocket } from 'node:tls';
import { SottoError } from '../errors/index.ts';
import type { ChannelSecurity } from '../net/contract.ts';

/**
 * TLS 1.3 between parties. Who a peer is follows from its certificate alone: signed by the authority that the operator named, and with the
 * role as a DNS name (`server.sotto`, `dealer.sotto`, `helper.sotto`, `client.sotto`) among its subject's alternative names. Addresses and host names prove
 * nothing here. Dealer, helper and server always show a certificate; a client may come without one. Revocation lists are not read.
 */
export type TlsRole = 'server' | 'dealer' | 'helper' | 'client';

/** PEM files that the operator names. Only a client may leave out certificate and key. */
export interface TlsFiles {
  readonly authority: string;
  readonly certificate?: string | undefined;
  readonly key?: string | undefined;
}

/** Files that were read and fit together. */
export interface TlsCredentials {
  readonly authority: string;
  readonly own?: { readonly certificate: string; readonly key: string };
}

/** The DNS name that a certificate for a role carries. */
export const tlsName = (role: TlsRole): string => `${role}.sotto`;

const minVersion: SecureVersion = 'TLSv1.3';

/**
 * Reads the files of one role. Throws an `input` error with the file where one cannot be read or parsed, has expired, is for another role, or where
 * key and certificate do not belong together: better at the start than in a handshake, of which a peer sees only that it ended.
 */
export function loadCredentials(files: TlsFiles, role: TlsRole, now: Date): TlsCredentials {
  const authority = readPem(files.authority);
  parseCertificate(authority, files.authority);
  if (files.certificate === undefined && files.key === undefined && role === 'client') return { authority };
  if (files.certificate === undefined || files.key === undefined) {
    throw new SottoError('usage', 'certificate and key belong together', {
      place: { party: role, field: files.certificate === undefined ? '--certificate' : '--key' },
      remedy: role === 'client' ? 'give both files or neither' : 'give both files',
    });
  }
  const certificate = readPem(files.certificate);
  const parsed = parseCertificate(certificate, files.certificate);
  const wrong = (reason: string, remedy: string, file = files.certificate!) =>
    new SottoError('input', reason, { place: { party: role, file }, remedy });
  if (now < new Date(parsed.validFrom))
    throw wrong(`the certificate is not valid before ${parsed.validFrom}`, 'check the clock of this host');
  if (now > new Date(parsed.validTo)) throw wrong(`the certificate expired at ${parsed.validTo}`, 'have a new one signed');
  if (!hasRole(parsed, role)) throw wrong(`the certificate is not for ${tlsName(role)}`, `name the certificate of the ${role}`);
  const key = readPem(files.key);
  if (!parsed.checkPrivateKey(parseKey(key, files.key)))
    throw wrong('the key is not that of the certificate', 'name the key that was made with the certificate', files.key);
  return { authority, own: { certificate, key } };
}

function readPem(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const remedy = 'name a file that this user can read';
    throw new SottoError('input', `the file cannot be read${code ? ` (${code})` : ''}`, { place: { file }, remedy, cause });
  }
}

function parseCertificate(pem: string, file: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    const remedy = 'name a certificate as PEM text';
    throw new SottoError('input', 'the file holds no certificate', { place: { file }, remedy, cause });
  }
}

function parseKey(pem: string, file: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    const remedy = 'name an unencrypted private key as PEM text';
    throw new SottoError('input', 'the file holds no private key', { place: { file }, remedy, cause });
  }
}

/** Neither the common name nor a wildcard counts. */
const hasRole = (certificate: X509Certificate, role: string): boolean =>
  certificate.checkHost(`${role}.sotto`, { subject: 'never', wildcards: false }) !== undefined;

export interface SecureOptions {
  /** Whom the peer must show itself to be. */
  readonly peer: string;
  /** Whom it may show itself to be where several may come; `peer` is then only for error messages. */
  readonly peers?: readonly string[];
  readonly credentials: TlsCredentials;
  /** The handshake's limit. */
  readonly timeoutMilliseconds: number;
}

/** Makes TLS of a connected socket, as the side that connected. Takes the socket over; every failure is a `peer` error. */
export function secureConnector(socket: Socket, options: SecureOptions): Promise<TLSSocket> {
  const { peer, credentials, timeoutMilliseconds } = options;
  return new Promise((resolve, reject) => {
    const secure = connect({
      socket,
      ca: credentials.authority,
      ...(credentials.own === undefined ? {} : { cert: credentials.own.certificate, key: credentials.own.key }),
      minVersion,
      // Said here, or the environment could say otherwise.
      rejectUnauthorized: true,
      servername: `${peer}.sotto`,
      checkServerIdentity: (_, { raw }) =>
        hasRole(new X509Certificate(raw), peer) ? undefined : Object.assign(new Error('another role'), { code: wrongRole }),
    });
    const ended = (error: Error): void => {
      clearTimeout(timer);
      secure.destroy();
      socket.destroy();
      reject(handshakeError(peer, error));
    };
    const closed = (): void => ended(codedError('ECONNRESET'));
    const timer = setTimeout(() => ended(codedError(timedOut)), timeoutMilliseconds);
    secure.once('error', ended);
    secure.once('close', closed);
    secure.once('secureConnect', () => {
      clearTimeout(timer);
      secure.removeListener('close', closed);
      secure.removeListener('error', ended);
      resolve(secure);
    });
  });
}

/** The same as the side that waited. The peer's certificate is asked for; only a client may have none. */
export function secureAcceptor(socket: Socket, options: SecureOptions): Promise<TLSSocket> {
  const { peer, peers = [peer], credentials, timeoutMilliseconds } = options;
  // One TLS server per connection, which never listens: keys of session tickets are not shared, and its events are of this socket.
  const server = createServer({
    ca: credentials.authority,
    ...(credentials.own === undefined ? {} : { cert: credentials.own.certificate, key: credentials.own.key }),
    minVersion,
    requestCert: true,
    // Checked below instead, where the reason is known.
    rejectUnauthorized: false,
  });
  return new Promise((resolve, reject) => {
    const ended = (error: Error): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(handshakeError(peer, error));
    };
    const closed = (): void => ended(codedError('ECONNRESET'));
    const timer = setTimeout(() => ended(codedError(timedOut)), timeoutMilliseconds);
    server.once('tlsClientError', (error, secure) => {
      // A moment for the alert that tells the peer why.
      secure.on('error', () => {});
      ended(error);
    });
    server.once('secureConnection', (secure) => {
      clearTimeout(timer);
      socket.removeListener('close', closed);
      const problem = clientProblem(secure, peers);
      if (problem === null) return resolve(secure);
      secure.on('error', () => {});
      secure.destroy();
      reject(handshakeError(peer, codedError(problem)));
    });
    socket.on('error', () => {});
    socket.once('close', closed);
    server.emit('connection', socket);
  });
}

/** Why the one who connected is not whom it should be, as a code; null where it is. */
function clientProblem(secure: TLSSocket, peers: readonly string[]): string | null {
  const certificate = secure.getPeerX509Certificate();
  if (certificate === undefined) return peers.includes('client') ? null : noCertificate;
  if (!secure.authorized) return String(secure.authorizationError ?? 'not authorised');
  return peers.some((peer) => hasRole(certificate, peer)) ? null : wrongRole;
}

/** Which of `peers` an accepted connection's certificate names first; without a certificate it is a client. */
export function acceptedRole(secure: TLSSocket, peers: readonly string[]): string {
  const certificate = secure.getPeerX509Certificate();
  return (certificate && peers.find((peer) => hasRole(certificate, peer))) ?? 'client';
}

/** What a channel over this connection may be bound to. */
export function securityOf(secure: TLSSocket): ChannelSecurity {
  return {
    certificate: secure.getPeerX509Certificate()?.fingerprint256.replaceAll(':', '').toLowerCase(),
    exported: (label) => new Uint8Array(secure.exportKeyingMaterial(exportedBytes, `EXPORTER-sotto-${label}`, Buffer.alloc(0))),
  };
}
const exportedBytes = 32;

const wrongRole = 'SOTTO_WRONG_ROLE';
const noCertificate = 'SOTTO_NO_CERTIFICATE';
const timedOut = 'SOTTO_TIMED_OUT';
const codedError = (code: string): Error => Object.assign(new Error(code), { code });

const foreign = [
  'the certificate is not signed by the authority that this party trusts',
  'give all parties certificates of one authority, and its certificate as authority',
] as const;
const plain = ['speaks no TLS', 'use tls: on both sides of a connection or on neither'] as const;
const older = ['speaks no TLS 1.3', 'update it: nothing older is accepted'] as const;
/** What the codes of OpenSSL and Node mean between parties: what is wrong, and what helps. */
const meanings: Readonly<Record<string, readonly [string, string]>> = {
  CERT_HAS_EXPIRED: ['the certificate has expired', 'have a new one signed, and check the clocks of both hosts'],
  CERT_NOT_YET_VALID: ['the certificate is not valid yet', 'check the clocks of both hosts'],
  CERT_SIGNATURE_FAILURE: foreign,
  DEPTH_ZERO_SELF_SIGNED_CERT: foreign,
  SELF_SIGNED_CERT_IN_CHAIN: foreign,
  UNABLE_TO_GET_ISSUER_CERT: foreign,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: foreign,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: foreign,
  [wrongRole]: ['the certificate is for another role', 'check the address, and which certificate that party was given'],
  [noCertificate]: ['shows no certificate', 'start that party with --certificate and --key'],
  [timedOut]: ['did not finish the TLS handshake in time', 'check that it listens with tls: at this address, or allow more time'],
  ECONNRESET: ['closed the connection during the TLS handshake', "look at that party's log for the reason"],
  ERR_SSL_WRONG_VERSION_NUMBER: plain,
  ERR_SSL_HTTP_REQUEST: plain,
  ERR_SSL_PACKET_LENGTH_TOO_LONG: plain,
  ERR_SSL_UNSUPPORTED_PROTOCOL: older,
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: older,
};

function handshakeError(peer: string, cause: Error): SottoError {
  const code = (cause as NodeJS.ErrnoException).code ?? '';
  const [reason, remedy] = meanings[code] ?? [
    `the TLS handshake failed: ${code === '' ? cause.message : code}`,
    'check certificates and addresses of both sides',
  ];
  return new SottoError('peer', reason, { place: { party: peer }, remedy, cause });
}

/** Whether a plain connection begins with a TLS handshake or alert: the other side was given a `tls:` address. */
export const beginsTls = (bytes: Uint8Array): boolean =>
  bytes.length >= 2 && (bytes[0] === 0x16 || bytes[0] === 0x15) && bytes[1] === 0x03;

/** What is said of such a connection. */
export const tlsOnPlain = (peer: string): SottoError =>
  new SottoError('peer', 'speaks TLS on a plain connection', {
    place: { party: peer },
    remedy: 'use tls: on both sides of a connection or on neither',
  });
