// A function of your own: a logistic score with a quadratic in place of the sigmoid. The server owns the weights, the client the row.
import { createWasmKernels, nodePlatform, quantise, rehearse, simulate } from 'sotto/mpc';
import { referenceBackend, trace } from 'sotto/program';

const program = trace((ops) => {
  const row = ops.input('row', [1, 3], 'client');
  const weights = ops.input('weights', [3, 2], 'server');
  const x = ops.matmul(row, weights);
  const [a, b, c] = [0.02, 0.25, 0.5].map((value) => ops.constant([value], []));
  return { score: ops.quadratic(x, a, b, c) };
});
const tensors = new Map([
  ['row', { shape: [1, 3], values: Float64Array.of(1, -2, 0.5) }],
  ['weights', { shape: [3, 2], values: Float64Array.of(0.5, -1, 0.25, 0.75, 2, 1) }],
]);
const show = (name, outputs) => console.log(name, [...outputs.get('score').values].map((value) => value.toFixed(3)).join(' '));

// In floating point.
const executable = await referenceBackend().compile(program, new Map([['weights', tensors.get('weights')]]));
show('clear   ', await executable.run(new Map([['row', tensors.get('row')]])));
await executable.close();

// In the integers of a 64-bit ring with 16 fraction bits, and under the protocol itself.
const ring = quantise(program, { bits: 64, fraction: 16 });
const tensor = async (name) => tensors.get(name);
show('integers', await simulate(ring, { kernels: createWasmKernels(64), weights: tensor, inputs: tensor }));
const platforms = { client: nodePlatform(64), server: nodePlatform(64), dealer: nodePlatform(64) };
const { outputs, measured } = await rehearse({ program: ring, platforms, weight: tensor, input: tensor });
show('private ', outputs);
console.log(`${measured.online.clientToServerBytes + measured.online.serverToClientBytes} bytes in ${measured.online.hops} hops`);
