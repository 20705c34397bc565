/** What sotto needs of Node: files, clocks, sockets, threads. */

export type { OnnxBackend, OnnxOptions, Optimisation } from './onnx.ts';
export { onnxBackend } from './onnx.ts';
