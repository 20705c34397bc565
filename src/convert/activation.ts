import { PolynomialMoments, staticFit } from '../math/index.ts';
import { activate } from '../models/block.ts';
import type { ActivationName } from '../models/config.ts';
import type { FloatBackend, Program } from '../program/index.ts';
import { trace } from '../program/index.ts';
import { activationNodes, observe, type Subject, type Weights } from './observe.ts';

/** How the coefficients of a quadratic a·x² + b·x + c are found. */
export type Initialisation = 'static' | 'direct' | 'scale';

export interface Quadratics {
  readonly a: Float32Array;
  readonly b: Float32Array;
  readonly c: Float32Array;
  /** Σ w (f − quadratic)² / Σ w f² on the calibration data. */
  readonly relativeError: number;
}

export interface ActivationFit {
  readonly per: 'layer' | 'channel';
  readonly initialisation: Initialisation;
  /** Weights each sample by the square of the factor that a gate multiplies. */
  readonly weighted: boolean;
}

/**
 * DirectFit: least squares on the arguments that the calibration data really produce in this layer, whose predecessors the program
 * already has converted. `static` fits on N(0, 1) within [−3, 3] instead; `scale` multiplies that by the factor that restores the
 * exact activation's output energy here.
 */
export async function fitActivation<P>(
  subject: Subject<P>,
  options: ActivationFit & {
    readonly program: Program;
    readonly layer: number;
    readonly weights: Weights;
    readonly backend: FloatBackend;
  },
): Promise<Quadratics> {
  const { program, layer, weights, backend, per, initialisation, weighted } = options;
  const { argument, value, factor } = activationNodes(program, layer);
  const nodes = new Map([
    ['argument', argument],
    ['value', value],
    ...(factor === undefined ? [] : [['factor', factor] as const]),
  ]);
  const channels = program.nodes[argument]!.shape.at(-1)!;
  const moments = new PolynomialMoments(2, channels);
  const samples: { x: ArrayLike<number>; f: ArrayLike<number>; w: Float64Array | undefined }[] = [];
  await observe({ program, nodes, weights, feeds: subject.feeds, backend }, (values) => {
    const x = values.get('argument')!.values;
    const f = values.get('value')!.values;
    const other = values.get('factor')?.values;
    const w = weighted && other !== undefined ? Float64Array.from(other, (v) => v * v) : undefined;
    moments.add(x, f, w);
    samples.push({ x, f, w });
  });
  const rows =
    initialisation === 'direct'
      ? per === 'layer'
        ? [moments.fitAll()]
        : moments.fitChannels()
      : [await staticQuadratic(subject.activation, backend)];
  const width = per === 'layer' ? 1 : channels;
  const plain = columns(rows, width);
  const errors = energies(samples, plain, width);
  if (initialisation !== 'scale') return { ...plain, relativeError: errors.error / errors.exact };
  const scale = Math.sqrt(errors.exact / errors.own);
  const scaled = columns(
    rows.map((row) => row.map((coefficient) => coefficient * scale)),
    width,
  );
  return { ...scaled, relativeError: energies(samples, scaled, width).error / errors.exact };
}

/** Rows (c, b, a) as columns of `width`; a single row serves all channels. */
function columns(rows: readonly Float64Array[], width: number): { a: Float32Array; b: Float32Array; c: Float32Array } {
  const column = (k: number): Float32Array => Float32Array.from({ length: width }, (_, i) => (rows[i] ?? rows[0]!)[k]!);
  return { a: column(2), b: column(1), c: column(0) };
}

function energies(
  samples: readonly { x: ArrayLike<number>; f: ArrayLike<number>; w: Float64Array | undefined }[],
  { a, b, c }: { a: Float32Array; b: Float32Array; c: Float32Array },
  width: number,
): { exact: number; own: number; error: number } {
  let [exact, own, error] = [0, 0, 0];
  for (const { x, f, w } of samples)
    for (let i = 0; i < x.length; i++) {
      const channel = i % width;
      const q = (a[channel]! * x[i]! + b[channel]!) * x[i]! + c[channel]!;
      const weight = w === undefined ? 1 : w[i]!;
      exact += weight * f[i]! ** 2;
      own += weight * q ** 2;
      error += weight * (q - f[i]!) ** 2;
    }
  return { exact, own, error };
}

/** The published activation's least-squares quadratic under N(0, 1) on [−3, 3]. */
async function staticQuadratic(name: ActivationName, backend: FloatBackend): Promise<Float64Array> {
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
  return staticFit((at) => f[Math.round(((at + 3) / 6) * (points - 1))]!, 2);
}
