import { SottoError } from '../errors/index.ts';
import type { Program, Tensor } from '../program/index.ts';

/** The tensors that a program asks of the server, and no others. */
export function boundWeights(program: Program, weights: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const bound = new Map<string, Tensor>();
  for (const node of program.nodes) {
    if (node.operation !== 'input' || node.parameters.owner !== 'server') continue;
    const { name } = node.parameters;
    const tensor = weights.get(name);
    if (tensor === undefined)
      throw new SottoError('model', 'the weights lack this tensor', {
        place: { tensor: name },
        remedy: 'load the weights for this plan; `sotto convert` adds what a polynomial plan needs',
      });
    bound.set(name, tensor);
  }
  return bound;
}
