import { randomBytes } from 'node:crypto';

/**
 * Names of bundles and sessions: 16 bytes in hexadecimal, of which the first two are the same in all, the next four the minute in which the id was
 * drawn (since 1970, by its maker's clock), and the rest random. So a time can be closed behind which no id is good any more (`claims.ts`).
 */
const tag = '5e01';
const tagLength = tag.length;
const minuteLength = 8;

/** A clock in whole minutes since 1970. */
export type Minutes = () => number;
export const systemMinutes: Minutes = () => Math.floor(Date.now() / 60_000);

export const freshBundleId = (minute: number): string =>
  `${tag}${minute.toString(16).padStart(minuteLength, '0')}${randomBytes(10).toString('hex')}`;

/** When an id was drawn; undefined where it is of a version that did not say so. */
export function minuteOf(id: string): number | undefined {
  return id.startsWith(tag) ? Number.parseInt(id.slice(tagLength, tagLength + minuteLength), 16) : undefined;
}
