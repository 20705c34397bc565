import { SottoError } from '../errors/index.ts';

/** How two spellings of a class are one: `golden_retriever`, `Golden retriever`. */
const bare = (name: string): string =>
  name
    .normalize('NFKC')
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}]+/gu, ' ')
    .trim();

/** Names that say no more than the number: what a configuration without a label map has. */
export const isGeneric = (label: string): boolean => /^(label|class)?[ _-]?\d+$/i.test(label);

const isNumber = (name: string): boolean => /^\d+$/.test(name);
/** A synset of WordNet, which data sets in ImageNet's layout name their folders by. */
const isSynset = (name: string): boolean => /^n\d{8}$/.test(name);

/**
 * The model's class of each class folder. By the model's label map where the folders bear its names. Else, never by guessing:
 * folders that are all numbers are the classes in numeric order where there are as many, and the classes of these numbers where one
 * of them is 0; as many folders as classes in ImageNet's layout (`n01440764`), or for a model that names no classes, are the classes
 * in alphabetic order. Everything else is an `input` error that names a folder.
 */
export function folderClasses(path: string, folders: readonly string[], labels: readonly string[]): number[] {
  const named = folders.map((folder) => labelledAs(path, folder, labels));
  if (named.every((label) => label !== undefined)) {
    const twice = named.find((label, at) => named.indexOf(label) !== at);
    if (twice === undefined) return named;
    throw refusal(path, `two folders are the class ${JSON.stringify(labels[twice])}`);
  }
  const strange = folders[named.indexOf(undefined)]!;
  const failure = refusal(path, `the class ${JSON.stringify(strange)} is none of the model's ${labels.length} classes`);
  if (named.some((label) => label !== undefined)) throw failure;
  const asMany = folders.length === labels.length;
  if (folders.every(isNumber)) {
    const numbers = folders.map(Number);
    if (new Set(numbers).size !== numbers.length) throw refusal(path, 'two folders have the same number');
    if (asMany) return ranks(numbers, (one, other) => one - other);
    if (numbers.includes(0) && Math.max(...numbers) < labels.length) return numbers;
    throw failure;
  }
  if (asMany && (folders.every(isSynset) || labels.every(isGeneric)))
    return ranks(folders, (one, other) => (one < other ? -1 : 1));
  throw failure;
}

/** The label of this name; the same but for case and punctuation where none is. Two of one name could be either. */
function labelledAs(path: string, folder: string, labels: readonly string[]): number | undefined {
  for (const same of [(label: string) => label === folder, (label: string) => bare(label) === bare(folder)]) {
    const found = labels.flatMap((label, id) => (same(label) ? [id] : []));
    if (found.length > 1)
      throw refusal(
        path,
        `the folder ${JSON.stringify(folder)} may be the class ${found[0]} or ${found[1]}, which have one name`,
      );
    if (found.length === 1) return found[0];
  }
  return undefined;
}

function ranks<T>(values: readonly T[], order: (one: T, other: T) => number): number[] {
  const sorted = values.toSorted(order);
  return values.map((value) => sorted.indexOf(value));
}

const refusal = (path: string, reason: string): SottoError =>
  new SottoError('input', reason, {
    place: { file: path },
    remedy: 'name the folders as the model names its classes (id2label)',
  });

/**
 * The model's class of each number of a data set without names. `names` are what the numbers are known to mean: where the model
 * names the same classes in another order, its own names decide; else a number is the class of that number.
 */
export function numberedClasses(labels: readonly string[], names: readonly string[]): number[] {
  const own = labels.map(bare);
  const found = names.map((name) => own.indexOf(bare(name)));
  const permuted = new Set(found).size === labels.length && found.every((id) => id >= 0);
  return permuted ? found : labels.map((_, id) => id);
}

/**
 * For each of one model's classes another model's of the same name; undefined where they name other classes. Where one of them names
 * none, classes of one number are the same.
 */
export function alignedClasses(own: readonly string[], others: readonly string[]): number[] | undefined {
  if (own.length !== others.length) return undefined;
  const same = own.every((label, id) => bare(label) === bare(others[id]!));
  if (same || own.every(isGeneric) || others.every(isGeneric)) return own.map((_, id) => id);
  const names = others.map(bare);
  const found = own.map((label) => names.indexOf(bare(label)));
  return found.every((id) => id >= 0) && new Set(found).size === own.length ? found : undefined;
}
