import { SottoError } from '../errors/index.ts';
import { isObject } from '../models/json.ts';
import { parseRecipe, type Recipe } from './recipe.ts';

type Fields = Readonly<Record<string, unknown>>;

/** Fields over those of another, object by object; lists are replaced as a whole. */
function over(base: Fields, own: Fields): Fields {
  const merged: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(own)) {
    const known = merged[name];
    merged[name] = isObject(value) && isObject(known) ? over(known, value) : value;
  }
  return merged;
}

/** The fields but for one, named by its path: `optimiser.sam`. */
function lacking(fields: Fields, path: readonly string[]): Fields {
  const [name, ...rest] = path;
  const { [name!]: inner, ...others } = fields;
  return rest.length === 0 || !isObject(inner) ? others : { ...others, [name!]: lacking(inner, rest) };
}

/**
 * A recipe from its parsed file. One that `extends` another, named as files of recipes/ are, has that one's fields under its own, but
 * for those that its list `without` names; the other stands for itself. `read` gives the parsed file of a name. Errors are those of `parseRecipe`.
 */
export async function loadRecipe(raw: unknown, read: (name: string) => Promise<unknown>, file = 'recipe'): Promise<Recipe> {
  if (!isObject(raw) || raw.extends === undefined) return parseRecipe(raw, file);
  const { extends: name, without = [], ...own } = raw;
  const refuse = (reason: string, remedy: string) =>
    new SottoError('input', reason, { place: { file, field: 'extends' }, remedy });
  if (typeof name !== 'string' || !/^[a-z0-9][a-z0-9._-]{0,79}$/.test(name))
    throw refuse('the name of another recipe is malformed', 'name a recipe without its path and ending');
  if (own.name === undefined) throw refuse('a recipe that extends another needs a name of its own', 'give the field name');
  if (!Array.isArray(without) || !without.every((path) => typeof path === 'string' && path.length < 200))
    throw new SottoError('input', 'what a recipe does without is a list of fields', {
      place: { file, field: 'without' },
      remedy: 'name fields by their paths',
    });
  const base = await read(name);
  if (!isObject(base)) throw refuse(`${name} is not an object`, 'name a recipe');
  if (base.extends !== undefined) throw refuse(`${name} extends another recipe itself`, 'extend one that stands for itself');
  const kept = without.reduce<Fields>((fields, path: string) => lacking(fields, path.split('.')), base);
  return parseRecipe(over(kept, own), file);
}
