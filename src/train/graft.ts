import { type Program, type Ref, rewriteInto, type Tracer } from '../program/index.ts';

/**
 * Appends a program to a trace and gives its outputs. Inputs named in `bind` become those nodes; the others are declared as
 * `prefix + name`.
 */
export function graft(
  tracer: Tracer,
  program: Program,
  options: { readonly prefix?: string; readonly bind?: ReadonlyMap<string, Ref> } = {},
): Map<string, Ref> {
  const { prefix = '', bind = new Map<string, Ref>() } = options;
  const refs = rewriteInto(tracer, program, ({ node, copy }) => {
    if (node.operation !== 'input') return copy(prefix + node.scope);
    const { name, shape, owner, element } = node.parameters;
    return bind.get(name) ?? tracer.within(node.scope, () => tracer.input(prefix + name, shape, owner, element));
  });
  return new Map([...program.outputs].map(([name, index]) => [name, refs[index]!]));
}

/** The float inputs of a program: its weights, by name and shape. */
export function floatInputs(program: Program): Map<string, readonly number[]> {
  const found = new Map<string, readonly number[]>();
  for (const node of program.nodes)
    if (node.operation === 'input' && node.element === 'float') found.set(node.parameters.name, node.shape);
  return found;
}
