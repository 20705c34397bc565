/** Forecasts of bytes, hops and seconds from a program alone. */

export * from './fit.ts';
export * from './forecast.ts';
export * from './machine.ts';
export * from './sections.ts';
export * from './timeline.ts';
