/** Bit-exact simulation of the ring arithmetic, one party's view of nobody: for accuracy, ranges and checks. */
export type { RoundingOffsets } from '../ring/index.ts';
export { type SimulationOptions, simulate } from './simulate.ts';
