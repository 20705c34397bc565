import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { forecast } from '../../src/backends/cost/index.ts';
import { RingBuilder } from '../../src/backends/ring/builder.ts';
import { quantise, type RingParameters, type RingProgram, schedule } from '../../src/backends/ring/index.ts';
import type { RingNodeOf, RingOperation, State } from '../../src/backends/ring/types.ts';
import { parsePlan, parseShape, traceShapeLayer } from '../../src/models/index.ts';

const shared = process.env.SOTTO_SHARED ?? fileURLToPath(new URL('../../../shared', import.meta.url));
const reference = join(shared, 'design', 'protocol_reference.py');
const runs = existsSync(reference) && spawnSync('python3', ['-c', 'import numpy']).status === 0;

const extents = { tokens: 16, width: 32, heads: 2, inner: 64 };
const cases = [
  { bits: 64, fraction: 16, power: 2 },
  { bits: 64, fraction: 16, power: 4 },
  { bits: 64, fraction: 16, power: 8 },
  { bits: 32, fraction: 10, power: 2 },
  { bits: 32, fraction: 10, power: 4 },
];

/** Bits that the executable reference counts for one layer, input and output aside. */
function referenceBits({ bits, fraction, power }: (typeof cases)[number]): { toServer: number; toClient: number; hops: number } {
  const { tokens: n, width: d, heads, inner } = extents;
  const script = `
import sys, json, numpy as np
sys.path.insert(0, ${JSON.stringify(join(shared, 'design'))})
sys.dont_write_bytecode = True
from protocol_reference import *
R = Ring(${bits}, ${fraction}, seed=1); g = np.random.default_rng(7)
w = {k: R.encode(g.normal(size=s) * .02) for k, s in dict(qkv=(${d}, ${3 * d}), o=(${d}, ${d}), up=(${d}, ${inner}), down=(${inner}, ${d})).items()}
x = share_by_client(R, g.normal(size=(${n}, ${d}))); R.bits = {'S->C': 0, 'C->S': 0}; R.hops = 0
encoder_layer(R, x, w, ${heads}, False, ${power}, 4.0)
print(json.dumps(dict(toServer=R.bits['C->S'], toClient=R.bits['S->C'], hops=R.hops)))`;
  return JSON.parse(execFileSync('python3', ['-W', 'ignore', '-c', script], { encoding: 'utf8' }));
}

