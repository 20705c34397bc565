import { openMeasured } from '../package/measure.ts';
import { type LoadedModel, openModel } from '../package/model.ts';
import { type BackendName, type RingFlags, ringOf, wantedRing } from './options.ts';
import type { Terminal } from './terminal.ts';

/** What is said while a model is measured, a line each. */
export const saying =
  (terminal: Terminal) =>
  (line: string): void =>
    terminal.error(`sotto: ${line}\n`);

/** The model of a command; for the ring with the ranges of its values, which are measured once where nobody did. */
export async function openFor(
  flags: RingFlags & { readonly model: string; readonly backend: BackendName },
  terminal: Terminal,
): Promise<LoadedModel> {
  if (flags.backend === 'onnx' || flags.backend === 'reference') return await openModel(flags.model);
  // A ring that cannot be is refused before anything is measured for it.
  ringOf(flags);
  return await openMeasured(flags.model, { ring: wantedRing(flags), say: saying(terminal) });
}
