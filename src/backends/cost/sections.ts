import { materialOf, type RingProgram } from '../ring/index.ts';

/** Every stream of the dealer or the helper begins with its party's master seed. */
export const seedBytes = 32;

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
  const sections = { helperToServer: [seedBytes], helperToClient: [seedBytes], clientToServer: [0] };
  const open = { helperToServer: 0, helperToClient: 0, clientToServer: 0 };
  const end = (): void => {
    for (const stream of ['helperToServer', 'helperToClient', 'clientToServer'] as const) {
      sections[stream].push(open[stream]);
      open[stream] = 0;
    }
  };
  for (const node of program.nodes) {
    const material = materialOf(node, program);
    open.helperToServer += material.dealerToServer;
    open.helperToClient += material.dealerToClient;
    open.clientToServer += material.clientToServer;
    if (open.helperToServer + open.helperToClient + open.clientToServer >= sectionBytes) end();
  }
  end();
  return sections;
}
