import { random } from './plan.ts';

/** What a peer that means harm says in place of a message of the run: JSON that is none or not of its schema, and words that are well formed and untrue. */

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Values that no schema expects where they stand. */
const strangers: readonly Json[] = [
  null,
  true,
  -1,
  0.5,
  1e308,
  2 ** 53,
  '',
  'x'.repeat(3000),
  '\u001b[2J\u202e\u0000',
  [],
  {},
  [[[[[[[[[[]]]]]]]]]],
  { toString: null, constructor: 1 },
];

/** A control message with something wrong about it: the same for the same draw. */
export function malformed(payload: Uint8Array, seed: number): Uint8Array {
  const draw = random(seed);
  const pick = <T>(of: readonly T[]): T => of[draw(of.length)]!;
  const bytes = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
  const text = new TextDecoder().decode(payload);
  switch (draw(8)) {
    case 0:
      return payload.slice(0, draw(Math.max(1, payload.length)));
    case 1: {
      const broken = payload.slice();
      if (broken.length > 0) broken[draw(broken.length)] = 0xff;
      return broken;
    }
    case 2:
      return new TextEncoder().encode(`${'['.repeat(2000)}${']'.repeat(2000)}`);
    case 3:
      return new TextEncoder().encode(text.replace('{', '{"__proto__":{"ahead":true},"extra":1,'));
    case 4:
      return bytes({ ...JSON.parse(text), type: pick(['hello', 'order', 'session', 'stop', 'nothing', '']) });
    case 5:
      return new Uint8Array(0);
    case 6: {
      const message = JSON.parse(text) as Json;
      const { parent, key } = pick(leaves(message));
      if (Array.isArray(parent)) parent.splice(Number(key), 1);
      else delete parent[key];
      return bytes(message);
    }
    default: {
      const message = JSON.parse(text) as Json;
      const { parent, key } = pick(leaves(message));
      const value = pick(strangers);
      if (Array.isArray(parent)) parent[Number(key)] = value;
      else parent[key] = value;
      return bytes(message);
    }
  }
}

interface Leaf {
  readonly parent: Json[] | { [key: string]: Json };
  readonly key: string;
}

function leaves(value: Json): Leaf[] {
  if (value === null || typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([key, child]) => [{ parent: value, key }, ...leaves(child)]);
}

/** Other words in as many bytes: every message of a phase that is only numbers is well formed, whatever they are. */
export function untrue(payload: Uint8Array, seed: number): Uint8Array {
  const draw = random(seed);
  const out = payload.slice();
  for (let k = 0; k < 8 && out.length > 0; k++) out[draw(out.length)]! ^= 1 + draw(255);
  return out;
}
