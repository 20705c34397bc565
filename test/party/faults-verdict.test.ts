import { describe, expect, it } from 'vitest';
import { type Fault, faultKinds, faultOf, type Moment, phases, random, variantName, variants } from '../../bench/faults/plan.ts';
import { judge, mentioned, type Right, type Seen } from '../../bench/faults/verdict.ts';

/** The command that injects faults is worth what its verdicts see: each of these is planted once. */
const right: Right = { ids: [7, 8], logits: [Float64Array.of(1, 2), Float64Array.of(3, 4)], tolerance: 0.01 };
const well = { report: { newIds: [7, 8] }, at: 100 };
const error = (party: string, reason = `the ${party} is silent`, name = 'SottoError') => ({
  error: { name, kind: 'peer', reason, place: { party } },
  at: 200,
});
const seen = (change: Partial<Seen> = {}): Seen => ({
  ends: [
    { role: 'client', outcome: well },
    { role: 'server', outcome: { report: {}, at: 100 } },
  ],
  tokens: [7, 8],
  logits: right.logits,
  stored: [{ role: 'server', state: 'burned' }],
  culprits: ['dealer'],
  struckAt: 50,
  ...change,
});
const verdict = (change: Partial<Seen>, kind: Fault['kind'] = 'drop') => judge({ kind }, seen(change), right, 1000);

describe('a verdict on a run with a fault', () => {
  it('is exact where the whole right answer came, and an error where errors name the party at fault', () => {
    expect(verdict({})).toMatchObject({ result: 'exact', errors: 0 });
    const ends: Seen['ends'] = [
      { role: 'client', outcome: error('server', 'refused: party dealer: the dealer is silent') },
      { role: 'server', outcome: error('dealer') },
    ];
    expect(verdict({ ends, tokens: [7], logits: right.logits.slice(0, 1) })).toMatchObject({
      result: 'error',
      named: 2,
      milliseconds: 150,
    });
  });

  it.each<[string, Partial<Seen>, RegExp]>([
    ['a wrong text', { ends: [{ role: 'client', outcome: { report: { newIds: [7, 9] }, at: 1 } }] }, /the text 7,9/],
    [
      'a part shown as the whole',
      { ends: [{ role: 'client', outcome: { report: { newIds: [7] }, at: 1 } }] },
      /the text 7 where 7,8/,
    ],
    [
      'wrong logits before an error',
      { ends: [{ role: 'client', outcome: error('dealer') }], logits: [Float64Array.of(1, 2.5)] },
      /off by 0.5/,
    ],
    ['more logits than there are', { logits: [...right.logits, Float64Array.of(0)] }, /off by Infinity/],
    ['no number', { logits: [Float64Array.of(Number.NaN, 2)] }, /off by NaN/],
    ['a wrong token before an error', { ends: [{ role: 'client', outcome: error('dealer') }], tokens: [6] }, /the tokens 6/],
    ['an error without a type', { ends: [{ role: 'client', outcome: error('dealer', 'oh', 'TypeError') }] }, /without a type/],
    ['an error that names another party', { ends: [{ role: 'client', outcome: error('server') }] }, /nobody names the dealer/],
    ['a late end', { ends: [{ role: 'client', outcome: { ...error('dealer'), at: 2000 } }] }, /1950 ms after the fault/],
    ['a bundle that is left', { stored: [{ role: 'client', state: 'available' }] }, /a bundle of the client/],
  ])('is a failure where there is %s', (_, change, why) => {
    const made = verdict(change);
    expect(made.result).toBe('failure');
    expect(made.why).toMatch(why);
  });

  it('does not ask a party that was killed for a type or a name', () => {
    const ends: Seen['ends'] = [
      { role: 'client', outcome: error('dealer') },
      { role: 'dealer', outcome: error('', 'ended', 'Error') },
    ];
    expect(verdict({ ends, victim: 'dealer' }, 'kill')).toMatchObject({ result: 'error', errors: 1 });
  });

  it('reads the parties that an error speaks of', () => {
    expect([...mentioned(error('server', 'refused: party helper: the client went').error)]).toEqual([
      'server',
      'helper',
      'client',
    ]);
  });
});

describe('the plan of faults', () => {
  const frames: Moment[] = phases.flatMap((phase) =>
    [0, 1].map((frame) => ({ from: 'client' as const, to: 'server' as const, connection: 0, frame, phase })),
  );
  const clean = new Map(variants.map((variant) => [variantName(variant), frames]));

  it('is the same for a seed and a number, and has every kind, setting, ring and phase in a thousand', () => {
    const all = Array.from({ length: 1000 }, (_, number) => faultOf(3, number, clean));
    expect(faultOf(3, 17, clean)).toEqual(all[17]);
    expect(faultOf(4, 17, clean)).not.toEqual(all[17]);
    // Lies are told at a standing service alone.
    expect(new Set<string>(all.map(({ kind }) => kind))).toEqual(new Set(faultKinds.filter((kind) => kind !== 'lie')));
    expect(new Set(all.map(({ variant }) => variantName(variant))).size).toBe(variants.length);
    expect(new Set(all.flatMap((fault) => ('moment' in fault ? [fault.moment.phase] : []))).size).toBe(phases.length);
  });

  it('draws evenly', () => {
    const draw = random(5);
    const counts = new Array<number>(8).fill(0);
    for (let k = 0; k < 8000; k++) counts[draw(8)]!++;
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });
});
