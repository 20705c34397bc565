import { SottoError } from '../errors/index.ts';
import { pseudorandom } from '../math/index.ts';
import { type Feed, type Program, type Ref, rewrite, type Tensor } from '../program/index.ts';
import type { Base } from './base.ts';
import type { Weights } from './loop.ts';

/** Low-rank adapters (Hu et al., arXiv 2106.09685): a matrix W (out, in) acts as W + alpha/rank · B·A, and only A and B are trained. */
export interface Lora {
  readonly rank: number;
  readonly alpha: number;
  /** Matrices whose name ends in `.PART.weight` for one of these. */
  readonly matrices: readonly string[];
}

/** A (rank, in) and B (out, rank). */
const factorNames = (name: string): [string, string] => [`${name}.lora_A`, `${name}.lora_B`];

/** A training whose matrices stay as they are and whose adapters move. */
export interface Adapted {
  /** The adapters' first values, and the other tensors that are trained. */
  readonly start: Weights;
  readonly frozen: ReadonlyMap<string, Feed>;
  /** The same program with adapters beside its frozen matrices. */
  readonly adapt: (program: Program) => Program;
  /** All weights by their published names, the adapters added to their matrices. */
  readonly merge: (trained: Weights) => Map<string, Tensor>;
}

/** Freezes the weights but for those `kept` names; B starts at zero, so that the model starts unchanged. Errors: `input` where nothing fits. */
export function adapters(lora: Lora, base: Base, options: { seed: number; kept: (name: string) => boolean }): Adapted {
  const { shapes } = base;
  const names = [...shapes.keys()].filter((name) => lora.matrices.some((part) => name.endsWith(`.${part}.weight`)));
  if (names.length === 0 || names.some((name) => shapes.get(name)!.length !== 2))
    throw new SottoError('input', 'no matrix of the model has one of these names', {
      place: { field: 'lora.matrices' },
      remedy: 'name parts such as q_proj, or query',
    });
  const start = new Map<string, Tensor>();
  const random = pseudorandom(options.seed, 0x6c6f7261);
  for (const name of names) {
    const [out, into] = shapes.get(name)! as [number, number];
    const [a, b] = factorNames(name);
    const values = Float32Array.from({ length: lora.rank * into }, () => random.normal() / Math.sqrt(into));
    start.set(a, { shape: [lora.rank, into], values });
    start.set(b, { shape: [out, lora.rank], values: new Float32Array(out * lora.rank) });
  }
  const frozen = new Map(base.tensors);
  for (const name of base.shapes.keys()) {
    if (!options.kept(name)) continue;
    start.set(name, base.read(name));
    frozen.delete(name);
  }
  return {
    start,
    frozen,
    adapt: (program) => base.pack(withAdapters(program, new Set(names), lora)),
    merge: (trained) => {
      const all = new Map([...shapes.keys()].map((name) => [name, trained.get(name) ?? base.read(name)]));
      for (const name of names)
        all.set(
          name,
          merged(
            all.get(name)!,
            factorNames(name).map((part) => trained.get(part)!),
            lora,
          ),
        );
      return all;
    },
  };
}

/** x·Wᵀ becomes x·Wᵀ + alpha/rank · (x·Aᵀ)·Bᵀ: no gradient of the shape of W is ever needed. */
export function withAdapters(program: Program, names: ReadonlySet<string>, { rank, alpha }: Lora): Program {
  const factors = new Map<number, readonly [Ref, Ref]>();
  const met = new Set<string>();
  const adapted = rewrite(program, (ops, { node, index, inputs, copy }) => {
    const made = copy();
    if (node.operation === 'input' && names.has(node.parameters.name)) {
      const [out, into] = node.shape as [number, number];
      const [a, b] = factorNames(node.parameters.name);
      factors.set(index, [ops.input(a, [rank, into], 'server'), ops.input(b, [out, rank], 'server')]);
    }
    const behind = factors.get(node.inputs[node.operation === 'matmul' ? 1 : 0]!);
    if (behind !== undefined && node.operation === 'transpose') factors.set(index, behind);
    if (behind === undefined || node.operation !== 'matmul') return made;
    const source = program.nodes[program.nodes[node.inputs[1]!]!.inputs[0]!];
    if (source?.operation === 'input') met.add(source.parameters.name);
    const [a, b] = behind;
    return ops.within(node.scope, () => {
      const low = ops.matmul(ops.matmul(inputs[0]!, ops.transposed(a)), ops.transposed(b));
      return ops.add(made, ops.scale(low, alpha / rank));
    });
  });
  const missed = [...names].find((name) => !met.has(name));
  if (missed !== undefined)
    throw new SottoError('input', 'an adapter works on matrices that rows are multiplied by', {
      place: { field: 'lora.matrices', tensor: missed },
      remedy: 'leave this matrix out',
    });
  return adapted;
}

function merged({ shape, values }: Tensor, [a, b]: readonly Tensor[], { rank, alpha }: Lora): Tensor {
  const [out, into] = shape as [number, number];
  const sum = Float32Array.from(values);
  for (let row = 0; row < out; row++)
    for (let r = 0; r < rank; r++) {
      const factor = (alpha / rank) * b!.values[row * rank + r]!;
      for (let column = 0; column < into; column++) sum[row * into + column]! += factor * a!.values[r * into + column]!;
    }
  return { shape, values: sum };
}
