import { SottoError } from '../errors/index.ts';
import { type Pseudorandom, pseudorandom } from '../math/index.ts';
import type { Checkpoint, LoadedTensor } from '../models/checkpoint.ts';
import { type LlamaConfig, parseModelConfig } from '../models/config.ts';
import { layoutOf, writesText } from '../models/families/index.ts';

/** Deviation of the new rows of keys and values, as a share of the root mean square of the old ones. */
const newRows = 0.5;

/** Separates these numbers from the others that a recipe's seed gives. */
const domain = 0x776964;

/** A checkpoint as far as heads are widened in it: its configuration, and all of its tensors. */
export type Source = Pick<Checkpoint, 'config' | 'readAll'>;

/**
 * The same function with wider heads. Among n keys a softmax tells the best by e^s alone; a power tells it only if its score stands out
 * from the row's spread, and the spread of chance products of d numbers is 1/√d of a true match's. Old dimensions keep their rotary
 * frequencies, which are every `headDim / old`-th of the new ones, and queries grow by √(headDim / old) because scores are divided by
 * the root of the width. New rows of keys and values are drawn, of queries and of the output's columns zero: nothing changes until
 * training begins. Errors: `model` for another family, for rows of biases, and for a width that is no multiple of the old one.
 */
export async function widenHeads(source: Source, headDim: number, seed: number): Promise<Source> {
  const config = parseModelConfig(source.config);
  if (config.headDim === headDim) return source;
  const checked = widenable(config, headDim);
  const tensors = await source.readAll();
  const random = pseudorandom(seed, domain, headDim);
  const parts = projections(checked);
  const widened = new Map(
    [...tensors].map(([name, tensor]) => [name, widenedTensor(parts.get(name), tensor, checked, { headDim, random })]),
  );
  return { config: { ...source.config, head_dim: headDim }, readAll: async () => widened };
}

function widenable(config: ReturnType<typeof parseModelConfig>, headDim: number): LlamaConfig {
  const problem = !writesText(config)
    ? `the heads of a ${config.family} are as wide as its hidden size over their number`
    : config.attentionBias
      ? 'projections with biases cannot be widened'
      : headDim % config.headDim !== 0
        ? `${headDim} is no multiple of the heads' width, ${config.headDim}`
        : undefined;
  if (problem === undefined) return config as LlamaConfig;
  throw new SottoError('model', problem, {
    place: { field: 'conversion.headDim' },
    remedy: 'leave headDim out, or name a multiple of what config.json has, of a Llama without biases',
  });
}

type Projection = 'query' | 'key' | 'value' | 'out';

/** What the matrices of every attention do, by the names of their weights. */
function projections(config: LlamaConfig): Map<string, Projection> {
  const layout = layoutOf(config);
  const blocks = Array.from({ length: layout.numHiddenLayers }, (_, index) => layout.block(index).attention);
  const parts = ['query', 'key', 'value', 'out'] as const;
  return new Map(blocks.flatMap((attention) => parts.map((part) => [`${attention[part].name}.weight`, part] as const)));
}

function widenedTensor(
  part: Projection | undefined,
  tensor: LoadedTensor,
  config: LlamaConfig,
  { headDim, random }: { headDim: number; random: Pseudorandom },
): LoadedTensor {
  const { numAttentionHeads: heads, numKeyValueHeads: keyValueHeads, headDim: old } = config;
  if (part === undefined) return tensor;
  const place = placeOf(old, headDim);
  if (part === 'query') return widerRows(tensor, heads, { place, headDim, scale: Math.sqrt(headDim / old) });
  if (part === 'out') return widerColumns(tensor, heads, { place, headDim });
  return widerRows(tensor, keyValueHeads, { place, headDim, random });
}

/** Where dimension i of a head stands in the wider one: the halves that rotary positions turn stay halves. */
function placeOf(old: number, headDim: number): (i: number) => number {
  const [half, factor] = [old / 2, headDim / old];
  return (i) => (i < half ? i * factor : headDim / 2 + (i - half) * factor);
}

interface Widening {
  readonly place: (i: number) => number;
  readonly headDim: number;
}

/** (heads·old, inputs) → (heads·headDim, inputs); rows of their own are drawn where there is a `random`, else zero. */
function widerRows(
  { shape, values }: LoadedTensor,
  heads: number,
  { place, headDim, scale = 1, random }: Widening & { scale?: number; random?: Pseudorandom },
): LoadedTensor {
  const inputs = shape[1]!;
  const old = shape[0]! / heads;
  const wide = new Float32Array(heads * headDim * inputs);
  if (random !== undefined) {
    const deviation = newRows * Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
    for (let i = 0; i < wide.length; i++) wide[i] = deviation * random.normal();
  }
  for (let row = 0; row < heads * old; row++) {
    const to = (Math.floor(row / old) * headDim + place(row % old)) * inputs;
    for (let i = 0; i < inputs; i++) wide[to + i] = scale * values[row * inputs + i]!;
  }
  return { shape: [heads * headDim, inputs], values: wide };
}

/** (outputs, heads·old) → (outputs, heads·headDim), zero in new columns. */
function widerColumns({ shape, values }: LoadedTensor, heads: number, { place, headDim }: Widening): LoadedTensor {
  const [outputs, columns] = [shape[0]!, shape[1]!];
  const old = columns / heads;
  const wide = new Float32Array(outputs * heads * headDim);
  for (let row = 0; row < outputs; row++)
    for (let column = 0; column < columns; column++) {
      const to = Math.floor(column / old) * headDim + place(column % old);
      wide[row * heads * headDim + to] = values[row * columns + column]!;
    }
  return { shape: [outputs, heads * headDim], values: wide };
}
