import { referenceBackend } from '../backends/reference/index.ts';
import type { FloatBackend } from '../program/index.ts';
import { type Device, onnxBackend, onnxRuntime } from './onnx.ts';

/** A backend that computes in floating point: ONNX Runtime, or plain JavaScript where it is not installed. */
export type FloatName = 'onnx' | 'reference';

/** The float backend where nobody names one: ONNX Runtime where it is installed beside sotto, else the reference. */
export const usualFloat = (): FloatName => (onnxRuntime() === undefined ? 'reference' : 'onnx');

/** Gives a float backend to `work` and ends its threads afterwards. */
export async function withFloatBackend<T>(
  name: FloatName,
  work: (backend: FloatBackend) => Promise<T>,
  device: Device = 'cpu',
): Promise<T> {
  if (name === 'reference') return await work(referenceBackend());
  const backend = onnxBackend({ providers: [device] });
  try {
    return await work(backend);
  } finally {
    await backend.close();
  }
}
