import type { Element, Shape } from '../../program/index.ts';
import { broadcastShapes, nf4Pairs, same, size } from '../../program/index.ts';
import type { Attribute, ElementType, OnnxNode, OnnxTensor } from './proto.ts';

/**
 * What a value stands for before it must exist as a tensor. Consumers that know the form use its parts (a product needs no repeated
 * rows, a sum of gradients no tensor of zeros); for all others `GraphBuilder.name` writes it out once.
 */
type Lazy =
  | { readonly kind: 'broadcast'; readonly of: Value }
  | { readonly kind: 'transpose'; readonly of: Value; readonly permutation: readonly number[] }
  | { readonly kind: 'oneHot'; readonly indices: Value }
  | { readonly kind: 'nf4'; readonly codes: Value; readonly scales: Value; readonly block: number }
  | { readonly kind: 'scatterAdd'; readonly indices: Value; readonly rows: Value };

/** A matrix as 4-bit codes. */
export type Packed = Lazy & { readonly kind: 'nf4' };

export interface Value {
  readonly shape: Shape;
  readonly element: Element;
  readonly scope: string;
  /** The tensor's name, once there is one. */
  name: string | undefined;
  readonly lazy: Lazy | undefined;
}

const bytesOf = (type: ElementType, values: ArrayLike<number>): Uint8Array => {
  if (type === 'float32') return new Uint8Array(littleEndian(values, 4, (view, at, value) => view.setFloat32(at, value, true)));
  if (type === 'uint8') return Uint8Array.from(values);
  if (type === 'int32') return new Uint8Array(littleEndian(values, 4, (view, at, value) => view.setInt32(at, value, true)));
  return new Uint8Array(littleEndian(values, 8, (view, at, value) => view.setBigInt64(at, BigInt(value), true)));
};

function littleEndian(
  values: ArrayLike<number>,
  width: number,
  write: (view: DataView, at: number, value: number) => void,
): ArrayBuffer {
  const view = new DataView(new ArrayBuffer(values.length * width));
  for (let i = 0; i < values.length; i++) write(view, i * width, values[i]!);
  return view.buffer;
}

/** Collects ONNX nodes and tensors; names are made unique, small constants are shared. */
export class GraphBuilder {
  readonly #nodes: OnnxNode[] = [];
  readonly tensors: OnnxTensor[] = [];
  readonly #small = new Map<string, string>();
  readonly #made = new Set<string>();
  readonly #published = new Map<string, string>();
  readonly #turned = new Map<string, Value>();
  readonly #halves = new Map<string, string>();
  #count = 0;

  /** Appends one ONNX operator with one result. */
  node(
    operator: string,
    inputs: readonly string[],
    result: { shape: Shape; element: Element; scope: string },
    attributes: Readonly<Record<string, Attribute>> = {},
    domain = '',
  ): Value {
    const name = `${result.scope === '' ? '' : `${result.scope}/`}${operator}.${this.#count++}`;
    this.#nodes.push({ name, operator, domain, inputs, outputs: [name], attributes });
    this.#made.add(name);
    return { shape: result.shape, element: result.element, scope: result.scope, name, lazy: undefined };
  }

  /** The name of a constant tensor. */
  tensor(type: ElementType, shape: Shape, values: ArrayLike<number>): string {
    const key = values.length <= 16 ? `${type} [${shape}] ${Array.from(values)}` : undefined;
    const known = key === undefined ? undefined : this.#small.get(key);
    if (known !== undefined) return known;
    const name = `constant.${this.#count++}`;
    this.tensors.push({ name, type, shape, bytes: bytesOf(type, values) });
    if (key !== undefined) this.#small.set(key, name);
    return name;
  }
  number(value: number): string {
    return this.tensor('float32', [], [value]);
  }
  integers(values: readonly number[]): string {
    return this.tensor('int64', [values.length], values);
  }

