import type { Channel, Pipe } from './contract.ts';
import { framedChannel } from './framed.ts';
import { type MemoryPairOptions, memoryPipes } from './memory.ts';

/**
 * What may happen to one frame on its way: it vanishes, comes twice, changes places with the next one, has one bit flipped, loses its
 * end (and the stream with it), announces more than the bound, is held for ever with all that follow, or the connection closes before it.
 */
export const faults = ['drop', 'duplicate', 'reorder', 'corrupt', 'truncate', 'oversize', 'stall', 'close'] as const;
export type Fault = (typeof faults)[number];

export interface FaultPlan {
  readonly fault: Fault;
  /** The frame it befalls, counted from 0 in the direction that is written. */
  readonly frame: number;
  /** Chooses the bit that is flipped and the place of the cut. */
  readonly seed: number;
}

/** A memory pair whose first party's outgoing frames meet one fault below the codec. For tests. */
export function faultyPair(options: MemoryPairOptions & { readonly plan: FaultPlan }): [Channel, Channel] {
  const { names, plan, ...rest } = options;
  const [first, second] = memoryPipes();
  return [
    framedChannel(faultyPipe(first, plan), { ...rest, peer: names[1] }),
    framedChannel(second, { ...rest, peer: names[0] }),
  ];
}

/** A pipe that damages one of the frames written to it; reading is untouched. */
export function faultyPipe(pipe: Pipe, plan: FaultPlan): Pipe {
  let frame = 0;
  let held: Uint8Array | null = null;
  let silent = false;
  return {
    async write(parts) {
      if (silent) return;
      const bytes = joined(parts);
      const position = frame++;
      if (held) {
        await pipe.write([bytes, held]);
        held = null;
      } else if (position !== plan.frame) {
        await pipe.write([bytes]);
      } else if (plan.fault === 'reorder') {
        held = bytes;
      } else if (plan.fault === 'stall') {
        silent = true;
      } else if (plan.fault === 'close') {
        silent = true;
        await pipe.end();
      } else if (plan.fault === 'truncate') {
        silent = true;
        await pipe.write([bytes.subarray(0, 1 + draw(plan.seed, bytes.length - 1))]);
        await pipe.end();
      } else {
        for (const piece of damaged(bytes, plan)) await pipe.write([piece]);
      }
    },
    read: () => pipe.read(),
    // A stalled peer does not say that it has gone, either.
    end: () => (silent ? Promise.resolve() : pipe.end()),
    destroy: () => {
      if (!silent) pipe.destroy();
    },
  };
}

function damaged(bytes: Uint8Array, plan: FaultPlan): Uint8Array[] {
  if (plan.fault === 'drop') return [];
  if (plan.fault === 'duplicate') return [bytes, bytes];
  const changed = new Uint8Array(bytes);
  if (plan.fault === 'oversize') changed.fill(0xff, 4, 8);
  else changed[draw(plan.seed, changed.length)]! ^= 1 << draw(plan.seed + 1, 8);
  return [changed];
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** An integer in [0, limit) that depends on the seed alone (one step of mulberry32). */
function draw(seed: number, limit: number): number {
  let z = (seed * 0x6d2b79f5 + 0x9e3779b9) | 0;
  z = Math.imul(z ^ (z >>> 15), z | 1);
  z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
  return (((z ^ (z >>> 14)) >>> 0) % Math.max(limit, 1)) | 0;
}
