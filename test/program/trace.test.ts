import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import type { Composite, Ops, Program, Ref } from '../../src/program/index.ts';
import { isComposite, lastUses, lower, owners, programHash, text, trace } from '../../src/program/index.ts';
import { cases, numbers } from './cases.ts';

const x = (ops: Ops<Ref>, ...shape: number[]): Ref => ops.input(`x ${shape}`, shape, 'client');
const oneNode = (model: (ops: Ops<Ref>) => Ref): Program => trace((ops) => ({ y: model(ops) }));

describe('shape rules', () => {
  it.each<[string, (ops: Ops<Ref>) => Ref, RegExp]>([
    [
      'operands that do not broadcast',
      (ops) => ops.add(x(ops, 2, 3), x(ops, 2, 4)),
      /add: shapes \[2,3\] and \[2,4\] do not broadcast/,
    ],
    ['inner extents that differ', (ops) => ops.matmul(x(ops, 2, 3), x(ops, 2, 3)), /matmul: inner extents/],
    ['leading axes that differ', (ops) => ops.matmul(x(ops, 2, 2, 3), x(ops, 4, 3, 1)), /matmul: leading axes/],
    ['a product of vectors', (ops) => ops.matmul(x(ops, 3), x(ops, 3, 1)), /matmul: ranks 1 and 2/],
    ['a reshape that loses elements', (ops) => ops.reshape(x(ops, 2, 3), [5]), /reshape: \[2,3\] has 6 elements, \[5\] 5/],
    ['a permutation of other axes', (ops) => ops.transpose(x(ops, 2, 3), [1, 1]), /transpose: \[1,1\] does not permute/],
    ['a slice past the end', (ops) => ops.slice(x(ops, 2, 3), 1, 1, 4), /slice: 1…4 of extent 3/],
    ['an empty slice', (ops) => ops.slice(x(ops, 2, 3), 1, 2, 2), /slice: 2…2 of extent 3/],
    ['an axis that is not there', (ops) => ops.max(x(ops, 2, 3), 2), /max: axis 2 of a value of rank 2/],
    ['parts of different width', (ops) => ops.concat([x(ops, 2, 3), x(ops, 2, 4)], 0), /concat: \[2,4\] beside \[2,3\]/],
    ['a broadcast that shrinks', (ops) => ops.broadcast(x(ops, 2, 3), [1, 3]), /broadcast: \[2,3\] to \[1,3\]/],
    ['a constant of the wrong length', (ops) => ops.constant([1, 2], [3]), /constant: 2 values for shape \[3\]/],
    [
      'rows that do not follow the indices',
      (ops) => ops.scatterAdd(ops.input('i', [4], 'client', 'index'), x(ops, 3, 2), 5),
      /scatterAdd/,
    ],
    ['coefficients that widen', (ops) => ops.quadratic(x(ops, 3), x(ops, 2, 3), x(ops, 3), x(ops, 3)), /quadratic: coefficients/],
    ['an odd rotary width', (ops) => ops.rotary(x(ops, 2, 3), x(ops, 2, 3), x(ops, 2, 3)), /rotary/],
    ['a mask of other extents', (ops) => ops.softmaxAttention(x(ops, 2, 3), x(ops, 3, 4), x(ops, 2, 2)), /attention: mask/],
    [
      'labels of other extents',
      (ops) => ops.crossEntropy(x(ops, 2, 3), ops.input('l', [3], 'client', 'index'), x(ops, 2)),
      /crossEntropy/,
    ],
  ])('refuse %s', (_, model, message) => {
    expect(() => oneNode(model)).toThrow(message);
  });

  it('name the scope of the mistake', () => {
    const wrong = (): Program =>
      oneNode((ops) => ops.scope('layers.3', () => ops.scope('mlp', () => ops.add(x(ops, 2), x(ops, 3)))));
    expect(wrong).toThrow(SottoError);
    try {
      wrong();
    } catch (error) {
      expect(error).toMatchObject({ kind: 'model', place: { scope: 'layers.3.mlp' } });
    }
  });
});

describe('tracing', () => {
  it('drops what no output needs, except inputs', () => {
    const program = oneNode((ops) => {
      ops.exp(x(ops, 5));
      return ops.square(x(ops, 2));
    });
    expect(program.nodes.map((node) => node.operation)).toEqual(['input', 'input', 'square']);
  });
  it('restores the scope after a body that throws', () => {
    const program = oneNode((ops) => {
      expect(() =>
        ops.scope('inner', () => {
          throw new Error('planned');
        }),
      ).toThrow('planned');
      return ops.exp(x(ops, 1));
    });
    expect(program.nodes.at(-1)!.scope).toBe('');
  });
  it('makes no node for moves that change nothing', () => {
    const program = oneNode((ops) => {
      const y = x(ops, 2, 3);
      return ops.pad(ops.slice(ops.transpose(ops.reshape(ops.scale(ops.offset(y, 0), 1), [2, 3]), [0, 1]), 1, 0, 3), 0, 0, 0);
    });
    expect(program.nodes).toHaveLength(1);
  });
});

