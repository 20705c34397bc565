import { BlockCounts, type RingKernels } from '../../kernels/index.ts';
import type { Tensor } from '../../program/index.ts';
import { type FixedValue, RangeGuard, type RingProgram, type RoundingOffsets, rowOf } from '../ring/index.ts';

/**
 * What exact integers are computed with: kernels of the word that the ring needs, both parties' tensors, and how truncations
 * round.
 */
export interface SimulationOptions {
  readonly kernels: RingKernels;
  /** The server's tensors, as real numbers. */
  readonly weights: (name: string) => Promise<Tensor>;
  /** The client's tensors: real numbers or indices. Asked for after every output before it was given. */
  readonly inputs: (name: string) => Promise<Tensor>;
  /**
   * Each output by name, as real numbers of the program's shape, before the inputs that may depend on it are asked for. False where nothing
   * more is needed: the simulation ends.
   */
  readonly onOutput?: (name: string, value: Tensor) => boolean;
  /** Nearest rounding where it is not given. */
  readonly offsets?: RoundingOffsets;
}

/**
 * The exact integers of a private run, without the sharing: equal to it bit for bit when given the run's rounding offsets. A value
 * that leaves the ring's range, or a table's, is a `range` error with its scope.
 *
 * @example
 * ```js
 * import { createWasmKernels, quantise, simulate } from 'sotto/mpc';
 * import { trace } from 'sotto/program';
 *
 * const program = trace((ops) => ({ y: ops.multiply(ops.input('x', [1], 'client'), ops.input('w', [1], 'server')) }));
 * const tensor = (value) => async () => ({ shape: [1], values: [value] });
 * const options = { kernels: createWasmKernels(64), weights: tensor(0.5), inputs: tensor(3) };
 * const outputs = await simulate(quantise(program, { bits: 64, fraction: 16 }), options);
 * console.log(outputs.get('y').values[0]); // 1.5
 * ```
 */
export async function simulate(program: RingProgram, options: SimulationOptions): Promise<Map<string, Tensor>> {
  const { kernels } = options;
  const outputs = new Map<string, Tensor>();
  let given: Tensor | undefined;
  let wanted = true;
  const exact = {
    ...{ kernels, program, offsets: options.offsets, guard: new RangeGuard(kernels, program.ring) },
    source: () => given!,
    output: (name: string, value: Tensor) => {
      outputs.set(name, value);
      wanted = options.onOutput?.(name, value) ?? true;
    },
  };
  const uses = new Int32Array(program.nodes.length);
  for (const node of program.nodes) for (const input of node.inputs) uses[input]!++;
  const held = new BlockCounts(kernels);
  const values: (FixedValue | undefined)[] = [];
  try {
    for (let index = 0; index < program.nodes.length && wanted; index++) {
      const node = program.nodes[index]!;
      const inputs = node.inputs.map((input) => values[input]!);
      const row = rowOf(node);
      if ('name' in node.parameters && row.source !== undefined) {
        const { name } = node.parameters;
        given = await (row.source === 'server' ? options.weights : options.inputs)(name);
      }
      const value = row.meaning(exact, { ...node, index }, ...inputs);
      held.hold(value.block);
      values.push(value);
      for (const input of [...node.inputs, index]) {
        if (input !== index && --uses[input]! > 0) continue;
        if (input === index && uses[index]! > 0) continue;
        const dead = values[input];
        if (dead === undefined) continue;
        held.release(dead.block);
        values[input] = undefined;
      }
    }
  } finally {
    held.releaseAll();
  }
  return outputs;
}
