import type { RingOperation } from '../../ring/index.ts';
import { exchange, exchanged } from './exchange.ts';
import { flag, project } from './flags.ts';
import { clientInput, serverInput } from './inputs.ts';
import { diagonal, linear } from './linear.ts';
import { lookup } from './lookup.ts';
import { concat, move, packRows, pad, reshape, unpackRows } from './moves.ts';
import { narrow } from './narrow.ts';
import { narrowProduct, narrowSquare, openedSign, openNarrow, unmask, widen } from './narrow-products.ts';
import { piecewise } from './piecewise.ts';
import { pin } from './pin.ts';
import { matrixProduct, open, product, square } from './products.ts';
import { reveal } from './reveal.ts';
import type { SecureRow } from './row.ts';
import { add, addConstant, addServer, fromServer, multiplyConstant, multiplyInteger, subtract, sum } from './sums.ts';
import { truncate } from './truncate.ts';

/** Both sides and the dealer of every ring operation: leaving one out does not compile. */
export const secureRows: { readonly [P in RingOperation]: SecureRow<P> } = {
  ...{ clientInput, serverInput, fromServer },
  ...{ reshape, move, concat, pad, packRows, unpackRows },
  ...{ add, subtract, addServer, addConstant, multiplyConstant, multiplyInteger, sum },
  ...{ linear, diagonal, open, square, product, matrixProduct },
  ...{ truncate, narrow, pin, openNarrow, openedSign, unmask, widen, narrowSquare, narrowProduct },
  ...{ exchange, exchanged },
  ...{ lookup, piecewise, reveal, project, flag },
};
