import { SottoError } from '../errors/index.ts';
import type { Shape } from '../program/index.ts';
import type { ModelConfig } from './configuration.ts';
import { layoutOf } from './families/index.ts';
import { type Copied, type Fused, foldedRows, type Vector } from './folded-tensors.ts';
import type { Plan } from './plan.ts';

/** What a server of a private run owns under one name: gains, biases and constants folded in, values in row-major order. */
export interface FoldedTensor {
  readonly shape: Shape;
  readonly values: Float64Array;
}
/** Gives a published tensor's values, row-major. */
export type ReadTensor = (name: string) => Promise<Float32Array | Float64Array>;

/** The private weights of a model, made one after the other: see `foldedRows`. Throws a `model` error for a tensor of another size. */
export async function* foldWeights(config: ModelConfig, plan: Plan, read: ReadTensor): AsyncGenerator<[string, FoldedTensor]> {
  const tensor = checkedReader(read);
  for (const row of foldedRows(layoutOf(config), plan)) {
    if ('parts' in row) yield* fuse(row, tensor);
    else yield [row.name, { shape: row.shape, values: await copy(row, tensor) }];
  }
}

type CheckedReader = (name: string, length: number) => Promise<Float64Array>;

/** Reads a tensor as float64, or throws a `model` error that names it where its size is not what config.json says. */
function checkedReader(read: ReadTensor): CheckedReader {
  return async (name, length) => {
    const values = await read(name);
    if (values.length === length) return Float64Array.from(values);
    throw new SottoError('model', `${values.length} values where the configuration asks for ${length}`, {
      place: { tensor: name },
      remedy: 'check that config.json and its plan describe these weights',
    });
  };
}

async function copy({ shape, from, length, start = 0, plus }: Copied, tensor: CheckedReader): Promise<Float64Array> {
  const values = await tensor(from, length);
  const own = start === 0 ? values : values.slice(start);
  if (plus === undefined) return own;
  const added = await tensor(plus.name, plus.length);
  const width = shape.at(-1)!;
  for (let at = 0; at < own.length; at++) own[at]! += added[at % width]!;
  return own;
}

async function vectorOf(tensor: CheckedReader, source: Vector | undefined, width: number): Promise<Float64Array | undefined> {
  if (source === undefined) return undefined;
  if ('value' in source) return new Float64Array(width).fill(source.value);
  const values = await tensor(source.name, source.width);
  return Float64Array.from({ length: width }, (_, at) => values[Math.floor((at * source.width) / width)]!);
}

/** Fuses parts along `out`. */
async function* fuse(
  { name, shape, left, parts, bias: kept, plus }: Fused,
  tensor: CheckedReader,
): AsyncGenerator<[string, FoldedTensor]> {
  const [inputs, outputs] = shape as [number, number];
  const [gain, shift] = [await vectorOf(tensor, left.gain, inputs), await vectorOf(tensor, left.shift, inputs)];
  const added = await vectorOf(tensor, plus, outputs);
  const matrix = new Float64Array(inputs * outputs);
  const bias = new Float64Array(outputs);
  let column = 0;
  for (const { name: source, out, bias: hasBias, scale: common = 1, outputs: factors } of parts) {
    const values = await tensor(`${source}.weight`, out * inputs);
    const constants = hasBias ? await tensor(`${source}.bias`, out) : undefined;
    const scales = await vectorOf(tensor, factors, out);
    for (let row = 0; row < out; row++) {
      const scale = common * (scales?.[row] ?? 1);
      let constant = constants?.[row] ?? 0;
      for (let k = 0; k < inputs; k++) {
        const value = values[row * inputs + k]!;
        matrix[k * outputs + column] = scale * value * (gain?.[k] ?? 1);
        if (shift !== undefined) constant += value * shift[k]!;
      }
      bias[column] = scale * constant;
      if (added !== undefined) bias[column]! += added[column]!;
      column++;
    }
  }
  yield [name, { shape, values: matrix }];
  if (kept) yield [`${name}.bias`, { shape: [outputs], values: bias }];
}
