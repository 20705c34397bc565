/** Forecasts of bytes, hops and seconds from a program alone. */
export * from './forecast.ts';
export * from './sections.ts';
