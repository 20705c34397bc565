/** `sotto/models`: model definitions, plans, and the published formats in and out. Runs anywhere; files are an argument. */
export * from '../models/index.ts';
