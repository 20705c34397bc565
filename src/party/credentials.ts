import { SottoError } from '../errors/index.ts';
import { loadCredentials, type TlsCredentials, type TlsFiles, type TlsRole } from '../node/tls.ts';

/**
 * What a party needs for its addresses, read before it loads or asks for anything. Certificates that no address would use are a `usage`
 * error: somebody believes that these connections are encrypted.
 */
export function partyCredentials(
  files: TlsFiles | undefined,
  role: TlsRole,
  addresses: readonly string[],
): TlsCredentials | undefined {
  if (files === undefined) return undefined;
  if (addresses.some((address) => /(^|,)(tls|wss):/.test(address))) return loadCredentials(files, role, new Date());
  throw new SottoError('usage', 'certificates are given, and no address uses them', {
    place: { party: role, field: '--authority' },
    remedy: 'write the addresses as tls:host:port or wss:host:port',
  });
}
