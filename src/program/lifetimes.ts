import type { Program } from './types.ts';

/** For every node index, the values that nobody reads after it (outputs are never released). */
export function lastUses(program: Program): Map<number, number[]> {
  const last = new Int32Array(program.nodes.length).fill(-1);
  program.nodes.forEach((node, index) => {
    last[index] = index;
    for (const input of node.inputs) last[input] = index;
  });
  for (const output of program.outputs.values()) last[output] = -1;
  const result = new Map<number, number[]>();
  last.forEach((at, value) => {
    if (at < 0) return;
    const dead = result.get(at);
    if (dead === undefined) result.set(at, [value]);
    else dead.push(value);
  });
  return result;
}
