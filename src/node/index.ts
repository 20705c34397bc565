/** What sotto needs of Node: files, clocks, sockets, threads. */
export { onnxBackend } from './onnx.ts';
export type { OnnxBackend, OnnxOptions, Optimisation, Step } from './onnx.ts';
