import { expect, it } from 'vitest';
import { secureRows } from '../../src/backends/mpc/operations/index.ts';
import { quantise, type RingOperation, type RingProgram } from '../../src/backends/ring/index.ts';
import { size, type Tensor } from '../../src/program/index.ts';
import { cases } from '../mpc/cases.ts';
import { suite } from '../mpc/conformance.ts';
import { tiny } from '../mpc/tiny.ts';
import { golden } from './golden.ts';
import { models, planNamed, weightsOf } from './models.ts';
import { type Draws, observed } from './transcripts.ts';

const settings = ['dealer', 'helper'] as const;
const rings = [64, 48, 32] as const;
const lanes = 3;
const draws: Draws = new Map();
const labels = new Set<string>();

/** Small numbers for every input of a program written by hand. */
function numbersFor(program: RingProgram): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  for (const { operation, parameters, shape } of program.nodes) {
    if (operation !== 'clientInput' && operation !== 'serverInput') continue;
    const oneHot = operation === 'clientInput' && parameters.encoding === 'oneHot';
    const values = oneHot
      ? Int32Array.from({ length: shape[0]! }, (_, at) => at % shape[1]!)
      : Float64Array.from({ length: size(shape) }, (_, at) => ((at * 5 + 3) % 7) - 2);
    tensors.set(parameters.name, { shape: oneHot ? [shape[0]!] : shape, values });
  }
  return tensors;
}

async function transcripts(program: RingProgram, tensors: ReadonlyMap<string, Tensor>): Promise<string> {
  const made = [];
  for (const setting of settings) {
    const run = await observed(program, tensors, setting, draws);
    for (const label of run.labels) labels.add(label);
    made.push(run.transcript);
  }
  return made.join(' ');
}

it('every operation, in every ring and setting, sends the frames that it sent', { timeout: 120_000 }, async () => {
  const entries: Record<string, string> = {};
  const used = new Set<RingOperation>();
  for (const { name, build } of cases)
    for (const bits of rings) {
      const program = tiny(bits, build)(lanes);
      for (const { operation } of program.nodes) used.add(operation);
      entries[`${name}, ${bits}`] = await transcripts(program, numbersFor(program));
    }
  const missing = ['openedSign', 'unmask', 'fromServer', 'concat', 'pad', 'packRows', 'unpackRows', 'sum'];
  expect(used.size).toBeGreaterThan(15);
  for (const { name, program: lowered, tensors } of suite) {
    const ring = { bits: 48, fraction: 14 };
    const program = lowered(ring);
    for (const { operation } of program.nodes) used.add(operation);
    entries[`${name}, lowered`] = await transcripts(program, tensors);
  }
  expect(missing.filter((operation) => !used.has(operation as RingOperation))).toEqual([]);
  await golden('transcripts', entries);
});

it('whole models, in both settings, send the frames that they sent', { timeout: 120_000 }, async () => {
  const entries: Record<string, string> = {};
  for (const { name, config, trace, inputs } of models)
    for (const planName of ['exact', 'full-p2']) {
      if (name === 'roberta' && planName === 'exact') continue;
      const program = trace(planNamed(planName, config));
      const tensors = new Map([...weightsOf(program), ...inputs]);
      entries[`${name}, ${planName}`] = await transcripts(quantise(program, { bits: 64, fraction: 16 }), tensors);
    }
  await golden('model-transcripts', entries);
});

it('every operation draws its pads from the streams that it drew them from, and keys are derived under the labels they were', async () => {
  const streams = Object.fromEntries([...draws].sort().map(([form, found]) => [form, [...found].sort()]));
  const declared = Object.entries(secureRows).flatMap(([operation, { pads = {} }]) =>
    Object.entries(pads).map(([name, pad]) => ({ operation, name, draw: `${pad.by} ${pad.stream}`, several: 'several' in pad })),
  );
  const of = (form: string) => declared.filter(({ operation }) => operation === form.split(' ')[0]);
  for (const [form, found] of Object.entries(streams))
    for (const draw of found)
      expect(
        of(form).some((pad) => pad.several || pad.draw === draw),
        `${form} draws ${draw}`,
      ).toBe(true);
  for (const { operation, name, draw } of declared) {
    const forms = Object.entries(streams).filter(([form]) => form.split(' ')[0] === operation);
    expect(
      forms.some(([, found]) => found.includes(draw)),
      `${operation} declares ${name}`,
    ).toBe(true);
  }
  await golden('pads', { ...streams, labels: [...labels].sort() });
});
