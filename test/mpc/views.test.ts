import { describe, expect, it } from 'vitest';
import { cases } from './cases.ts';
import { judge } from './secrecy.ts';

/** Exact: every assignment of the hidden pads in a tiny ring, not a statistical look at samples. */
describe.each(cases)('$name in a ring of $bits bits', (given) => {
  it('gives the server one distribution of views for all inputs, with one pad for every view', async () => {
    const verdict = await judge(given, 'server');
    expect(verdict).toMatchObject({ differing: 0, bijective: true });
  });

  it('gives the client one distribution of views for all weights, with one pad for every view, and outputs only', async () => {
    const verdict = await judge(given, 'client');
    expect(verdict).toMatchObject({ differing: 0, bijective: true, wrongReveals: 0 });
  });
});