describe('lowering', () => {
  const composites = Object.keys(cases).filter(isComposite);
  it.each(composites)('of %s leaves primitives only and keeps the shape', (operation) => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const { inputs, build } = cases[operation](numbers(seed));
        const program = oneNode((ops) =>
          build(ops, ...inputs.map(({ shape, element }, i) => ops.input(`x${i}`, shape, 'client', element))),
        );
        const lowered = lower(program);
        expect(lowered.nodes.filter((node) => isComposite(node.operation))).toEqual([]);
        expect(lowered.nodes[lowered.outputs.get('y')!]!.shape).toEqual(program.nodes[program.outputs.get('y')!]!.shape);
        expect(text(lower(program, new Set<Composite>(composites)))).toBe(text(program));
      }),
      { numRuns: 10 },
    );
  });
  it('keeps the composites that it is told to keep, inside others too', () => {
    const program = oneNode((ops) => ops.layerNorm(x(ops, 2, 3), { epsilon: 1e-5 }));
    expect(lower(program, new Set(['rmsNorm'])).nodes.map((node) => node.operation)).toContain('rmsNorm');
    expect(lower(program, new Set(['inverseSquareRoot'])).nodes.map((node) => node.operation)).toContain('inverseSquareRoot');
  });
  it('gives the nodes of a lowering the scope of what they replace', () => {
    const program = oneNode((ops) => ops.scope('norm', () => ops.layerNorm(x(ops, 2, 3), { epsilon: 1e-5 })));
    expect(new Set(lower(program).nodes.map((node) => node.scope))).toEqual(new Set(['norm']));
  });
});

describe('the text form', () => {
  const model = (value: number): Program =>
    oneNode((ops) => {
      const w = ops.input('w', [3, 2], 'server');
      return ops.scope('layer', () =>
        ops.silu(ops.add(ops.matmul(ops.input('x', [4, 3], 'client'), w), ops.constant([value, 0.1], [2]))),
      );
    });
  it('is what it was: two versions of sotto must agree on it', () => {
    expect(text(model(1))).toMatchInlineSnapshot(`
      "%0 = input {"name":"w","shape":[3,2],"owner":"server","element":"float"} : [3 2] # 
      %1 = input {"name":"x","shape":[4,3],"owner":"client","element":"float"} : [4 3] # layer
      %2 = matmul %1 %0 {} : [4 2] # layer
      %3 = constant {"element":"float","values":"d38130539ee18c1dda183b1323112ebd"} : [2] # layer
      %4 = add %2 %3 {} : [4 2] # layer
      %5 = silu %4 {} : [4 2] # layer
      output "y" %5
      "
    `);
    expect(programHash(model(1))).toMatchInlineSnapshot(`"f6e9e7463dc1a08a23ca262a8aa74479a5e7efd82d69152c7a73c0c8490fab85"`);
  });
  it('tells programs apart by a constant, a scope, an owner or an output name', () => {
    const make = (scope: string, owner: 'client' | 'server', name: string, value: number): string =>
      programHash(
        trace((ops) => ({ [name]: ops.scope(scope, () => ops.add(ops.input('x', [1], owner), ops.constant([value], [1]))) })),
      );
    const hashes = [
      make('a', 'client', 'y', 1),
      make('b', 'client', 'y', 1),
      make('a', 'server', 'y', 1),
      make('a', 'client', 'z', 1),
    ];
    hashes.push(make('a', 'client', 'y', 1 + Number.EPSILON));
    expect(new Set(hashes).size).toBe(hashes.length);
    expect(make('a', 'client', 'y', 1)).toBe(hashes[0]);
  });
});

describe('owners', () => {
  it('are public with public, one side with itself, shared between two sides', () => {
    const program = trace((ops) => {
      const [p, c, s] = [ops.input('p', [1], 'public'), ops.input('c', [1], 'client'), ops.input('s', [1], 'server')];
      const mixed = ops.add(c, s);
      return {
        pp: ops.add(p, ops.constant([1], [1])),
        pc: ops.add(p, c),
        ss: ops.square(s),
        mixed,
        still: ops.multiply(mixed, p),
      };
    });
    const of = owners(program);
    const named = Object.fromEntries([...program.outputs].map(([name, index]) => [name, of[index]]));
    expect(named).toEqual({ pp: 'public', pc: 'client', ss: 'server', mixed: 'shared', still: 'shared' });
  });
});

describe('lifetimes', () => {
  it('end each value once, at its last reader, and never end an output', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(), fc.nat()), { minLength: 1, maxLength: 20 }), fc.nat(), (steps, chosen) => {
        const program = trace((ops) => {
          const values = [x(ops, 2)];
          for (const [a, b] of steps) values.push(ops.add(values[a % values.length]!, values[b % values.length]!));
          return { last: values.at(-1)!, other: values[chosen % values.length]! };
        });
        const ended = new Map([...lastUses(program)].flatMap(([at, dead]) => dead.map((value) => [value, at] as const)));
        expect([...lastUses(program).values()].flat()).toHaveLength(ended.size);
        const kept = new Set(program.outputs.values());
        program.nodes.forEach((_, value) => {
          const readers = program.nodes.flatMap((node, at) => (node.inputs.includes(value) ? [at] : []));
          expect(ended.get(value)).toBe(kept.has(value) ? undefined : (readers.at(-1) ?? value));
        });
      }),
    );
  });
});
