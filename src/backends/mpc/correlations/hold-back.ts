import { sectionEnds } from '../../cost/index.ts';
import { materialOf, type RingProgram, readiness, schedule } from '../../ring/index.ts';

/**
 * After how many frames of the run the first party may need material of node i or of a later one, for every i and for the program's end
 * (never). A stream of material comes in the program's order, so once that many frames have gone, everything up to the last such node must
 * be let through: a party that held it back could hold up the other one, and with it itself.
 */
export function dueAfter(program: RingProgram): Float64Array {
  const count = program.nodes.length;
  const frames = { clientToServer: new Int32Array(count), serverToClient: new Int32Array(count) };
  schedule(program).forEach(({ direction, messages }, hop) => {
    for (const { node } of messages) frames[direction][node] = hop + 1;
  });
  const { starts } = readiness(program, (direction, node) => {
    const gone = frames[direction][node]!;
    return { left: gone, arrives: gone };
  });
  const due = new Float64Array(count + 1).fill(Number.POSITIVE_INFINITY);
  program.nodes.forEach((node, index) => {
    const { dealerToServer, dealerToClient, clientToServer } = materialOf(node, program);
    if (dealerToServer + dealerToClient + clientToServer > 0) due[index] = Math.min(starts.client[index]!, starts.server[index]!);
  });
  for (let index = count - 1; index >= 0; index--) due[index] = Math.min(due[index]!, due[index + 1]!);
  // The parts of a section go out as each is whole: one party's may be behind the other's.
  let first = 0;
  for (const end of sectionEnds(program)) {
    due.fill(due[first]!, first, end);
    first = end;
  }
  return due;
}
