/** `sotto/evaluate`: tasks and their metrics over any backend, and how far a converted model is from its teacher. */
export * from '../evaluate/index.ts';
