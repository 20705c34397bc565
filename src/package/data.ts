/** `sotto/data`: data on disk as rows, pictures and batches of tokens: streamed, checked, repeatable from a seed. */
export * from '../train/data/index.ts';
