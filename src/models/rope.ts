import { power } from '../math/elementary.ts';
import type { LlamaConfig } from './configuration.ts';

/**
 * Radians per position of each pair of a head's dimensions, (headDim / 2), after Llama's rotary embedding; scaled as
 * `ropeScaling` says. `llama3` leaves high frequencies, divides low ones by the factor and blends between.
 */
export function ropeFrequencies(config: Pick<LlamaConfig, 'headDim' | 'ropeTheta' | 'ropeScaling'>): Float64Array {
  const { headDim, ropeTheta, ropeScaling: scaling } = config;
  const frequencies = new Float64Array(headDim / 2);
  for (let pair = 0; pair < frequencies.length; pair++) {
    const frequency = power(ropeTheta, (-2 * pair) / headDim);
    if (scaling === null) frequencies[pair] = frequency;
    else if (scaling.type === 'linear') frequencies[pair] = frequency / scaling.factor;
    else {
      const turns = (scaling.originalMaxPositions * frequency) / (2 * Math.PI);
      const blend = (turns - scaling.lowFrequencyFactor) / (scaling.highFrequencyFactor - scaling.lowFrequencyFactor);
      const kept = Math.min(1, Math.max(0, blend));
      frequencies[pair] = kept * frequency + (1 - kept) * (frequency / scaling.factor);
    }
  }
  return frequencies;
}
