/** `sotto/program`: the language that models are written in, and the interpreters that compute in the clear. */
export { toOnnx } from '../backends/onnx/index.ts';
export { type Dense, referenceBackend } from '../backends/reference/index.ts';
export * from '../program/index.ts';
