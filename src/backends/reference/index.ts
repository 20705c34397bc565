import { SottoError } from '../../errors/index.ts';
import type { Executable, Feed, FloatBackend, Interpreter, Node, NodeOf, Program, Tensor } from '../../program/index.ts';
import { apply, lastUses, lower, same } from '../../program/index.ts';
import type { Dense } from './dense.ts';
import { referenceTable } from './table.ts';

export { erf } from '../../math/index.ts';
export type { Dense } from './dense.ts';
export { roundHalfEven } from './functions.ts';
export { referenceTable } from './table.ts';

/** Float64 on one thread, slow and obvious: what every other backend is tested against. Float outputs are Float64Array. */
export function referenceBackend(): FloatBackend {
  return { name: 'reference', compile: async (program, bound) => compile(program, bound) };
}

/** Checks a feed against the program's signature and gives it as float64. Throws an `input` error that names the tensor. */
function accept(node: NodeOf<'input'>, feeds: ReadonlyMap<string, Feed>): Dense {
  const { name, shape } = node.parameters;
  const tensor = feeds.get(name);
  const reason =
    tensor === undefined
      ? 'no value was fed'
      : same(tensor.shape, shape)
        ? undefined
        : `shape [${tensor.shape}] where [${shape}] is due`;
  if (reason !== undefined)
    throw new SottoError('input', reason, { place: { tensor: name }, remedy: 'feed every input with its shape' });
  const { values } = tensor!;
  return { shape, values: values instanceof Float64Array ? values : Float64Array.from(values) };
}

function compile(program: Program, bound: ReadonlyMap<string, Feed>): Executable {
  const lowered = lower(program);
  const fixed = evaluateFixed(lowered, bound);
  const until = lastUses(lowered);
  return {
    async run(feeds) {
      const table = referenceTable((node) => accept(node, feeds));
      const values = [...fixed];
      lowered.nodes.forEach((node, index) => {
        values[index] ??= evaluate(table, node, values);
        for (const dead of until.get(index) ?? []) values[dead] = undefined;
      });
      return new Map([...lowered.outputs].map(([name, index]) => [name, deliver(lowered.nodes[index]!, values[index]!)]));
    },
    async close() {},
  };
}

function evaluate(table: Interpreter<Dense>, node: Node, values: readonly (Dense | undefined)[]): Dense {
  return apply(
    table,
    node,
    node.inputs.map((input) => values[input]!),
  );
}

/** The values that depend on bound inputs and constants alone (transposed weights, say), computed once. */
function evaluateFixed(program: Program, bound: ReadonlyMap<string, Feed>): (Dense | undefined)[] {
  const table = referenceTable((node) => accept(node, bound));
  const values: (Dense | undefined)[] = [];
  for (const node of program.nodes) {
    const isFixed =
      node.operation === 'input' ? bound.has(node.parameters.name) : node.inputs.every((i) => values[i] !== undefined);
    values.push(isFixed ? evaluate(table, node, values) : undefined);
  }
  const needed = new Set(program.outputs.values());
  program.nodes.forEach((node, index) => {
    if (values[index] === undefined) for (const input of node.inputs) needed.add(input);
  });
  // A value that only other fixed values read would be held for nothing; `run` must not compute it again either.
  return values.map((value, index) => (value === undefined || needed.has(index) ? value : unread));
}

const unread: Dense = { shape: [0], values: new Float64Array(0) };

/** A copy, because outputs may share memory with bound values. */
function deliver(node: Node, { shape, values }: Dense): Tensor {
  return { shape, values: node.element === 'float' ? values.slice() : Int32Array.from(values) };
}