  /**
   * Makes a value the graph output `name`. Its tensor gets that name where it can, since a copy of every parameter in a training step
   * is time; an output that is an input, a constant or another output too is copied.
   */
  publish(value: Value, name: string): void {
    const tensor = this.name(value);
    if (this.#made.has(tensor) && !this.#published.has(tensor)) this.#published.set(tensor, name);
    else
      this.#nodes.push({
        name: `copy/${name}`,
        operator: 'Identity',
        domain: '',
        inputs: [tensor],
        outputs: [name],
        attributes: {},
      });
  }
  /** The nodes, once every output is published. */
  finished(): OnnxNode[] {
    const rename = (tensors: readonly string[]): string[] => tensors.map((tensor) => this.#published.get(tensor) ?? tensor);
    return this.#nodes.map((node) => ({ ...node, inputs: rename(node.inputs), outputs: rename(node.outputs) }));
  }

  lazy(lazy: Lazy, result: { shape: Shape; element: Element; scope: string }): Value {
    return { shape: result.shape, element: result.element, scope: result.scope, name: undefined, lazy };
  }

  /** The name of the tensor that holds a value, written out at the first call. */
  name(value: Value): string {
    value.name ??= this.#write(value, value.lazy!).name!;
    return value.name;
  }
  /** The same, as float32 whatever the element. */
  float(value: Value): string {
    return value.element === 'float' ? this.name(value) : this.cast(this.name(value), 'float', value);
  }
  /** The same, as int32. */
  index(value: Value): string {
    return value.element === 'byte' ? this.cast(this.name(value), 'index', value) : this.name(value);
  }
  cast(name: string, element: Element, like: Value): string {
    return this.node('Cast', [name], { ...like, element }, { to: { int: { float: 1, byte: 2, index: 6 }[element] } }).name!;
  }
  reshape(value: Value, shape: Shape): Value {
    if (same(value.shape, shape)) return value;
    return this.node('Reshape', [this.name(value), this.integers(shape)], { ...value, shape });
  }

  /** Of a constant matrix whose rows repeat themselves after the half: the first halves as a constant. Undefined of all else. */
  firstHalf(matrix: Value): string | undefined {
    if (matrix.name === undefined || matrix.shape.length !== 2) return undefined;
    const known = this.#halves.get(matrix.name);
    if (known !== undefined) return known;
    const bytes = this.tensors.find(({ name }) => name === matrix.name)?.bytes;
    const [rows, columns] = matrix.shape as [number, number];
    if (bytes === undefined || matrix.element !== 'float' || columns % 2 !== 0) return undefined;
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, rows * columns);
    const half = columns / 2;
    for (let row = 0; row < rows; row++)
      for (let i = row * columns; i < row * columns + half; i++) if (words[i] !== words[i + half]) return undefined;
    const first = words.filter((_, i) => i % columns < half);
    const name = `constant.${this.#count++}`;
    this.tensors.push({ name, type: 'float32', shape: [rows, half], bytes: new Uint8Array(first.buffer) });
    this.#halves.set(matrix.name, name);
    return name;
  }

  /** The transpose of a matrix, written through three axes so that ONNX Runtime does not fuse it into a product; shared by its users. */
  turned(matrix: Value): Value {
    const name = this.float(matrix);
    const known = this.#turned.get(name);
    if (known !== undefined) return known;
    const [rows, columns] = matrix.shape as [number, number];
    const like = { element: 'float', scope: matrix.scope } as const;
    const deep = this.node('Reshape', [name, this.integers([1, rows, columns])], { ...like, shape: [1, rows, columns] });
    const turned = this.node('Transpose', [deep.name!], { ...like, shape: [1, columns, rows] }, { perm: { ints: [0, 2, 1] } });
    const result = this.reshape(turned, [columns, rows]);
    this.#turned.set(name, result);
    return result;
  }

  /** The operands of an elementwise operation, repeated no further than the result's shape asks. */
  operands(x: Value, y: Value, shape: Shape): [string, string] {
    const [narrowX, narrowY] = [narrow(x), narrow(y)];
    const fits = (a: Value, b: Value): boolean => {
      const result = broadcastShapes(a.shape, b.shape);
      return result !== undefined && same(result, shape);
    };
    const pairs: [Value, Value][] = [
      [narrowX, narrowY],
      [narrowX, y],
      [x, narrowY],
    ];
    const [a, b] = pairs.find((pair) => fits(...pair)) ?? [x, y];
    return [this.float(a), this.float(b)];
  }

  #write(value: Value, lazy: Lazy): Value {
    switch (lazy.kind) {
      case 'broadcast':
        return this.node('Expand', [this.name(lazy.of), this.integers(value.shape)], value);
      case 'transpose':
        return this.node('Transpose', [this.name(lazy.of)], value, { perm: { ints: lazy.permutation } });
      case 'oneHot': {
        const depth = this.tensor('int32', [1], [value.shape.at(-1)!]);
        return this.node('OneHot', [this.name(lazy.indices), depth, this.tensor('float32', [2], [0, 1])], value, {
          axis: { int: -1 },
        });
      }
      case 'nf4':
        return this.unpacked(value, lazy, this.name(lazy.codes));
      case 'scatterAdd': {
        const zeros = this.node('Expand', [this.number(0), this.integers(value.shape)], value);
        return this.scatterAdd(zeros.name!, lazy, value);
      }
    }
  }

  /** A matrix of 4-bit codes written out, made again by each caller; `codes` names its bytes. */
  unpacked(matrix: Value, { scales, block }: Packed, codes: string): Value {
    const [length, blocks] = [size(matrix.shape), size(scales.shape)];
    const like = { element: 'float', scope: matrix.scope } as const;
    const bytes = Math.ceil(length / 2);
    const index = this.cast(codes, 'index', { ...matrix, shape: [bytes] });
    const pairs = this.node('Gather', [this.tensor('float32', [256, 2], nf4Pairs), index], { ...like, shape: [bytes, 2] });
    const flat = this.reshape(pairs, [2 * bytes]);
    const missing = blocks * block - 2 * bytes;
    const full =
      missing === 0 ? flat : this.node('Pad', [flat.name!, this.integers([0, missing])], { ...like, shape: [blocks * block] });
    const column = this.reshape({ ...scales, name: this.float(scales) }, [blocks, 1]);
    const scaled = this.node('Mul', [this.reshape(full, [blocks, block]).name!, column.name!], {
      ...like,
      shape: [blocks, block],
    });
    const long = this.reshape(scaled, [blocks * block]);
    const ranges = [[0], [length], [0]].map((list) => this.integers(list));
    const exact = blocks * block === length ? long : this.node('Slice', [long.name!, ...ranges], { ...like, shape: [length] });
    return this.reshape(exact, matrix.shape);
  }

  /**
   * The bytes `codes` as a tensor that exists only once `x` does. ONNX Runtime would otherwise be free to write out every matrix before
   * the first one is used.
   */
  after(codes: Value, x: Value): string {
    const like = { shape: [1], scope: x.scope } as const;
    const flat = this.reshape({ ...x, name: this.float(x), element: 'float' }, [size(x.shape)]);
    const first = this.node('Slice', [flat.name!, ...[[0], [1], [0]].map((list) => this.integers(list))], {
      ...like,
      element: 'float',
    });
    const zero = this.node('Mul', [first.name!, this.number(0)], { ...like, element: 'float' });
    const start = this.node('Cast', [zero.name!], { ...like, element: 'index' }, { to: { int: 7 } });
    const bounds = [start.name!, this.integers(codes.shape), this.integers([0])];
    return this.node('Slice', [this.name(codes), ...bounds], codes).name!;
  }

  /**
   * The tensor `onto` with rows added at the indices. ScatterElements adds in order; ONNX Runtime's ScatterND adds from several
   * threads without locks, which loses rows that share an index.
   */
  scatterAdd(onto: string, { indices, rows }: { indices: Value; rows: Value }, result: Value): Value {
    const row = result.shape.slice(1);
    const flat = [size(indices.shape), ...row];
    const column = this.reshape(indices, [flat[0]!, ...row.map(() => 1)]);
    const repeated = same(column.shape, flat)
      ? column
      : this.node('Expand', [this.name(column), this.integers(flat)], { ...indices, shape: flat });
    const inputs = [onto, this.name(repeated), this.float(this.reshape(rows, flat))];
    return this.node('ScatterElements', inputs, result, { axis: { int: 0 }, reduction: { string: 'add' } });
  }
}

const narrow = (value: Value): Value => (value.lazy?.kind === 'broadcast' ? narrow(value.lazy.of) : value);
