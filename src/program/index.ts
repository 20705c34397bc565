/** The program language: what models are written in and every backend interprets. */
export { isComposite, levelEpsilon, lowerings, perHead } from './composites.ts';
export type * from './execution.ts';
export { compileStep } from './execution.ts';
export { gradient } from './gradient.ts';
export { apply, interpret, lower } from './interpret.ts';
export { lastUses } from './lifetimes.ts';
export { nf4Levels, nf4Pairs, nf4Sizes } from './nf4.ts';
export { owners } from './owners.ts';
export { rewrite, rewriteInto } from './rewrite.ts';
export { broadcastShapes, broadcastStrides, same, size, stridesOf } from './shapes.ts';
export { programHash, text } from './text.ts';
export { prune, Tracer, trace } from './trace.ts';
export type * from './types.ts';
