/** `sotto/data`: data on disk as rows, pictures and batches of tokens: streamed, checked, augmented, repeatable from a seed. */
export * from '../train/augment/index.ts';
export * from '../train/data/index.ts';
