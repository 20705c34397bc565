import { SottoError } from '../errors/index.ts';
import { gradient, type Program, type Ref, rewriteInto, type Tensor, Tracer } from '../program/index.ts';

/** What the model should have said about one feed: classes of its positions, and how much each counts (0 leaves it out). */
export interface Targets {
  readonly labels: Tensor;
  readonly weights: Tensor;
}

const probe = 'fisher.probe';
export const probeGradient = `gradient/${probe}`;

/** What a program with `probeGradient` is fed beside the model's own inputs. */
export function probeFeeds(program: Program, value: number, { labels, weights }: Targets): Map<string, Tensor> {
  const { shape } = program.nodes[value]!;
  const zeros = new Float32Array(shape.reduce((product, extent) => product * extent, 1));
  return new Map<string, Tensor>([
    [probe, { shape, values: zeros }],
    ['labels', labels],
    ['positionWeights', weights],
  ]);
}

/**
 * The program with some of its nodes as outputs, and as `probeGradient` the derivative of its cross-entropy by the node `value`: the
 * gradient by a zero that is added to it. Its square is the empirical Fisher information's diagonal there.
 */
export function withSensitivity(program: Program, value: number, nodes: ReadonlyMap<string, number>): Program {
  const ops = new Tracer();
  const plain: Ref[] = [];
  const refs = rewriteInto(ops, program, ({ node, index, copy }) => {
    plain.push(copy());
    return index === value ? ops.add(plain[index]!, ops.input(probe, node.shape, 'public')) : plain[index]!;
  });
  const logits = program.outputs.get('logits');
  if (logits === undefined)
    throw new SottoError('model', 'a model without logits has no loss to be sensitive to', {
      remedy: 'fit its activations directly',
    });
  const positions = program.nodes[logits]!.shape.slice(0, -1);
  const loss = ops.crossEntropy(
    refs[logits]!,
    ops.input('labels', positions, 'public', 'index'),
    ops.input('positionWeights', positions, 'public'),
  );
  const outputs = new Map<string, number>([...nodes].map(([name, index]) => [name, plain[index]!]));
  const found = gradient({ nodes: ops.nodes, outputs: outputs.set('loss', ops.reshape(loss, [])) }, 'loss', [probe]);
  return { ...found, outputs: new Map([...found.outputs].filter(([name]) => name !== 'loss')) };
}
