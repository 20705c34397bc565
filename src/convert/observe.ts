import { SottoError } from '../errors/index.ts';
import type { ModelConfig } from '../models/config.ts';
import type { Layout } from '../models/layout.ts';
import type { Executable, FloatBackend, Node, Program, Tensor } from '../program/index.ts';
import { prune } from '../program/index.ts';
import type { Targets } from './fisher.ts';

/** A model under conversion: how it is traced under any plan, where its parts are, and inputs that it is observed on. */
export interface Subject<P> {
  readonly config: ModelConfig;
  /** Where its tensors stand, and its sizes. */
  readonly layout: Layout;
  /** The program of a plan; its float inputs are weights by their published names, and what `feeds` give. */
  trace(plan: P): Program;
  /** What calibration feeds beside the weights, one run each. */
  readonly feeds: readonly ReadonlyMap<string, Tensor>[];
  /** What the model should say about each feed; fits that weigh by the loss need it. */
  readonly targets?: readonly Targets[] | undefined;
}

/** Published tensors by name, as real numbers. */
export type Weights = ReadonlyMap<string, Tensor>;

/** Runs a program with further nodes as outputs, and only those, on every feed in turn. */
export async function observe(
  options: {
    readonly program: Program;
    readonly nodes: ReadonlyMap<string, number>;
    readonly weights: Weights;
    readonly feeds: readonly ReadonlyMap<string, Tensor>[];
    readonly backend: FloatBackend;
  },
  visit: (values: ReadonlyMap<string, Tensor>) => void,
): Promise<void> {
  const { program, nodes, weights, feeds, backend } = options;
  if (feeds.length === 0)
    throw new SottoError('input', 'there is no calibration data', { remedy: 'give at least one text or picture' });
  const executable: Executable = await backend.compile(prune({ nodes: program.nodes, outputs: new Map(nodes) }), weights);
  try {
    for (const feed of feeds) visit(await executable.run(feed));
  } finally {
    await executable.close();
  }
}

const inScope = (program: Program, scope: string): number[] =>
  program.nodes.flatMap((node, index) => (node.scope === scope ? [index] : []));

/** The activation of a layer: its argument, its value, and the other factor where it is a gate. */
export function activationNodes(
  program: Program,
  layer: number,
): { argument: number; value: number; factor: number | undefined } {
  const scope = `layers.${layer}.mlp.act`;
  // Constants and weights declared in the scope are not part of the chain of computation.
  const inside = inScope(program, scope).filter((index) => program.nodes[index]!.inputs.length > 0);
  const [first, last] = [inside[0], inside.at(-1)];
  if (first === undefined || last === undefined) throw absent(scope, 'activation');
  const argument = program.nodes[first]!.inputs[0]!;
  const end = program.nodes[last]!;
  const outside = end.operation === 'multiply' ? end.inputs.filter((index) => !inside.includes(index) && index !== argument) : [];
  const factor = outside[0];
  if (factor === undefined) return { argument, value: last, factor };
  return { argument, value: end.inputs.find((index) => index !== factor)!, factor };
}

/** Where a layer's scores become weights. */
export const weightsScope = (layer: number): string => `layers.${layer}.attention.weights`;

/** The attention of a layer: scores and values that go in, the mixed values that come out. */
export function attentionNode(program: Program, layer: number): { node: Node; index: number; scores: number; values: number } {
  const scope = weightsScope(layer);
  const index = inScope(program, scope).find((at) => /^(softmax|power)Attention$/.test(program.nodes[at]!.operation));
  if (index === undefined) throw absent(scope, 'attention');
  const node = program.nodes[index]!;
  return { node, index, scores: node.inputs[0]!, values: node.inputs[1]! };
}

/** Every norm of the program by its scope: the node whose row it normalises. */
export function normArguments(program: Program): Map<string, { argument: number; centred: boolean }> {
  const found = new Map<string, { argument: number; centred: boolean }>();
  for (const node of program.nodes) {
    if (node.operation === 'rmsNorm') found.set(node.scope, { argument: node.inputs[0]!, centred: false });
    if (node.operation === 'layerNorm') found.set(node.scope, { argument: node.inputs[0]!, centred: true });
  }
  return found;
}

const absent = (scope: string, what: string) =>
  new SottoError('model', `the program has no ${what} here`, {
    place: { scope },
    remedy: 'convert a model that sotto traces itself',
  });
