import { materialOf, type RingProgram } from '../ring/index.ts';

export const seedBytes = 32;
/** Says which session a master seed is for. */
export const tagBytes = 16;
/** What every stream of the dealer or the helper begins with: its party's master seed and the tag. */
export const masterBytes = seedBytes + tagBytes;

/** A section ends with the node at which its three streams hold this much together. */
const sectionBytes = 2 ** 14;

/** Bytes of each section of the three correlation streams of a run in the helper setting. */
export interface Sections {
  readonly helperToServer: readonly number[];
  readonly helperToClient: readonly number[];
  readonly clientToServer: readonly number[];
}

/**
 * How material is cut where it is made while the run goes on: the seeds alone, then the nodes' messages in sections of about 16 KiB. A
 * stream's part of a section goes out as soon as it is whole, so that nobody waits for what is behind it. The payload is the same as
 * in the dealer setting; only frame headers differ. Both ends know the sections from the program.
 */
export function sectionsOf(program: RingProgram): Sections {
  const sections = { helperToServer: [masterBytes], helperToClient: [masterBytes], clientToServer: [0] };
  let first = 0;
  for (const end of sectionEnds(program)) {
    const sum = { dealerToServer: 0, dealerToClient: 0, clientToServer: 0 };
    for (const node of program.nodes.slice(first, end)) {
      const material = materialOf(node, program);
      for (const stream of ['dealerToServer', 'dealerToClient', 'clientToServer'] as const) sum[stream] += material[stream];
    }
    sections.helperToServer.push(sum.dealerToServer);
    sections.helperToClient.push(sum.dealerToClient);
    sections.clientToServer.push(sum.clientToServer);
    first = end;
  }
  return sections;
}

/** The node behind the last one of each section. */
export function sectionEnds(program: RingProgram): number[] {
  const ends: number[] = [];
  let open = 0;
  program.nodes.forEach((node, index) => {
    const material = materialOf(node, program);
    open += material.dealerToServer + material.dealerToClient + material.clientToServer;
    if (open < sectionBytes) return;
    ends.push(index + 1);
    open = 0;
  });
  return [...ends, program.nodes.length];
}
