import { SottoError } from '../../../errors/index.ts';
import { oneHot } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import type { Exact, FixedValue } from '../exact.ts';
import type { AnyProgram, NodeWith, Numbered } from '../node.ts';
import type { RingRow } from './row.ts';

/** The client's secret: real numbers with `fraction` bits, or a one-hot row of `depth` for every index. */
export const clientInput: RingRow<
  'clientInput',
  {
    readonly name: string;
    readonly encoding: 'real' | 'oneHot';
    readonly fraction: number;
    /** Shared modulo 2^modulus; the whole ring where absent. */
    readonly modulus?: number;
  }
> = {
  source: 'client',
  messages: ({ shape, parameters }, { ring }) => ({
    clientToServer: [{ count: size(shape), width: parameters.modulus ?? ring.bits }],
  }),
  meaning: (exact, node) => {
    const { name, encoding } = node.parameters;
    if (encoding === 'oneHot') return { block: oneHot(exact.kernels, exact.source().values, node.shape.at(-1)!, name), most: 1 };
    return encoded(exact, node, name, 1);
  },
};

/** The server's tensor times `factor`, with `fraction` bits; refused where it does not fit 2^modulus, the ring where absent. */
export const serverInput: RingRow<
  'serverInput',
  { readonly name: string; readonly fraction: number; readonly factor: number; readonly modulus?: number }
> = {
  source: 'server',
  meaning: (exact, node) => encoded(exact, node, node.parameters.name, node.parameters.factor),
};

type Source = NodeWith<string, { readonly name: string; readonly modulus?: number }>;

/** Bits of a source's signed numbers: those of the ring; where it is shared in a smaller one, of that less the two that widening takes. */
export const encodingBits = ({ parameters: { modulus } }: Source, { ring }: AnyProgram): number =>
  modulus === undefined ? ring.bits : modulus - 1;

/** What encoding a source throws, with the tensor's name. The number itself stays where it is. */
export function unencodable(error: unknown, { parameters, scope }: Source): unknown {
  if (!(error instanceof SottoError)) return error;
  const place = { ...error.place, tensor: parameters.name, scope };
  return new SottoError(error.kind, error.reason, { place, remedy: error.remedy, cause: error });
}

function encoded({ kernels, guard, program, source }: Exact, node: Numbered<Source>, name: string, factor: number): FixedValue {
  const values = Float64Array.from(source().values, (value) => value * factor);
  if (values.length !== size(node.shape))
    throw new SottoError('input', `${values.length} values for shape [${node.shape}]`, {
      place: { tensor: name },
      remedy: 'check that the checkpoint fits its config.json',
    });
  const block = kernels.allocate(values.length);
  try {
    kernels.encode(block, values, node.fraction, encodingBits(node, program));
  } catch (error) {
    kernels.free(block);
    throw unencodable(error, node);
  }
  return guard.measured(block);
}
