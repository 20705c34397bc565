import { SottoError } from '../errors/index.ts';
import { PolynomialMoments, pseudorandom, staticFit } from '../math/index.ts';
import { activate } from '../models/block.ts';
import type { ActivationName } from '../models/config.ts';
import type { FloatBackend, Program, Tensor } from '../program/index.ts';
import { trace } from '../program/index.ts';
import { probeFeeds, probeGradient, withSensitivity } from './fisher.ts';
import { activationNodes, observe, type Subject, type Weights } from './observe.ts';

export const initialisations = ['naive', 'static', 'scale', 'direct', 'direct-scale', 'hessian'] as const;
/**
 * How the coefficients of a polynomial are found: `naive` draws them; `static` fits on N(0, 1) within [−3, 3]; `direct`
 * on the arguments that calibration produces here; `hessian` does so too, each sample weighted by the squared gradient of the loss at
 * the activation's output. `scale` and `direct-scale` multiply `static` and `direct` by the factor that restores the output's energy.
 */
export type Initialisation = (typeof initialisations)[number];

/** What the mean squared gradient of the first batch, times this, adds to every sample's weight: samples that no label hears of stay. */
export const fisherDamping = 1e-2;
/** Deviation of coefficients that are drawn. */
const naiveDeviation = 0.5;

export interface Polynomials {
  /** Of t^0, t^1 and so on, t = x / reach, a number a channel (or one). */
  readonly coefficients: readonly Float32Array[];
  /** 1 for quadratics; of higher degrees the largest |x| met. */
  readonly reach: number;
  /** Σ w (f − polynomial)² / Σ w f² on the calibration data. */
  readonly relativeError: number;
}

/** How the coefficients that stand for an activation are fitted. */
export interface ActivationFit {
  readonly per: 'layer' | 'channel';
  readonly initialisation: Initialisation;
  /** Weights each sample by the square of the factor that a gate multiplies. */
  readonly weighted: boolean;
}

export interface FitOptions extends ActivationFit {
  readonly program: Program;
  readonly layer: number;
  readonly weights: Weights;
  readonly backend: FloatBackend;
  /** Decides the coefficients of `naive`; 0 where absent. */
  readonly seed?: number | undefined;
}
export type Degree = 2 | 4;

/** Least squares on what one layer does, whose predecessors the program already has converted; see `initialisations`. */
export async function fitActivation<P>(
  subject: Subject<P>,
  options: FitOptions & { readonly degree: Degree },
): Promise<Polynomials> {
  const { program, layer, backend, per, initialisation, degree } = options;
  const channels = program.nodes[activationNodes(program, layer).argument]!.shape.at(-1)!;
  const moments = new PolynomialMoments(degree, channels);
  const samples: Sample[] = [];
  await observeActivation(subject, options, (sample) => {
    moments.add(sample.x, sample.f, sample.w);
    samples.push(sample);
  });
  const width = per === 'layer' ? 1 : channels;
  const reach = degree === 2 ? 1 : farthest(samples);
  const rows = await firstRows(initialisation, width);
  const plain = columns(rows, width);
  const errors = energies(samples, plain, { width, reach });
  if (!initialisation.endsWith('scale')) return { coefficients: plain, reach, relativeError: errors.error / errors.exact };
  const scale = Math.sqrt(errors.exact / errors.own);
  const scaled = plain.map((column) => column.map((coefficient) => coefficient * scale));
  return { coefficients: scaled, reach, relativeError: energies(samples, scaled, { width, reach }).error / errors.exact };

  async function firstRows(kind: Initialisation, count: number): Promise<Float64Array[]> {
    if (kind === 'naive') {
      const random = pseudorandom(options.seed ?? 0, 0x6e6169, layer);
      return Array.from({ length: count }, () =>
        Float64Array.from({ length: degree + 1 }, () => naiveDeviation * random.normal()),
      );
    }
    if (kind === 'static' || kind === 'scale')
      return [inReach(await staticPolynomial(subject.layout.activation, degree, backend))];
    return (per === 'layer' ? [moments.fitAll()] : moments.fitChannels()).map(inReach);
  }
  /** Of powers of x to those of t. */
  function inReach(row: Float64Array): Float64Array {
    return row.map((coefficient, power) => coefficient * reach ** power);
  }
}

