import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { schemas } from '../../src/party/control.ts';

/** Every field of every control message has a row in the threat model that says who may know it and what it opens. */
const page = readFileSync(new URL('../../docs/threat-model.md', import.meta.url), 'utf8');

function fieldsOf(schema: z.ZodType, name: string): string[] {
  if (schema instanceof z.ZodOptional) return fieldsOf(schema.unwrap() as z.ZodType, name);
  if (schema instanceof z.ZodObject)
    return Object.entries(schema.shape).flatMap(([field, inner]) => fieldsOf(inner as z.ZodType, `${name}.${field}`));
  return [name];
}

const inMessages = Object.entries(schemas).flatMap(([type, schema]) =>
  fieldsOf(schema, type).filter((name) => !/\.type$/.test(name)),
);

/** The names in the first column of the table under the heading, and what stands beside them. */
function documented(): Map<string, readonly string[]> {
  const section = /\n## What each message says\n([\s\S]*?)(?=\n## )/.exec(page)![1]!;
  const rows = section.split('\n').filter((line) => /^\| `/.test(line));
  return new Map(
    rows.flatMap((line) => {
      const [fields, ...rest] = line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()) as [string, ...string[]];
      return [...fields.matchAll(/`([\w.]+)`/g)].map(([, name]) => [name!, rest] as const);
    }),
  );
}

describe('the fields of control messages', () => {
  it('are those of the threat model, each with who may know it and what it opens', () => {
    const rows = documented();
    expect(inMessages.length).toBeGreaterThan(40);
    expect(inMessages.filter((name) => !rows.has(name))).toEqual([]);
    expect([...rows.keys()].filter((name) => !inMessages.includes(name))).toEqual([]);
    for (const [name, cells] of rows) for (const cell of cells) expect(cell.length, name).toBeGreaterThan(2);
    for (const [name, cells] of rows) expect(cells, name).toHaveLength(2);
  });

  it('are numbers, hexadecimal bytes and words of a list, but for the public files', () => {
    const free: string[] = [];
    const look = (schema: z.ZodType, name: string): void => {
      if (schema instanceof z.ZodOptional) {
        look(schema.unwrap() as z.ZodType, name);
        return;
      }
      if (schema instanceof z.ZodObject) {
        // Anything else that a peer adds is refused, not ignored.
        expect(
          schema.safeParse({ added: 1 }).error?.issues.some(({ code }) => code === 'unrecognized_keys'),
          name,
        ).toBe(true);
        for (const [field, inner] of Object.entries(schema.shape)) look(inner as z.ZodType, `${name}.${field}`);
        return;
      }
      const bounded =
        schema instanceof z.ZodLiteral ||
        schema instanceof z.ZodEnum ||
        schema instanceof z.ZodBoolean ||
        schema instanceof z.ZodNumber;
      const pattern = schema instanceof z.ZodString && !schema.safeParse('token -251').success && !schema.safeParse('').success;
      if (!bounded && !pattern) free.push(name);
    };
    for (const [type, schema] of Object.entries(schemas)) look(schema, type);
    expect(free.sort()).toEqual(['copy.config', 'manifest.config', 'manifest.files', 'order.config']);
  });
});
