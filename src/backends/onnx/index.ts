import type { Element, Program } from '../../program/index.ts';
import { interpret } from '../../program/index.ts';
import type { Value } from './builder.ts';
import { GraphBuilder } from './builder.ts';
import type { ElementType, OnnxValue } from './proto.ts';
import { encodeModel } from './proto.ts';
import { onnxTable } from './table.ts';

/** ONNX operator set of the emitted graphs; Gelu needs 20. */
const operatorSet = 20;
const elementTypes: Readonly<Record<Element, ElementType>> = { float: 'float32', index: 'int32', byte: 'uint8' };
const elementType = (element: Element): ElementType => elementTypes[element];

/**
 * The program as the bytes of an ONNX ModelProto: float32 values, int32 indices and uint8 codes, every input of the program is a graph input
 * `inputName(name)`, every output a graph output `outputName(name)`. Node names start with the scope, so that profiles read as the model does. Inputs
 * named in `external` become initialisers whose data the caller gives at load time, as external data at `inputName(name)`.
 */
export function toOnnx(program: Program, external: ReadonlySet<string> = new Set()): Uint8Array {
  const graph = new GraphBuilder();
  const inputs: OnnxValue[] = [];
  const values = new Map<string, Value>();
  for (const node of program.nodes) {
    if (node.operation !== 'input') continue;
    const { name, shape, element } = node.parameters;
    const value = { name: inputName(name), shape, type: elementType(element) };
    if (external.has(name)) graph.tensors.push({ ...value, bytes: undefined });
    else inputs.push(value);
    values.set(name, { shape, element, scope: node.scope, name: inputName(name), lazy: undefined });
  }
  const results = interpret(program, onnxTable(graph, values));
  const outputs: OnnxValue[] = [];
  for (const [name, value] of results) {
    outputs.push({ name: outputName(name), shape: value.shape, type: elementType(value.element) });
    graph.publish(value, outputName(name));
  }
  return encodeModel({
    nodes: graph.finished(),
    tensors: graph.tensors,
    inputs,
    outputs,
    operatorSets: { '': operatorSet, 'com.microsoft': 1 },
  });
}

/** Inputs and outputs of a program have name spaces of their own; an ONNX graph has one. */
export const inputName = (name: string): string => `in:${name}`;
export const outputName = (name: string): string => `out:${name}`;
