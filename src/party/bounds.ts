import { streamChunkBytes } from '../backends/cost/index.ts';
import { type Direction, mostFrameBytes, type RingProgram, schedule } from '../backends/ring/index.ts';
import { shortControlBytes } from './control.ts';

/** What a dealer or helper sends at most in one frame: a chunk of material. */
export const materialFrameBytes = streamChunkBytes;

/** What client or server sends the other at most in one frame of a run: material in chunks, and what the program's schedule says. */
export function largestFrameBytes(program: RingProgram, direction: Direction): number {
  const online = schedule(program).map((hop) => (hop.direction === direction ? Math.min(hop.bytes, mostFrameBytes) : 0));
  const material = direction === 'clientToServer' ? materialFrameBytes : shortControlBytes;
  return online.reduce((most, bytes) => Math.max(most, bytes), material);
}
