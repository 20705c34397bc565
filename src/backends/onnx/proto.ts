import { PbfWriter } from 'pbf';

/**
 * The part of the ONNX format that sotto writes: field numbers and enumerations as in onnx.proto (https://github.com/onnx/onnx,
 * `onnx/onnx.proto`, IR version 9).
 */
const irVersion = 9;
const elementTypes = { float32: 1, uint8: 2, int32: 6, int64: 7 } as const;
export type ElementType = keyof typeof elementTypes;
const attributeTypes = { FLOAT: 1, INT: 2, STRING: 3, INTS: 7 } as const;

const model = { irVersion: 1, producerName: 2, graph: 7, operatorSetImport: 8 } as const;
const operatorSet = { domain: 1, version: 2 } as const;
const graphField = { node: 1, name: 2, initializer: 5, input: 11, output: 12 } as const;
const nodeField = { input: 1, output: 2, name: 3, operator: 4, attribute: 5, domain: 7 } as const;
const attributeField = { name: 1, float: 2, int: 3, string: 4, ints: 8, type: 20 } as const;
const tensorField = { dimensions: 1, dataType: 2, name: 8, rawData: 9, externalData: 13, dataLocation: 14 } as const;
const externalLocation = 1;
const stringEntry = { key: 1, value: 2 } as const;
const valueInfo = { name: 1, type: 2 } as const;
const typeField = { tensorType: 1 } as const;
const tensorType = { elementType: 1, shape: 2 } as const;
const shapeField = { dimension: 1 } as const;
const dimensionField = { value: 1 } as const;

export type Attribute =
  | { readonly float: number }
  | { readonly int: number }
  | { readonly string: string }
  | { readonly ints: readonly number[] };

export interface OnnxNode {
  readonly name: string;
  readonly operator: string;
  /** '' is ONNX's own set. */
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** A tensor written into the model (`bytes` are little endian) or, without bytes, given at load time as external data of its name. */
export interface OnnxTensor {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array | undefined;
}

export interface OnnxValue {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly number[];
}

export interface OnnxGraph {
  readonly nodes: readonly OnnxNode[];
  readonly tensors: readonly OnnxTensor[];
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  /** Operator set version by domain. */
  readonly operatorSets: Readonly<Record<string, number>>;
}

function writeAttribute([name, value]: [string, Attribute], pbf: PbfWriter): void {
  pbf.writeStringField(attributeField.name, name);
  if ('float' in value) {
    pbf.writeFloatField(attributeField.float, value.float);
    pbf.writeVarintField(attributeField.type, attributeTypes.FLOAT);
  } else if ('int' in value) {
    pbf.writeVarintField(attributeField.int, value.int);
    pbf.writeVarintField(attributeField.type, attributeTypes.INT);
  } else if ('string' in value) {
    pbf.writeStringField(attributeField.string, value.string);
    pbf.writeVarintField(attributeField.type, attributeTypes.STRING);
  } else {
    for (const int of value.ints) pbf.writeVarintField(attributeField.ints, int);
    pbf.writeVarintField(attributeField.type, attributeTypes.INTS);
  }
}

function writeNode(node: OnnxNode, pbf: PbfWriter): void {
  for (const input of node.inputs) pbf.writeStringField(nodeField.input, input);
  for (const output of node.outputs) pbf.writeStringField(nodeField.output, output);
  pbf.writeStringField(nodeField.name, node.name);
  pbf.writeStringField(nodeField.operator, node.operator);
  for (const entry of Object.entries(node.attributes)) pbf.writeMessage(nodeField.attribute, writeAttribute, entry);
  if (node.domain !== '') pbf.writeStringField(nodeField.domain, node.domain);
}

function writeTensor(tensor: OnnxTensor, pbf: PbfWriter): void {
  for (const extent of tensor.shape) pbf.writeVarintField(tensorField.dimensions, extent);
  pbf.writeVarintField(tensorField.dataType, elementTypes[tensor.type]);
  pbf.writeStringField(tensorField.name, tensor.name);
  if (tensor.bytes !== undefined) {
    pbf.writeBytesField(tensorField.rawData, tensor.bytes);
    return;
  }
  const length = tensor.shape.reduce((product, extent) => product * extent, tensor.type === 'uint8' ? 1 : 4);
  const place = { location: tensor.name, offset: '0', length: String(length) };
  for (const entry of Object.entries(place)) pbf.writeMessage(tensorField.externalData, writeStringEntry, entry);
  pbf.writeVarintField(tensorField.dataLocation, externalLocation);
}

function writeStringEntry([key, value]: [string, string], pbf: PbfWriter): void {
  pbf.writeStringField(stringEntry.key, key);
  pbf.writeStringField(stringEntry.value, value);
}

function writeDimension(extent: number, pbf: PbfWriter): void {
  pbf.writeVarintField(dimensionField.value, extent);
}

function writeShape(shape: readonly number[], pbf: PbfWriter): void {
  for (const extent of shape) pbf.writeMessage(shapeField.dimension, writeDimension, extent);
}

function writeTensorType(value: OnnxValue, pbf: PbfWriter): void {
  pbf.writeVarintField(tensorType.elementType, elementTypes[value.type]);
  pbf.writeMessage(tensorType.shape, writeShape, value.shape);
}

function writeType(value: OnnxValue, pbf: PbfWriter): void {
  pbf.writeMessage(typeField.tensorType, writeTensorType, value);
}

function writeValue(value: OnnxValue, pbf: PbfWriter): void {
  pbf.writeStringField(valueInfo.name, value.name);
  pbf.writeMessage(valueInfo.type, writeType, value);
}

function writeGraph(graph: OnnxGraph, pbf: PbfWriter): void {
  for (const node of graph.nodes) pbf.writeMessage(graphField.node, writeNode, node);
  pbf.writeStringField(graphField.name, 'program');
  for (const tensor of graph.tensors) pbf.writeMessage(graphField.initializer, writeTensor, tensor);
  for (const input of graph.inputs) pbf.writeMessage(graphField.input, writeValue, input);
  for (const output of graph.outputs) pbf.writeMessage(graphField.output, writeValue, output);
}

function writeOperatorSet([domain, version]: [string, number], pbf: PbfWriter): void {
  pbf.writeStringField(operatorSet.domain, domain);
  pbf.writeVarintField(operatorSet.version, version);
}

/** The ModelProto bytes of a graph. */
export function encodeModel(graph: OnnxGraph): Uint8Array {
  const pbf = new PbfWriter();
  pbf.writeVarintField(model.irVersion, irVersion);
  pbf.writeStringField(model.producerName, 'sotto');
  pbf.writeMessage(model.graph, writeGraph, graph);
  for (const entry of Object.entries(graph.operatorSets)) pbf.writeMessage(model.operatorSetImport, writeOperatorSet, entry);
  return pbf.finish();
}
