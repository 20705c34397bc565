import { SottoError } from '../errors/index.ts';
import { isComposite, lowerings } from './composites.ts';
import { lastUses } from './lifetimes.ts';
import { rewrite } from './rewrite.ts';
import { prune } from './trace.ts';
import type { Composite, Interpreter, Node, NodeOf, Ops, Program, Ref } from './types.ts';

/**
 * The same program with every composite that is not in `keep` replaced by its lowering, to primitives and kept composites; where `within`
 * marks the nodes of a program, composites elsewhere stay whole.
 */
export function lower(
  program: Program,
  keep: ReadonlySet<Composite> = new Set(),
  within?: (program: Program) => ArrayLike<number>,
): Program {
  const marks = within?.(program);
  const whole = (node: Node, index: number): boolean =>
    !isComposite(node.operation) || keep.has(node.operation) || marks?.[index] === 0;
  if (program.nodes.every(whole)) return prune(program);
  const once = rewrite(program, (ops, { node, index, inputs, copy }) =>
    whole(node, index) ? copy() : ops.within(node.scope, () => lowerOne(ops, node as NodeOf<Composite>, inputs)),
  );
  // Lowerings may use composites themselves, so one pass is repeated until nothing is left to lower.
  return lower(once, keep, within);
}

function lowerOne(ops: Ops<Ref>, node: NodeOf<Composite>, inputs: readonly Ref[]): Ref {
  const rule = lowerings[node.operation] as (ops: Ops<Ref>, node: NodeOf<Composite>, ...inputs: Ref[]) => Ref;
  return rule(ops, node, ...inputs);
}

/** The composites that a table takes whole. */
export function taken<V>(table: Interpreter<V>): Set<Composite> {
  return new Set(Object.keys(table).filter(isComposite));
}

/**
 * Runs a program under an interpreter that needs no communication: the values of its outputs. `release` is told of every value
 * after its last use, unless it is an output.
 */
export function interpret<V>(program: Program, table: Interpreter<V>, release?: (value: V) => void): Map<string, V> {
  const lowered = lower(program, taken(table));
  const values: V[] = [];
  const until = lastUses(lowered);
  lowered.nodes.forEach((node, index) => {
    values.push(
      apply(
        table,
        node,
        node.inputs.map((input) => values[input]!),
      ),
    );
    for (const dead of until.get(index) ?? []) {
      release?.(values[dead]!);
      values[dead] = undefined as V;
    }
  });
  return new Map([...lowered.outputs].map(([name, index]) => [name, values[index]!]));
}

/** The meaning that a table gives to one node. */
export function apply<V>(table: Interpreter<V>, node: Node, inputs: V[]): V {
  const rule = table[node.operation] as ((node: Node, ...inputs: V[]) => V) | undefined;
  if (rule === undefined)
    throw new SottoError('model', `no meaning for ${node.operation}`, {
      place: { scope: node.scope },
      remedy: 'lower the program first',
    });
  return rule(node, ...inputs);
}
