import { SottoError } from '../errors/index.ts';
import { type Program, type Ref, rewrite } from '../program/index.ts';

/**
 * The program over mixed texts: every embedding of `ids` becomes share · embedding(ids) + (1 − share) · embedding(partners). New
 * inputs: `partners`, of the ids' shape, and `share` of shape [].
 */
export function withMixedTokens(program: Program): Program {
  let added: { partners: Ref; share: Ref; rest: Ref } | undefined;
  const mixed = rewrite(program, (ops, { node, inputs, copy }) => {
    const own = copy();
    if (node.operation !== 'embedding' || !isIds(program, node.inputs[1]!)) return own;
    if (added === undefined) {
      const share = ops.input('share', [], 'public');
      added = {
        partners: ops.input('partners', ops.shape(inputs[1]!), 'public', 'index'),
        share,
        rest: ops.offset(ops.scale(share, -1), 1),
      };
    }
    const { partners, share, rest } = added;
    return ops.within(node.scope, () =>
      ops.add(ops.multiply(own, share), ops.multiply(ops.embedding(inputs[0]!, partners), rest)),
    );
  });
  if (added === undefined)
    throw new SottoError('usage', 'the program embeds no ids that could be mixed', {
      place: { field: 'mixup' },
      remedy: 'mix texts of a model that reads token ids',
    });
  return mixed;
}

function isIds(program: Program, index: number): boolean {
  const node = program.nodes[index]!;
  return node.operation === 'input' && node.parameters.name === 'ids';
}
