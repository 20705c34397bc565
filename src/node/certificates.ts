import { KeyObject, randomBytes, webcrypto } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SottoError } from '../errors/index.ts';
import { type TlsRole, tlsName } from './tls.ts';

/** From when on, and for how many days, certificates hold. */
export interface CertificateOptions {
  /** Certificates hold from an hour before, for clocks that differ. */
  readonly now: Date;
  readonly days: number;
}

/** A certificate and its key, PEM. */
export interface Issued {
  readonly certificate: string;
  readonly key: string;
}
/** An authority and one certificate a role, with their private keys, in PEM. */
export type CertificateSet = Readonly<Record<'authority' | TlsRole, Issued>>;

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const clockSkewMilliseconds = 3_600_000;
const dayMilliseconds = 86_400_000;

/**
 * A new authority and one certificate of it for each role, EC P-256. The authority is like no other: its name holds a random number, so that
 * two sets never pass for each other. Keys are the system's randomness.
 */
export async function makeCertificates({ now, days }: CertificateOptions): Promise<CertificateSet> {
  // The library's container of parts wants this first; both are loaded by who makes certificates and by nobody else.
  await import('reflect-metadata');
  const x509 = await import('@peculiar/x509');
  const keys = () => webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  // A serial number is positive and has at most 20 bytes.
  const serialNumber = () => `01${randomBytes(15).toString('hex')}`;
  const validity = {
    notBefore: new Date(now.getTime() - clockSkewMilliseconds),
    notAfter: new Date(now.getTime() + days * dayMilliseconds),
  };
  const authorityKeys = await keys();
  const subject = `CN=sotto test authority ${randomBytes(4).toString('hex')}`;
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: subject,
    ...validity,
    signingAlgorithm: algorithm,
    keys: authorityKeys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(authorityKeys.publicKey),
    ],
  });
  const issue = async (role: TlsRole): Promise<Issued> => {
    const own = await keys();
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: `CN=${tlsName(role)}`,
      issuer: authority.subject,
      ...validity,
      signingAlgorithm: algorithm,
      publicKey: own.publicKey,
      signingKey: authorityKeys.privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        // The server waits for clients and comes to the dealer itself.
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
        new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: tlsName(role) }]),
        await x509.AuthorityKeyIdentifierExtension.create(authorityKeys.publicKey),
        await x509.SubjectKeyIdentifierExtension.create(own.publicKey),
      ],
    });
    return { certificate: pem(certificate.toString('pem')), key: keyPem(own.privateKey) };
  };
  const issued: [TlsRole, Issued][] = [];
  for (const role of ['server', 'dealer', 'helper', 'client'] as const) issued.push([role, await issue(role)]);
  return {
    authority: { certificate: pem(authority.toString('pem')), key: keyPem(authorityKeys.privateKey) },
    ...(Object.fromEntries(issued) as Record<TlsRole, Issued>),
  };
}

const pem = (text: string): string => `${text.trim()}\n`;
const keyPem = (key: webcrypto.CryptoKey): string => KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }) as string;

/**
 * Writes `NAME.pem` and `NAME-key.pem` for each of a set, keys of mode 0600 in a folder of mode 0700 where it is new. Gives the file names.
 * An existing file is never replaced: a `usage` error.
 */
export function writeCertificates(folder: string, set: CertificateSet): string[] {
  const written: string[] = [];
  const write = (name: string, text: string, mode: number): void => {
    const file = join(folder, name);
    try {
      writeFileSync(file, text, { flag: 'wx', mode });
    } catch (cause) {
      const exists = (cause as NodeJS.ErrnoException).code === 'EEXIST';
      throw new SottoError(exists ? 'usage' : 'resource', exists ? 'the file exists' : 'the file cannot be written', {
        place: { file },
        remedy: exists ? 'name an empty folder: keys in use are not replaced' : 'name a folder that can be written',
        cause,
      });
    }
    written.push(file);
  };
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const remedy = 'name a folder that can be made';
    throw new SottoError('resource', 'the folder cannot be made', { place: { file: folder }, remedy, cause });
  }
  for (const [name, { certificate, key }] of Object.entries(set)) {
    write(`${name}.pem`, certificate, 0o644);
    write(`${name}-key.pem`, key, 0o600);
  }
  return written;
}
