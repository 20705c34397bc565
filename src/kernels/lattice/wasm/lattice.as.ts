// The lattice kernels: one module. `Fused` is set by the build.
export * from './samplers.as';
export * from './transform.as';
export * from './vectors.as';
export * from './words.as';
