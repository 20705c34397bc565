import { describe, expect, it } from 'vitest';
import { purposes } from '../../src/backends/mpc/random.ts';
import type { RingOperation } from '../../src/backends/ring/index.ts';
import type { RingKernels } from '../../src/kernels/index.ts';
import { type Case, cases } from './cases.ts';
import { purpose } from './draws.ts';
import { wrongResults, wrongTruncations } from './exactness.ts';
import type { Fault, Side } from './exhaustive.ts';
import { judge } from './secrecy.ts';
import { dealerViews } from './setup-view.ts';
import { tiny } from './tiny.ts';

/** Planted faults: what the tests beside this one must see. A test that cannot fail is a defect. */
const caseOf = (name: string): Case => cases.find((given) => given.name === name)!;

/** The stream of the pad that the nth such operation draws. */
function streamOf(given: Case, operation: RingOperation, at: number, nth = 0): number {
  const found = tiny(given.bits, given.build)(1).nodes.flatMap((node, index) => (node.operation === operation ? [index] : []));
  return found[nth]! * purposes + at;
}

interface Leak {
  readonly fault: string;
  readonly in: string;
  readonly seenBy: Side;
  readonly plant: (given: Case) => Fault;
}
/** A side's pad becomes zeros, or another one of its pads, for everybody who draws it: results stay right. */
const zeros =
  (side: Side, operation: RingOperation, at: number) =>
  (given: Case): Fault => {
    const stream = streamOf(given, operation, at);
    return { route: (asking, asked) => (asking === side && asked === stream ? undefined : asked) };
  };
type Pad = readonly [operation: RingOperation, purpose: number, nth: number];
const reused =
  (side: Side, pad: Pad, instead: Pad) =>
  (given: Case): Fault => {
    const [from, to] = [streamOf(given, ...pad), streamOf(given, ...instead)];
    return { route: (asking, asked) => (asking === side && asked === from ? to : asked) };
  };

