/**
 * `sotto/program`: the language that models are written in (`trace` with `Ops`), its rewriting, text form and hash, and the interpreters that
 * compute a program in the clear.
 */
export { toOnnx } from '../backends/onnx/index.ts';
export { type Dense, referenceBackend } from '../backends/reference/index.ts';
export type * from '../program/execution.ts';
export { compileStep, gradient, interpret, lower, owners, programHash, prune, rewrite, text, trace } from '../program/index.ts';
export type { Rewrite, Statement } from '../program/rewrite.ts';
export type { Table, Tracer } from '../program/trace.ts';
export type * from '../program/types.ts';
export type { Parameters } from '../program/types.ts';
