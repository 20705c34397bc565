import { ringValues } from './exhaustive.ts';
import type { Tiny } from './tiny.ts';

/** The programs whose views are enumerated: every operation that sends or is correlated, and what shares openings or wires. */
export type Assignment = Readonly<Record<string, readonly number[]>>;

export interface Case {
  readonly name: string;
  readonly bits: number;
  readonly build: (program: Tiny) => void;
  /** The client's and the server's secrets. */
  readonly client: readonly Assignment[];
  readonly server: readonly Assignment[];
}

/** All assignments of ring values to names, or every `step`-th of them. */
export function all(bits: number, names: Readonly<Record<string, number>>, step = 1): Assignment[] {
  const values = ringValues(bits);
  let assignments: Record<string, number[]>[] = [{}];
  for (const [name, width] of Object.entries(names)) {
    for (let i = 0; i < width; i++) {
      assignments = assignments.flatMap((known) =>
        values.map((value) => ({ ...known, [name]: [...(known[name] ?? []), value] })),
      );
    }
  }
  return assignments.filter((_, i) => i % step === 0);
}
const none: Assignment[] = [{}];

export const cases: readonly Case[] = [
  { name: 'clientInput', bits: 4, build: (p) => p.input(), client: all(4, { x: 1 }), server: none },
  {
    name: 'clientInput, one-hot',
    bits: 4,
    build: (p) => {
      const result = { shape: [p.lanes, 3], state: 'pinned', fraction: 0 } as const;
      p.ring.push('clientInput', [], { name: 'x', encoding: 'oneHot', fraction: 0 }, result);
    },
    client: [{ x: [0] }, { x: [1] }, { x: [2] }],
    server: none,
  },
  {
    name: 'a one-hot row and its map in a smaller ring, widened',
    bits: 4,
    build: (p) => p.narrowEmbedding(2, 3),
    client: [{ x: [0] }, { x: [1] }],
    server: [{ W: [0, 1] }, { W: [-1, 1] }, { W: [-2, 0] }],
  },
  {
    name: 'linear, two inputs',
    bits: 3,
    build: (p) => p.linear(p.input('x', 2), 'W', 2, 1),
    client: all(3, { x: 2 }),
    server: [{ W: [1, 0] }, { W: [3, -2] }, { W: [2, -4] }],
  },
  {
    name: 'linear, two outputs',
    bits: 3,
    build: (p) => p.linear(p.shape(p.input(), [1]), 'W', 1, 2),
    client: all(3, { x: 1 }),
    server: [{ W: [0, 0] }, { W: [1, 1] }, { W: [3, -2] }],
  },
  {
    name: 'two linear maps of one wire',
    bits: 2,
    build: (p) => {
      const x = p.shape(p.input(), [1]);
      p.linear(x, 'V', 1, 1);
      p.linear(x, 'W', 1, 1);
    },
    client: all(2, { x: 1 }),
    server: [
      { V: [1], W: [1] },
      { V: [1], W: [-1] },
      { V: [0], W: [1] },
    ],
  },
  {
    name: 'diagonal',
    bits: 4,
    build: (p) => p.diagonal(p.mixed(), 'W'),
    client: all(4, { x: 1 }),
    server: all(4, { w: 1, W: 1 }, 37),
  },
  { name: 'open', bits: 4, build: (p) => p.ring.open(p.mixed()), client: all(4, { x: 1 }), server: all(4, { w: 1 }) },
  { name: 'square', bits: 4, build: (p) => p.square(p.mixed()), client: all(4, { x: 1 }), server: all(4, { w: 1 }) },
  {
    name: 'product',
    bits: 3,
    build: (p) => p.product(p.mixed('x', 'w'), p.mixed('y', 'v')),
    client: all(3, { x: 1, y: 1 }),
    server: all(3, { w: 1, v: 1 }),
  },
  {
    name: 'matrixProduct',
    bits: 2,
    build: (p) => p.matrixProduct(p.shape(p.mixed('x', 'w', 2), [1, 2]), p.shape(p.mixed('y', 'v', 2), [2, 1]), 1, 2, 1),
    client: all(2, { x: 2, y: 2 }, 3),
    server: all(2, { w: 2, v: 2 }, 3),
  },
  ...[1, 2].flatMap((f): Case[] => [
    {
      name: `truncate by ${f}, pinned`,
      bits: 4,
      build: (p) => p.truncate(p.mixed(), f),
      client: all(4, { x: 1 }),
      server: all(4, { w: 1 }),
    },
    {
      name: `truncate by ${f}, floating`,
      bits: 4,
      build: (p) => p.truncate(p.floating(p.mixed()), f),
      client: all(4, { x: 1 }),
      server: all(4, { w: 1 }),
    },
  ]),
  { name: 'pin', bits: 4, build: (p) => p.ring.pin(p.floating(p.mixed())), client: all(4, { x: 1 }), server: all(4, { w: 1 }) },
  {
    name: 'lookup',
    bits: 4,
    build: (p) => p.lookup(p.mixed(), 2, [[1, -2, 3, 5]]),
    client: all(4, { x: 1 }),
    server: all(4, { w: 1 }),
  },
  ...(
    [
      ['a sign', [1, 0], []],
      ['a rectified value', [0, 1], []],
      [
        'a table beside a line',
        [2, -1],
        [
          [1, 3],
          [1, -1],
        ],
      ],
    ] as const
  ).map(
    ([what, line, coefficients]): Case => ({
      name: `piecewise: ${what}`,
      bits: 4,
      build: (p) =>
        p.piecewise(
          p.mixed(),
          3,
          coefficients.length > 0 ? 1 : 0,
          line,
          coefficients.map((values) => [...values]),
        ),
      client: all(4, { x: 1 }, 3),
      server: all(4, { w: 1 }, 3),
    }),
  ),
  { name: 'reveal', bits: 4, build: (p) => p.reveal(p.mixed()), client: all(4, { x: 1 }), server: all(4, { w: 1 }) },

  // Smaller rings: modulo 2^(bits − 1), so that the same cases can be checked for their results in wide rings.
  {
    name: 'narrow, floating',
    bits: 4,
    build: (p) => p.narrow(p.floating(p.mixed()), 1),
    client: all(4, { x: 1 }),
    server: all(4, { w: 1 }),
  },
  {
    name: 'narrow, opened and squared',
    bits: 4,
    build: (p) => p.narrowSquare(p.narrow(p.mixed(), 1), p.ring.ring.bits - 1),
    client: all(4, { x: 1 }),
    server: all(4, { w: 1 }),
  },
  {
    name: 'the product of a narrow and a full value',
    bits: 3,
    build: (p) => p.narrowProduct(p.narrow(p.mixed('x', 'w'), 1), p.mixed('y', 'v'), [p.ring.ring.bits - 1, p.ring.ring.bits]),
    client: all(3, { x: 1, y: 1 }, 3),
    server: all(3, { w: 1, v: 1 }),
  },
  {
    name: 'the product of two narrow values',
    bits: 3,
    build: (p) => {
      const m = p.ring.ring.bits - 1;
      p.narrowProduct(p.narrow(p.mixed('x', 'w'), 1), p.narrow(p.mixed('y', 'v'), 1), [m, m]);
    },
    client: all(3, { x: 1, y: 1 }, 9),
    server: all(3, { w: 1, v: 1 }),
  },

  {
    name: 'the square of a value in less than half of the ring',
    bits: 5,
    build: (p) => {
      const f = Math.floor(p.ring.ring.bits / 2) + 1;
      p.narrowSquare(p.narrow(p.mixed(), f), p.ring.ring.bits - f);
    },
    client: all(5, { x: 1 }, 17),
    server: all(5, { w: 1 }, 3),
  },
  {
    name: 'the product of two values in less than half of the ring together',
    bits: 3,
    // Both of one input, x and x + v, so that its pads and those of the carries are few enough to be enumerated.
    build: (p) => {
      const f = Math.floor(p.ring.ring.bits / 2) + 1;
      const m = p.ring.ring.bits - f;
      const x = p.input('x');
      const shape = p.ring.node(x).shape;
      const y = p.ring.push('addServer', [x, p.weight('v', shape)], {}, { shape, state: 'pinned', fraction: 0 });
      p.narrowProduct(p.narrow(x, f), p.narrow(y, f), [m, m]);
    },
    client: [{ x: [1] }, { x: [-4] }],
    server: all(3, { v: 1 }, 3),
  },

  // Wires of smaller rings.
  {
    name: 'a floating value, narrowed, through a linear map there and narrowed again',
    bits: 4,
    build: (p) => p.narrow(p.linear(p.shape(p.narrow(p.floating(p.mixed()), 1), [1]), 'W', 1, 1), 1),
    client: all(4, { x: 1 }, 3),
    server: [
      { w: [1], W: [3] },
      { w: [-5], W: [0] },
      { w: [4], W: [-2] },
    ],
  },
  {
    name: 'a value of a smaller ring, pinned, opened and widened',
    bits: 4,
    build: (p) =>
      p.ring.widened(p.ring.push('add', [p.narrow(p.mixed('x', 'w'), 1), p.mixed('y', 'v')], {}, p.result('floating'))),
    client: all(4, { x: 1, y: 1 }, 53),
    server: all(4, { w: 1, v: 1 }, 37),
  },
  {
    name: 'a value of a smaller ring, revealed',
    bits: 4,
    build: (p) => p.reveal(p.narrow(p.mixed(), 1)),
    client: all(4, { x: 1 }),
    server: all(4, { w: 1 }),
  },

  // Floating values whose two halves cross.
  {
    name: 'a floating value, exchanged and squared',
    bits: 4,
    build: (p) => p.square(p.ring.pin(p.floating(p.mixed()))),
    client: all(4, { x: 1 }),
    server: all(4, { w: 1 }),
  },
  {
    name: 'a floating value, narrowed, exchanged and squared',
    bits: 4,
    build: (p) => p.narrowSquare(p.narrow(p.floating(p.mixed()), 1), p.ring.ring.bits - 1),
    client: all(4, { x: 1 }),
    server: all(4, { w: 1 }),
  },
  {
    name: 'the product of a narrow value and a whole one, both exchanged',
    bits: 3,
    build: (p) => {
      const [x, y] = [p.floating(p.mixed('x', 'w')), p.floating(p.mixed('y', 'v'))];
      p.narrowProduct(p.narrow(x, 1), p.ring.pin(y), [p.ring.ring.bits - 1, p.ring.ring.bits]);
    },
    client: all(3, { x: 1, y: 1 }, 9),
    server: all(3, { w: 1, v: 1 }, 5),
  },
  {
    name: 'the product of matrices, one exchanged and one opened',
    bits: 2,
    build: (p) => {
      const x = p.ring.pin(p.floating(p.shape(p.mixed('x', 'w', 2), [1, 2])));
      p.matrixProduct(x, p.shape(p.mixed('y', 'v', 2), [2, 1]), 1, 2, 1);
    },
    client: all(2, { x: 2, y: 2 }, 5),
    server: all(2, { w: 2, v: 2 }, 7),
  },
  {
    name: 'a floating index, exchanged and looked up',
    bits: 4,
    build: (p) => p.lookup(p.narrow(p.floating(p.mixed()), 2), 2, [[1, -2, 3, 5]]),
    client: all(4, { x: 1 }),
    server: all(4, { w: 1 }),
  },
  {
    name: 'a square and its exchange, squared again',
    bits: 3,
    build: (p) => p.narrowSquare(p.narrow(p.square(p.mixed()), 1), p.ring.ring.bits - 1),
    client: all(3, { x: 1 }),
    server: all(3, { w: 1 }),
  },

  // Composites: what shares a wire, an opening or a share.
  {
    name: 'a square and its truncation, revealed',
    bits: 4,
    build: (p) => p.reveal(p.truncate(p.square(p.mixed()), 1)),
    client: all(4, { x: 1 }),
    server: all(4, { w: 1 }),
  },
  {
    name: 'a square and its pin, squared again',
    bits: 3,
    build: (p) => p.square(p.ring.pin(p.square(p.mixed()))),
    client: all(3, { x: 1 }),
    server: all(3, { w: 1 }),
  },
  {
    name: 'a truncated value, opened and squared',
    bits: 4,
    build: (p) => p.square(p.truncate(p.mixed(), 2)),
    client: all(4, { x: 1 }),
    server: all(4, { w: 1 }),
  },
  {
    name: 'the square of x and the product of x with y on one opening',
    bits: 3,
    build: (p) => {
      const x = p.mixed('x', 'w');
      p.square(x);
      p.product(x, p.mixed('y', 'v'));
    },
    client: all(3, { x: 1, y: 1 }),
    server: all(3, { w: 1, v: 1 }),
  },
  {
    name: 'one key and two queries',
    bits: 2,
    build: (p) => {
      const key = p.shape(p.mixed('k', 'u'), [1, 1]);
      p.matrixProduct(p.shape(p.mixed('x', 'w'), [1, 1]), key, 1, 1, 1);
      p.matrixProduct(p.shape(p.mixed('y', 'v'), [1, 1]), key, 1, 1, 1);
    },
    client: all(2, { x: 1, y: 1, k: 1 }),
    server: all(2, { w: 1, v: 1, u: 1 }),
  },
  {
    name: 'two truncations of one pinned wire',
    bits: 4,
    build: (p) => {
      const x = p.mixed();
      p.truncate(x, 1);
      p.truncate(x, 2);
    },
    client: all(4, { x: 1 }),
    server: all(4, { w: 1 }),
  },
  {
    name: 'two truncations of one floating wire',
    bits: 3,
    build: (p) => {
      const x = p.square(p.mixed());
      p.truncate(x, 1);
      p.truncateAgain(x, 1);
    },
    client: all(3, { x: 1 }).slice(0, 4),
    server: all(3, { w: 1 }),
  },
  {
    name: 'truncations of two floating wires',
    bits: 3,
    build: (p) => {
      p.truncate(p.floating(p.mixed('x', 'w')), 1);
      p.truncate(p.floating(p.mixed('y', 'v')), 1);
    },
    client: all(3, { x: 1, y: 1 }, 21),
    server: all(3, { w: 1, v: 1 }),
  },
  {
    name: 'a narrow value on one opening: its square and its product with another',
    bits: 3,
    build: (p) => {
      const m = p.ring.ring.bits - 1;
      const x = p.narrow(p.mixed('x', 'w'), 1);
      p.narrowSquare(x, m);
      p.narrowProduct(x, p.mixed('y', 'v'), [m, m + 1]);
    },
    client: all(3, { x: 1, y: 1 }, 9),
    server: all(3, { w: 1, v: 1 }),
  },
  {
    name: 'a step of Newton’s iteration: y on one opening, squared, times t, and widened for 3 y',
    bits: 3,
    build: (p) => {
      const m = p.ring.ring.bits - 1;
      const y = p.narrow(p.mixed('x', 'w'), 1);
      p.narrowSquare(y, m);
      p.narrowProduct(p.mixed('y', 'v'), y, [m + 1, m]);
      p.ring.pin(p.widen(y, m));
    },
    client: all(3, { x: 1, y: 1 }, 21),
    server: all(3, { w: 1, v: 1 }, 5),
  },
  {
    name: 'one floating wire, narrowed twice and truncated',
    bits: 3,
    build: (p) => {
      const x = p.floating(p.mixed());
      p.narrow(x, 1);
      p.truncate(x, 1);
      p.ring.push('narrow', [x], { bits: 1 }, { shape: [p.lanes], state: 'pinned', fraction: 0 });
    },
    client: all(3, { x: 1 }),
    server: all(3, { w: 1 }),
  },
  {
    name: 'a row function: value + slope · rest, revealed',
    bits: 3,
    build: (p) => p.reveal(p.rowFunction(p.mixed(), 2, [0, 1, -2, 3], [1, -1, 2, 0])),
    client: all(3, { x: 1 }),
    server: all(3, { w: 1 }),
  },
  {
    name: 'range flags: sums, windows, the number of misses, and one bit of it',
    bits: 3,
    build: (p) => p.flags(p.mixed('x', 'w', 2), { width: 2, high: 1 }),
    client: all(3, { x: 2 }, 9),
    server: all(3, { w: 2 }, 5),
  },
  {
    name: 'a linear map, truncated and opened',
    bits: 3,
    build: (p) => p.square(p.truncate(p.linear(p.shape(p.input(), [1]), 'W', 1, 1), 1)),
    client: all(3, { x: 1 }),
    server: [{ W: [0] }, { W: [1] }, { W: [-3] }, { W: [2] }],
  },
];