/** The layer in the reference's own steps, as ring statements: every operation whole, no value in a smaller ring. */
function plainLayer(ring: RingParameters, power: number): RingProgram {
  const { tokens: n, width: d, heads, inner } = extents;
  const builder = new RingBuilder(ring);
  const F = ring.fraction;
  const push = <P extends RingOperation>(
    operation: P,
    inputs: number[],
    shape: number[],
    state: State,
    parameters: RingNodeOf<P>['parameters'],
  ): number => builder.push(operation, inputs, parameters, { shape, state, fraction: F });
  const shapeOf = (x: number): number[] => [...builder.node(x).shape];
  const open = (x: number): number => push('open', [x], shapeOf(x), 'opening', {});
  const truncate = (x: number, bits: number): number => push('truncate', [x], shapeOf(x), 'pinned', { bits });
  const square = (x: number, e: number): number => push('square', [x, e], shapeOf(x), 'floating', {});
  const linear = (x: number, name: string, k: number, columns: number): number => {
    const w = push('serverInput', [], [k, columns], 'server', { name, fraction: F, factor: 1 });
    return truncate(push('linear', [x, w], [n, columns], 'pinned', { m: n, k, n: columns }), F);
  };
  const product = (x: number, y: number, shape: number[], ex = open(x)): number =>
    push('product', [x, y, ex, open(y)], shape, 'floating', {});
  const matrices = (x: number, y: number, batch: number, m: number, k: number, columns: number): number =>
    push('matrixProduct', [x, y, open(x), open(y)], [batch, m, columns], 'floating', { batch, m, k, n: columns });
  const move = (x: number, shape: number[]): number =>
    push('move', [x], shape, builder.node(x).state, { strides: shape.map(() => 0), start: 0 });
  const sum = (x: number, outer: number, axis: number): number =>
    push('sum', [x], [outer], builder.node(x).state, { outer, axis, inner: 1 });
  const add = (x: number, y: number): number => push('add', [x, y], shapeOf(x), 'pinned', {});
  const rowScalar = (x: number, drop: number, rangeBits: number, k: number): number => {
    const rows = shapeOf(x)[0]!;
    const g = F + rangeBits - k;
    const u = drop === 0 ? x : truncate(x, drop);
    const i = truncate(x, drop + g);
    const tables = [new Float64Array(2 ** k), new Float64Array(2 ** k)];
    const found = push('lookup', [i], [2, rows], 'floating', { indexBits: k, tables });
    const [value, slope] = [
      push('pin', [move(found, [rows])], [rows], 'pinned', {}),
      push('pin', [move(found, [rows])], [rows], 'pinned', {}),
    ];
    return add(value, truncate(product(slope, push('subtract', [u, i], [rows], 'pinned', {}), [rows]), F));
  };
  const norm = (x: number): number => {
    const e = open(x);
    return truncate(product(x, rowScalar(sum(square(x, e), n, d), F, 11, 11), [n, d], e), F);
  };
  const x = push('clientInput', [], [n, d], 'pinned', { name: 'x', encoding: 'real', fraction: F });
  const qkv = linear(norm(x), 'qkv', d, 3 * d);
  const [q, k, v] = [0, 1, 2].map(() => move(qkv, [heads, n, d / heads])) as [number, number, number];
  const scores = truncate(matrices(q, k, heads, n, d / heads, n), F);
  const mean = truncate(sum(scores, heads * n, n), F);
  let p = push('subtract', [scores, move(mean, [heads, n, n])], [heads, n, n], 'pinned', {});
  for (let at = 1; at < power; at *= 2) p = truncate(square(p, open(p)), F);
  const wide = power === 8 && ring.bits === 64;
  const inverse = rowScalar(sum(p, heads * n, n), 0, wide ? 15 : 9, wide ? 14 : 12);
  const mixed = truncate(matrices(p, v, heads, n, n, d / heads), F);
  const o = truncate(product(mixed, inverse, [heads, n, d / heads]), F + (wide ? 10 : 6));
  const middle = add(x, linear(move(o, [n, d]), 'o', d, d));
  const up = linear(norm(middle), 'up', d, inner);
  const act = truncate(square(up, open(up)), F);
  add(middle, linear(act, 'down', inner, d));
  return builder.program();
}

function sentBits(program: RingProgram): { toServer: number; toClient: number; hops: number } {
  const own = schedule(program).map((hop) => ({
    ...hop,
    bytes: hop.messages.reduce(
      (all, { node, bytes }) => (program.nodes[node]!.operation === 'clientInput' ? all : all + bytes),
      0,
    ),
  }));
  const way = (direction: string): number =>
    own.reduce((all, hop) => (hop.direction === direction ? all + 8 * hop.bytes : all), 0);
  return {
    toServer: way('clientToServer'),
    toClient: way('serverToClient'),
    hops: own.filter(({ bytes, follows }) => bytes > 0 && !follows).length,
  };
}

describe.skipIf(!runs)('the executable reference', () => {
  it.each(cases)('counts the bits that the engine sends for the same statements: $bits bits, p = $power', (one) => {
    const expected = referenceBits(one);
    const { toServer, toClient, hops } = sentBits(plainLayer(one, one.power));
    expect({ toServer, toClient }).toEqual({ toServer: expected.toServer, toClient: expected.toClient });
    expect(hops).toBeLessThanOrEqual(expected.hops);
  });

  it.each(cases)('sends more than the engine, which squares in smaller rings, in more hops: $bits bits, p = $power', (one) => {
    const shape = parseShape({
      name: 'small',
      kind: 'encoder',
      hiddenSize: extents.width,
      intermediateSize: extents.inner,
      numHiddenLayers: 1,
      heads: extents.heads,
      norm: 'rms',
      bias: false,
      activation: 'gelu',
      gated: false,
      embedding: { kind: 'tokens', vocabSize: 8 },
      positions: { kind: 'learned', count: extents.tokens },
      head: { kind: 'none' },
    });
    const program = quantise(traceShapeLayer(shape, parsePlan(`full-p${one.power}`, shape), { tokens: extents.tokens }), one);
    const { online } = forecast(program).perScope.reduce(
      (sum, { scope, online: own }) =>
        scope.startsWith('layers.') ? { online: sum.online + own.clientToServerBytes + own.serverToClientBytes } : sum,
      { online: 0 },
    );
    const { toServer, toClient, hops } = referenceBits(one);
    expect(8 * online).toBeLessThan(toServer + toClient);
    expect(forecast(program).total.online.hops - 2).toBeLessThan(hops);
  });
});
