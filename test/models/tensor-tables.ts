import type { ModelConfig } from '../../src/models/config.ts';
import { layoutOf } from '../../src/models/families/index.ts';
import { type FoldedRow, foldedRows, type Vector } from '../../src/models/folded-tensors.ts';
import { publishedTensors, type Role } from '../../src/models/layout.ts';
import type { Plan } from '../../src/models/plan.ts';

const roles: Readonly<Record<Role, string>> = {
  words: 'table',
  place: 'table',
  matrix: 'matrix',
  ending: 'matrix, into the residual stream',
  bias: 'bias',
  gain: 'gain',
  scale: 'learnt, of `l2quad`',
  shift: 'learnt, of `l2quad`',
  ...{ a: 'coefficient', b: 'coefficient', c: 'coefficient', d: 'coefficient', e: 'coefficient' },
};

const vectors = (...all: readonly (Vector | undefined)[]): string[] =>
  all.flatMap((vector) => (vector !== undefined && 'name' in vector ? [vector.name] : []));

/** The published tensors that a private one is made of. */
function sources(row: FoldedRow): string[] {
  if (!('parts' in row)) return [row.from, ...(row.plus === undefined ? [] : [row.plus.name])];
  const parts = row.parts.flatMap(({ name, bias, outputs }) => [
    `${name}.weight`,
    ...(bias ? [`${name}.bias`] : []),
    ...vectors(outputs),
  ]);
  return [...parts, ...vectors(row.left.gain, row.left.shift, row.plus)];
}

/** The first block stands for all. */
const numbered = (name: string): string => name.replace(/\.0\./, '.N.');

/** The tensors of a family as docs/checkpoints.md has them: name, shape in letters, what it is, which private tensors hold it. */
export function tensorTable(config: ModelConfig, plan: Plan, letters: Readonly<Record<number, string>>): string {
  const layout = layoutOf(config);
  const rows = foldedRows(layout, plan);
  const lines = [...publishedTensors(layout, plan)].flatMap(([name, { shape, role, block }]) => {
    if (block !== undefined && block > 0) return [];
    const held = rows.filter((row) => sources(row).includes(name)).map((row) => row.name.replace('private/', ''));
    const extents = shape.map((extent) => letters[extent] ?? String(extent)).join(', ');
    // A norm behind one block is part of the next one; what stands before all blocks, of the first.
    const places = held.map((place) => `\`${block === undefined ? place : place.replace(/layers\.\d\./, 'layers.N.')}\``);
    return [`| \`${numbered(name)}\` | (${extents}) | ${roles[role]} | ${[...new Set(places)].join(', ')} |`];
  });
  return ['| tensor | shape | what it is | in a private run: part of |', '|---|---|---|---|', ...lines].join('\n');
}
