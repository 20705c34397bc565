import { sectionEnds } from '../../cost/index.ts';
import { materialOf, type RingProgram, schedule } from '../../ring/index.ts';

/**
 * After how many frames of the run the first party may need material of node i or of a later one, for every i and for the program's end
 * (never). A stream of material comes in the program's order, so once that many frames have gone, everything up to the last such node must
 * be let through: a party that held it back could hold up the other one, and with it itself.
 */
export function dueAfter(program: RingProgram): Float64Array {
  const count = program.nodes.length;
  const comesTo = { client: new Int32Array(count), server: new Int32Array(count) };
  schedule(program).forEach(({ direction, messages }, hop) => {
    const receives = direction === 'clientToServer' ? comesTo.server : comesTo.client;
    for (const { node } of messages) receives[node] = hop + 1;
  });
  const has = { client: new Int32Array(count), server: new Int32Array(count) };
  const due = new Float64Array(count + 1).fill(Number.POSITIVE_INFINITY);
  // As the runner has it: a client's input waits for the outputs before it.
  let revealed = 0;
  program.nodes.forEach((node, index) => {
    const material = materialOf(node, program);
    const none = material.dealerToServer + material.dealerToClient + material.clientToServer === 0;
    for (const side of ['client', 'server'] as const) {
      const least = side === 'client' && node.operation === 'clientInput' ? revealed : 0;
      const starts = node.inputs.reduce((latest, input) => Math.max(latest, has[side][input]!), least);
      has[side][index] = Math.max(starts, comesTo[side][index]!);
      if (!none) due[index] = Math.min(due[index]!, starts);
    }
    if (node.operation === 'reveal') revealed = Math.max(revealed, has.client[index]!);
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
