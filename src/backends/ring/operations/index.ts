import type { NodeWith } from '../node.ts';
import { exchange, exchanged } from './exchange.ts';
import { flag, project } from './flags.ts';
import { clientInput, serverInput } from './inputs.ts';
import { diagonal, linear } from './linear.ts';
import { lookup } from './lookup.ts';
import { concat, move, packRows, pad, reshape, unpackRows } from './moves.ts';
import { narrowProduct, narrowSquare, openedSign, openNarrow, unmask, widen } from './narrow-products.ts';
import { piecewise } from './piecewise.ts';
import { matrixProduct, open, product, square } from './products.ts';
import { reveal } from './reveal.ts';
import type { RingRow } from './row.ts';
import { add, addConstant, addServer, fromServer, multiplyConstant, multiplyInteger, subtract, sum } from './sums.ts';
import { narrow, pin, truncate } from './truncate.ts';

/** THE list of ring operations: whatever is not here does not exist, and what is here must have its two sides in mpc/operations. */
export const ringRows = {
  ...{ clientInput, serverInput, fromServer },
  ...{ reshape, move, concat, pad, packRows, unpackRows },
  ...{ add, subtract, addServer, addConstant, multiplyConstant, multiplyInteger, sum },
  ...{ linear, diagonal, open, square, product, matrixProduct },
  ...{ truncate, narrow, pin, openNarrow, openedSign, unmask, widen, narrowSquare, narrowProduct },
  ...{ exchange, exchanged },
  ...{ lookup, piecewise, reveal, project, flag },
};

type Rows = typeof ringRows;
type ParametersOf<R> = R extends RingRow<string, infer Q> ? Q : never;

/** Operations and their parameters. */
export type RingOperations = { [P in keyof Rows]: ParametersOf<Rows[P]> };
export type RingOperation = keyof RingOperations;
export type RingNodeOf<P extends RingOperation> = NodeWith<P, RingOperations[P]>;
/** One statement of a ring program: a row of the operations, with its inputs by index, its parameters, shape and owner state. */
export type RingNode = { [P in RingOperation]: RingNodeOf<P> }[RingOperation];

/** Every row stands under its own name. */
ringRows satisfies { readonly [P in RingOperation]: RingRow<P, RingOperations[P]> };