const { share, blind, wrap, low, top, pinned, mask, fields } = purpose;
const leaks: readonly Leak[] = [
  { fault: 'an input without r', in: 'clientInput', seenBy: 'server', plant: zeros('client', 'clientInput', share) },
  {
    fault: 'one stream for two inputs',
    in: 'product',
    seenBy: 'server',
    plant: reused('client', ['clientInput', share, 1], ['clientInput', share, 0]),
  },
  {
    fault: 'one b for two openings',
    in: 'product',
    seenBy: 'client',
    plant: reused('server', ['open', mask, 1], ['open', mask, 0]),
  },
  {
    fault: 'an opening without a mask for one element',
    in: 'matrixProduct',
    seenBy: 'client',
    plant: (given) => {
      const stream = streamOf(given, 'open', mask);
      return {
        spoil: (side, asked, words) => {
          if (side === 'server' && asked === stream) for (let i = 0; i < words.length; i += 2) words[i] = 0;
        },
      };
    },
  },
  {
    fault: 'an opening’s b for a wrap bit',
    in: 'a truncated value, opened and squared',
    seenBy: 'client',
    plant: reused('server', ['open', mask, 0], ['truncate', mask, 0]),
  },
  { fault: 'q_c of a square left out', in: 'square', seenBy: 'server', plant: zeros('client', 'square', share) },
  {
    fault: 'one q_c for a square and a product',
    in: 'the square of x and the product of x with y on one opening',
    seenBy: 'server',
    plant: reused('client', ['product', share, 0], ['square', share, 0]),
  },
  { fault: 'u without k', in: 'linear, two outputs', seenBy: 'server', plant: zeros('client', 'linear', blind) },
  {
    fault: 'one k for two linear maps',
    in: 'two linear maps of one wire',
    seenBy: 'server',
    plant: reused('client', ['linear', blind, 1], ['linear', blind, 0]),
  },
  {
    fault: 'one z for two linear maps',
    in: 'two linear maps of one wire',
    seenBy: 'server',
    plant: reused('client', ['linear', share, 1], ['linear', share, 0]),
  },
  {
    fault: 'z in the place of k',
    in: 'linear, two outputs',
    seenBy: 'server',
    plant: reused('client', ['linear', blind, 0], ['linear', share, 0]),
  },
  { fault: 'a truncation fix without r', in: 'truncate by 1, pinned', seenBy: 'server', plant: zeros('client', 'truncate', low) },
  {
    fault: 'q_c of a wrap bit left out',
    in: 'truncate by 2, pinned',
    seenBy: 'server',
    plant: zeros('client', 'truncate', wrap),
  },
  { fault: 'a wrap bit without b', in: 'truncate by 1, pinned', seenBy: 'client', plant: zeros('server', 'truncate', mask) },
  { fault: 'd without a', in: 'truncate by 1, floating', seenBy: 'server', plant: zeros('client', 'truncate', top) },
  {
    fault: 'a instead of a fresh y',
    in: 'truncate by 1, floating',
    seenBy: 'server',
    plant: reused('client', ['truncate', pinned, 0], ['truncate', top, 0]),
  },
  {
    fault: 'one q_c for two wrap bits',
    in: 'two truncations of one floating wire',
    seenBy: 'server',
    plant: reused('client', ['truncate', wrap, 1], ['truncate', wrap, 0]),
  },
  {
    fault: 'one y for two truncations',
    in: 'truncations of two floating wires',
    seenBy: 'server',
    plant: reused('client', ['truncate', pinned, 1], ['truncate', pinned, 0]),
  },
  { fault: 'a pin without a pad', in: 'pin', seenBy: 'server', plant: zeros('client', 'pin', share) },
  { fault: 'δ without σ', in: 'lookup', seenBy: 'client', plant: zeros('server', 'lookup', mask) },
  { fault: 'δ without σ', in: 'piecewise: a sign', seenBy: 'client', plant: zeros('server', 'piecewise', mask) },
  {
    fault: "the mask's share without its pad",
    in: 'piecewise: a rectified value',
    seenBy: 'server',
    plant: zeros('client', 'piecewise', share),
  },
  {
    fault: 'a narrow opening without b',
    in: 'narrow, opened and squared',
    seenBy: 'client',
    plant: zeros('server', 'openNarrow', mask),
  },
  {
    fault: 'a narrowed floating value without y',
    in: 'narrow, floating',
    seenBy: 'server',
    plant: zeros('client', 'narrow', share),
  },
  {
    fault: 'the carry of the masks in the clear',
    in: 'narrow, opened and squared',
    seenBy: 'server',
    plant: zeros('client', 'unmask', fields),
  },
  {
    fault: 'α² in the clear',
    in: 'narrow, opened and squared',
    seenBy: 'server',
    plant: zeros('client', 'narrowSquare', fields),
  },
  {
    fault: 'the server’s half without b',
    in: 'a floating value, exchanged and squared',
    seenBy: 'client',
    plant: zeros('server', 'exchange', mask),
  },
  {
    fault: 'the server’s half of an index without σ',
    in: 'a floating index, exchanged and looked up',
    seenBy: 'client',
    plant: zeros('server', 'exchange', mask),
  },
  {
    fault: 'the client’s half without y',
    in: 'a floating value, narrowed, exchanged and squared',
    seenBy: 'server',
    plant: zeros('client', 'narrow', share),
  },
  {
    fault: 'one b for two halves',
    in: 'the product of a narrow value and a whole one, both exchanged',
    seenBy: 'client',
    plant: reused('server', ['exchange', mask, 1], ['exchange', mask, 0]),
  },
  {
    fault: 'one pad for both wraps of a product',
    in: 'the product of two narrow values',
    seenBy: 'server',
    plant: reused('client', ['narrowProduct', fields + 2, 0], ['narrowProduct', fields + 1, 0]),
  },
];

