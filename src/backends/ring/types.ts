import type { RingParameters } from './node.ts';
import type { RingNode } from './operations/index.ts';

export type { RingParameters, State } from './node.ts';
export type { RingNode, RingNodeOf, RingOperation } from './operations/index.ts';
export type { Piecewise } from './operations/piecewise.ts';

/** A straight-line program over Z_2^L. */
export interface RingProgram {
  readonly ring: RingParameters;
  readonly nodes: readonly RingNode[];
}
