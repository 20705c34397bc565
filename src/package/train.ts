/** `sotto/train`: recipes, runs that resume, losses and the training step. */
export * from '../train/index.ts';