describe('a leak', () => {
  it.each(leaks)('is seen: $fault ($in)', { timeout: 30_000 }, async ({ in: name, seenBy, plant }) => {
    const given = caseOf(name);
    const fault = plant(given);
    expect((await judge(given, seenBy, fault)).differing).toBeGreaterThan(0);
    // The results stay right: a test of them alone sees nothing.
    expect(await wrongResults(given, fault)).toBe(0);
  });

  it('is seen: one mask for two weights', async () => {
    expect(await dealerViews([1, 1], true)).not.toEqual(await dealerViews([3, -5], true));
  });

  it('is seen: a share in the place of an opening', async () => {
    const given = caseOf('square');
    const server: Fault['server'] = (protocol, kernels) => ({
      ...protocol,
      *open(_, x) {
        yield { send: kernels.pack(x!.block!, given.bits) };
        return { block: undefined };
      },
    });
    expect((await judge(given, 'client', { server })).differing).toBeGreaterThan(0);
  });

  it('is seen: an output’s message with more than the output', async () => {
    const given = caseOf('reveal');
    const server: Fault['server'] = (protocol, kernels) => ({
      ...protocol,
      *reveal(_, x) {
        const own = kernels.bytes(x!.block!).slice();
        kernels.multiply(x!.block!, x!.block!, x!.block!);
        const message = kernels.pack(x!.block!, given.bits);
        kernels.bytes(x!.block!).set(own);
        yield { send: message };
        return { block: undefined };
      },
    });
    expect((await judge(given, 'client', { server })).wrongReveals).toBeGreaterThan(0);
  });
});

/** Kernels of the dealer with one operation replaced. */
const spoilt =
  (replace: (kernels: RingKernels) => Partial<RingKernels>) =>
  (kernels: RingKernels): RingKernels => {
    const others = replace(kernels);
    return new Proxy(kernels, {
      get: (target, key) => {
        const value = others[key as keyof RingKernels] ?? target[key as keyof RingKernels];
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  };

describe('a wrong result', () => {
  it.each(['square', 'product', 'matrixProduct', 'diagonal', 'truncate by 2, pinned', 'truncate by 2, floating'])(
    'is seen: the dealer’s correction with the wrong sign of the pad (%s)',
    async (name) => {
      const dealerKernels = spoilt((kernels) => ({ negate: (out, a) => kernels.copy(out, a) }));
      expect(await wrongResults(caseOf(name), { dealerKernels })).toBeGreaterThan(0);
    },
  );

  it.each([1, 2])('is seen: a wire %s bit short of its values', async (short) => {
    const given = caseOf('narrow, opened and squared');
    // In the wide ring of that test, values of four bits are cut off to what the narrowed one has left.
    const build: Case['build'] = (p) => {
      const whole = p.mixed();
      const modulus = 5 - short;
      const narrow = p.ring.push('narrow', [whole], { bits: 1 }, { ...p.result('pinned'), modulus });
      p.narrowSquare(narrow, modulus);
    };
    expect(await wrongResults({ ...given, build })).toBeGreaterThan(0);
  });

  it.each(['pinned', 'floating'] as const)('is seen: a truncation that rounds down (%s)', async (form) => {
    const server: Fault['server'] = (protocol, kernels) => ({
      ...protocol,
      truncate: (node, x) => {
        const lower = kernels.allocate(x!.block!.length);
        kernels.addScalar(lower, x!.block!, 1n - (1n << BigInt(node.parameters.bits)));
        return protocol.truncate(node, { block: lower });
      },
    });
    expect(await wrongTruncations(5, 2, form, { server })).toBeGreaterThan(0);
  });

  it.each(['pinned', 'floating'] as const)('is seen: a wrap bit whose product is left out (%s)', async (form) => {
    const dealerKernels = spoilt(() => ({ multiplyAdd: () => {} }));
    expect(await wrongTruncations(5, 2, form, { dealerKernels })).toBeGreaterThan(0);
  });
});
