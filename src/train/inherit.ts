import { SottoError } from '../errors/index.ts';
import { isObject } from '../models/json.ts';
import { parseRecipe, type Recipe } from './recipe.ts';

type Fields = Readonly<Record<string, unknown>>;

/** Fields over those of another, object by object; null takes a field away, lists are replaced as a whole. */
function over(base: Fields, own: Fields): Fields {
  const merged: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(own)) {
    const known = merged[name];
    if (value === null) delete merged[name];
    else merged[name] = isObject(value) ? over(isObject(known) ? known : {}, value) : value;
  }
  return merged;
}

/**
 * A recipe from its parsed file. One that `extends` another, named as files of recipes/ are, has that one's fields under its own; the
 * other stands for itself. `read` gives the parsed file of a name. Errors are those of `parseRecipe`.
 */
export async function loadRecipe(raw: unknown, read: (name: string) => Promise<unknown>, file = 'recipe'): Promise<Recipe> {
  if (!isObject(raw) || raw.extends === undefined) return parseRecipe(raw, file);
  const { extends: name, ...own } = raw;
  const refuse = (reason: string, remedy: string) =>
    new SottoError('input', reason, { place: { file, field: 'extends' }, remedy });
  if (typeof name !== 'string' || !/^[a-z0-9][a-z0-9._-]{0,79}$/.test(name))
    throw refuse('the name of another recipe is malformed', 'name a recipe without its path and ending');
  if (own.name === undefined) throw refuse('a recipe that extends another needs a name of its own', 'give the field name');
  const base = await read(name);
  if (!isObject(base)) throw refuse(`${name} is not an object`, 'name a recipe');
  if (base.extends !== undefined) throw refuse(`${name} extends another recipe itself`, 'extend one that stands for itself');
  return parseRecipe(over(base, own), file);
}
