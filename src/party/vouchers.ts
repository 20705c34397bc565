import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { SottoError } from '../errors/index.ts';
import type { Channel } from '../net/contract.ts';
import {
  type Control,
  controlFrame,
  encodeControl,
  longControlBytes,
  parseControl,
  receiveBytes,
  receiveControl,
  sendControl,
} from './control.ts';
import { Objection } from './refusals.ts';

/**
 * Who may order material by a masked copy: the server that brought the copy, over the connection that it orders on, once. The dealer draws a
 * secret for each link and tells it over the link alone; an order carries a MAC under it. What the MAC is over: every byte of the
 * order, the challenge that the dealer drew for this connection, and keying material of its TLS, where there is TLS; then the
 * certificate must be the link's as well. docs/protocols/dealer.md.
 */

/** HMAC-SHA-256 over a label and parts, each behind its length: no two lists are the same bytes. */
function mac(key: Uint8Array, label: string, parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHmac('sha256', key);
  for (const part of [new TextEncoder().encode(label), ...parts]) {
    const length = new Uint8Array(8);
    new DataView(length.buffer).setBigUint64(0, BigInt(part.length), true);
    hash.update(length).update(part);
  }
  return new Uint8Array(hash.digest());
}

const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && timingSafeEqual(a, b);
const nothing = new Uint8Array(0);
const exportedOf = (channel: Channel, label: string): Uint8Array => channel.security?.exported(label) ?? nothing;

/** What a link gives its server: the right to order by the copies that were brought over it. */
export interface LinkRight {
  readonly link: string;
  readonly key: Uint8Array;
}

/** What the dealer keeps of a link. */
export interface HeldLink extends LinkRight {
  /** Of the server that opened it. */
  readonly certificate: string | undefined;
}

const orderKey = (channel: Channel, link: string, secret: Uint8Array): Uint8Array =>
  mac(secret, 'sotto order key/v1', [bytesOf(link), exportedOf(channel, 'link')]);

const proofOf = (who: 'server' | 'dealer', token: Uint8Array, parts: readonly string[]): Uint8Array =>
  mac(token, `sotto ${who} proof/v1`, parts.map(bytesOf));

// --- the server's side ---

/** Opens a link on a greeted connection. On a plain one both sides prove that they know the token, before anything else is said. */
export async function openLink(dealer: Channel, token: Uint8Array | undefined): Promise<LinkRight> {
  const { nonce: challenge } = await receiveControl(dealer, 'challenge');
  const nonce = hexOf(randomBytes(32));
  const secured = dealer.security !== undefined;
  if (!secured && token === undefined)
    throw new SottoError('usage', 'a server cannot show its certificate at this address', {
      place: { party: dealer.peer },
      remedy: 'connect to a tls: address',
    });
  const proof = secured ? {} : { proof: hexOf(proofOf('server', token!, [challenge, nonce])) };
  await sendControl(dealer, { type: 'link', nonce, ...proof });
  const linked = await receiveControl(dealer, 'linked');
  const expected = secured ? undefined : proofOf('dealer', token!, [challenge, nonce, linked.link, linked.secret]);
  if (expected !== undefined && !same(bytesOf(linked.proof ?? ''), expected))
    throw new SottoError('peer', 'does not know the token of this server', {
      place: { party: dealer.peer },
      remedy: 'give both the same file as --link-token, or use tls: addresses',
    });
  const secret = bytesOf(linked.secret);
  const key = orderKey(dealer, linked.link, secret);
  secret.fill(0);
  return { link: linked.link, key };
}

/** Sends an order with what vouches for it. `challenge` is the dealer's, of this connection. */
export async function sendOrder(
  dealer: Channel,
  { link, key }: LinkRight,
  challenge: string,
  order: Control<'order'>,
): Promise<void> {
  const bytes = encodeControl(order);
  await sendControl(dealer, { type: 'voucher', link, mac: hexOf(orderMac(dealer, key, challenge, bytes)) });
  await dealer.send(controlFrame, bytes);
}

const orderMac = (channel: Channel, key: Uint8Array, challenge: string, order: Uint8Array): Uint8Array =>
  mac(key, 'sotto order/v1', [bytesOf(challenge), exportedOf(channel, 'order'), order]);

// --- the dealer's side ---

/** Drawn for one connection of a server, and good for what is said over that one. */
export async function sendChallenge(server: Channel): Promise<string> {
  const nonce = hexOf(randomBytes(32));
  await sendControl(server, { type: 'challenge', nonce });
  return nonce;
}

/** Takes a server's link. Without a certificate it is one only where it knows the token. */
export async function takeLink(
  server: Channel,
  { nonce, proof }: Control<'link'>,
  challenge: string,
  token: Uint8Array | undefined,
): Promise<HeldLink> {
  const secured = server.security !== undefined;
  const certificate = server.security?.certificate;
  const known = secured
    ? certificate !== undefined
    : token !== undefined && same(bytesOf(proof ?? ''), proofOf('server', token, [challenge, nonce]));
  if (!known)
    throw new Objection('role', 'says that it is a server, and does not show it', {
      party: 'server',
      remedy: 'give server and dealer the same file as --link-token, or use tls: addresses',
    });
  const link = hexOf(randomBytes(16));
  const secret = new Uint8Array(randomBytes(32));
  const told = hexOf(secret);
  const own = secured ? {} : { proof: hexOf(proofOf('dealer', token!, [challenge, nonce, link, told])) };
  await sendControl(server, { type: 'linked', link, secret: told, ...own });
  const key = orderKey(server, link, secret);
  secret.fill(0);
  return { link, key, certificate };
}

/** The order behind a voucher. One answer for a link that is not there, another certificate and a wrong MAC; nothing is parsed before. */
export async function takeOrder(
  server: Channel,
  voucher: Control<'voucher'>,
  challenge: string,
  held: HeldLink | undefined,
): Promise<Control<'order'>> {
  // A name that nobody was told gets no longer frames either.
  if (held === undefined || held.certificate !== server.security?.certificate) throw notVouched();
  server.allow?.(longControlBytes);
  const bytes = await receiveBytes(server, 'order');
  if (!same(bytesOf(voucher.mac), orderMac(server, held.key, challenge, bytes))) throw notVouched();
  return parseControl(bytes, server.peer, 'order');
}

export const notVouched = (): Objection =>
  new Objection('order', 'orders by a masked copy that it has not brought here', {
    party: 'server',
    remedy: 'connect again: the copy is sent anew',
  });
