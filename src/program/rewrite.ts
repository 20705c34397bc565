import { Tracer } from './trace.ts';
import type { Node, NodeOf, Operation, Program, Ref } from './types.ts';

/** One statement of a program that another one is made from. */
export interface Statement {
  readonly node: Node;
  readonly index: number;
  /** Where its inputs went. */
  readonly inputs: readonly Ref[];
  /** Appends the statement as it is, or under another scope. */
  readonly copy: (scope?: string) => Ref;
}

/** What stands for a statement in the new program. */
export type Rewrite = (statement: Statement) => Ref;

/** Appends a program to a trace, statement by statement; gives where each one went. */
export function rewriteInto(tracer: Tracer, { nodes }: Program, one: Rewrite = ({ copy }) => copy()): Ref[] {
  const refs: Ref[] = [];
  nodes.forEach((node, index) => {
    const inputs = node.inputs.map((input) => refs[input]!);
    const copy = (scope = node.scope): Ref =>
      tracer.push(node.operation, inputs, node.parameters as NodeOf<Operation>['parameters'], scope);
    refs.push(one({ node, index, inputs, copy }));
  });
  return refs;
}

/** A program made from another: its outputs are where the other's went. `tracer` is empty at first. */
export function rewrite(program: Program, one: (ops: Tracer, statement: Statement) => Ref, tracer = new Tracer()): Program {
  const refs = rewriteInto(tracer, program, (statement) => one(tracer, statement));
  return { nodes: tracer.nodes, outputs: new Map([...program.outputs].map(([name, index]) => [name, refs[index]!])) };
}