/** The lines a·x through zero nearest to the activation on what one layer does: what stands in a bilinear gate. */
export async function fitLine<P>(subject: Subject<P>, options: FitOptions): Promise<{ a: Float32Array; relativeError: number }> {
  const { program, layer, per } = options;
  const channels = program.nodes[activationNodes(program, layer).argument]!.shape.at(-1)!;
  const width = per === 'layer' ? 1 : channels;
  const [products, squares] = [new Float64Array(width), new Float64Array(width)];
  let energy = 0;
  await observeActivation(subject, options, ({ x, f, w }) => {
    for (let i = 0; i < x.length; i++) {
      const weight = w === undefined ? 1 : w[i]!;
      products[i % width]! += weight * x[i]! * f[i]!;
      squares[i % width]! += weight * x[i]! ** 2;
      energy += weight * f[i]! ** 2;
    }
  });
  const a = Float32Array.from(products, (product, i) => (squares[i]! > 0 ? product / squares[i]! : 0));
  const explained = products.reduce((sum, product, i) => sum + a[i]! * product, 0);
  return { a, relativeError: 1 - explained / energy };
}

/** Arguments, exact values and weights of one batch, row by row of channels. */
interface Sample {
  readonly x: ArrayLike<number>;
  readonly f: ArrayLike<number>;
  readonly w: Float64Array | undefined;
}

async function observeActivation<P>(
  subject: Subject<P>,
  { program, layer, weights, backend, initialisation, weighted }: FitOptions,
  visit: (sample: Sample) => void,
): Promise<void> {
  const { argument, value, factor } = activationNodes(program, layer);
  const nodes = new Map([
    ['argument', argument],
    ['value', value],
    ...(factor === undefined ? [] : [['factor', factor] as const]),
  ]);
  const read = (values: ReadonlyMap<string, Tensor>, w: Float64Array | undefined): void =>
    visit({ x: values.get('argument')!.values, f: values.get('value')!.values, w });
  if (initialisation !== 'hessian') {
    await observe({ program, nodes, weights, feeds: subject.feeds, backend }, (values) => {
      const other = values.get('factor')?.values;
      read(values, weighted && other !== undefined ? Float64Array.from(other, (v) => v * v) : undefined);
    });
    return;
  }
  const { targets } = subject;
  if (targets === undefined)
    throw new SottoError('usage', 'a fit weighted by the loss needs calibration data with labels', {
      place: { field: 'initialisation' },
      remedy: 'give labels, or fit directly',
    });
  const sensitive = withSensitivity(program, value, nodes);
  const feeds = subject.feeds.map((feed, at) => new Map([...feed, ...probeFeeds(program, value, targets[at]!)]));
  let damping: number | undefined;
  await observe({ program: sensitive, nodes: sensitive.outputs, weights, feeds, backend }, (values) => {
    const w = Float64Array.from(values.get(probeGradient)!.values, (g) => g * g);
    damping ??= (fisherDamping * w.reduce((sum, square) => sum + square, 0)) / w.length;
    for (let i = 0; i < w.length; i++) w[i]! += damping;
    read(values, w);
  });
}

/** Rows of coefficients, by rising power, as columns of `width`; a single row serves all channels. */
const columns = (rows: readonly Float64Array[], width: number): Float32Array[] =>
  Array.from(rows[0]!, (_, power) => Float32Array.from({ length: width }, (_, i) => (rows[i] ?? rows[0]!)[power]!));

/** The largest |x|, at least a millionth. */
function farthest(samples: readonly Sample[]): number {
  let most = 1e-6;
  for (const { x } of samples) for (let i = 0; i < x.length; i++) most = Math.max(most, Math.abs(x[i]!));
  return most;
}

function energies(
  samples: readonly Sample[],
  coefficients: readonly Float32Array[],
  { width, reach }: { width: number; reach: number },
): { exact: number; own: number; error: number } {
  let [exact, own, error] = [0, 0, 0];
  for (const { x, f, w } of samples)
    for (let i = 0; i < x.length; i++) {
      const channel = i % width;
      const t = x[i]! / reach;
      let q = 0;
      for (let power = coefficients.length - 1; power >= 0; power--) q = q * t + coefficients[power]![channel]!;
      const weight = w === undefined ? 1 : w[i]!;
      exact += weight * f[i]! ** 2;
      own += weight * q ** 2;
      error += weight * (q - f[i]!) ** 2;
    }
  return { exact, own, error };
}

/** The published activation's least-squares polynomial under N(0, 1) on [−3, 3]. */
async function staticPolynomial(name: ActivationName, degree: Degree, backend: FloatBackend): Promise<Float64Array> {
  const points = 6001;
  const place = (i: number): number => -3 + (6 * i) / (points - 1);
  const program = trace((ops) => {
    const x = ops.input('x', [points], 'public');
    return { f: activate(ops, { kind: 'exact' }, name, x, () => x) };
  });
  const executable = await backend.compile(program, new Map());
  const x = { shape: [points], values: Float32Array.from({ length: points }, (_, i) => place(i)) };
  const f = (await executable.run(new Map([['x', x]]))).get('f')!.values;
  await executable.close();
  return staticFit((at) => f[Math.round(((at + 3) / 6) * (points - 1))]!, degree);
}
