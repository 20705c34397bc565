import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseModelConfig } from '../../src/models/config.ts';
import {
  classifiesPictures,
  classifiesTexts,
  families,
  familyOf,
  jobOf,
  supportedModelTypes,
  writesText,
} from '../../src/models/families/index.ts';

const source = join(import.meta.dirname, '../../src');
const names = [...Object.keys(families), ...supportedModelTypes].join('|');
/** A comparison of something called `family` or `model_type`, or of anything with a family's name. */
const tests = [
  /\b(family|model_type)\)?\s*[!=]==?(?![=\s]*('IPv|'string'|undefined))/,
  /[!=]==?\s*[\w.()]*\b(family|model_type)\b/,
  new RegExp(`[!=]==?\\s*['"\`](${names})['"\`]`),
  new RegExp(`case ['"\`](${names})['"\`]`),
  /switch \([^)]*\b(family|model_type)\b/,
];
const asks = (line: string): boolean => tests.some((test) => test.test(line));

describe('a family', () => {
  it('is asked for its job and its layout: nothing outside of its folder compares names of families', () => {
    const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.ts'));
    expect(files.length).toBeGreaterThan(300);
    const found = files
      .filter((path) => !path.startsWith(join('models', 'families')))
      .flatMap((path) =>
        readFileSync(join(source, path), 'utf8')
          .split('\n')
          .flatMap((line, at) => (asks(line) ? [`${relative(source, join(source, path))}:${at + 1}: ${line.trim()}`] : [])),
      );
    expect(found).toEqual([]);
  });

  it.each([
    "if (config.family === 'llama') return",
    'const own = (await model()).config.family !== kind;',
    "family === 'bert' ? 1 : 2",
    "if (type == 'roberta')",
    "    case 'vit':",
    'switch (config.family) {',
    "if (raw.model_type === 'mistral')",
  ])('would be found compared: %s', (line) => {
    expect(asks(line)).toBe(true);
  });

  it.each(["at.family === 'IPv6' ? 1 : 2", 'const text = told + config.family;'])('would not: %s', (line) => {
    expect(asks(line)).toBe(false);
  });

  it.each(supportedModelTypes)('of the type %s has one job, by which its configuration is known', (type) => {
    const config = parseModelConfig({ model_type: type });
    expect(familyOf(config).architectures).toHaveProperty(type);
    const known = [writesText, classifiesTexts, classifiesPictures].map((is) => is(config));
    expect(known.filter(Boolean)).toHaveLength(1);
    expect(['writes text', 'classifies texts', 'classifies pictures'][known.indexOf(true)]).toBe(jobOf(config));
  });
});
