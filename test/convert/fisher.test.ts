import { describe, expect, it } from 'vitest';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { probeFeeds, probeGradient, withSensitivity } from '../../src/convert/fisher.ts';
import {
  fisherDamping,
  fitActivation,
  type Initialisation,
  llamaSubject,
  type Polynomials,
  vitSubject,
} from '../../src/convert/index.ts';
import { activationNodes } from '../../src/convert/observe.ts';
import { pseudorandom } from '../../src/math/index.ts';
import { parseLlamaConfig, parseVitConfig } from '../../src/models/config.ts';
import { exactPlan, traceLlama, traceVit } from '../../src/models/index.ts';
import { type NodeOf, type Operation, type Program, type Ref, type Tensor, Tracer } from '../../src/program/index.ts';

const config = parseLlamaConfig({
  model_type: 'llama',
  hidden_size: 8,
  intermediate_size: 6,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 11,
  max_position_embeddings: 16,
  tie_word_embeddings: true,
});
const backend = referenceBackend();
const random = pseudorandom(9);
const [batch, tokens] = [2, 5];
const rows = Array.from({ length: 4 }, () => Int32Array.from({ length: tokens }, () => random.integer(11)));
const subject = llamaSubject(config, { rows, batch });
const program = subject.trace(exactPlan(config));
const weights = weightsOf(traceLlama(config, exactPlan(config), { batch: 1, tokens: 1 }));

function weightsOf(of: Program): Map<string, Tensor> {
  const made = new Map<string, Tensor>();
  for (const node of of.nodes) {
    if (node.operation !== 'input' || node.parameters.owner !== 'server') continue;
    const length = node.shape.reduce((product, extent) => product * extent, 1);
    const values = Float32Array.from({ length }, () => (node.shape.length === 1 ? 1 : 0) + 0.7 * random.normal());
    made.set(node.parameters.name, { shape: node.shape, values });
  }
  return made;
}

/** The mean negative log likelihood of the next tokens where one value of a node is moved. */
async function lossWhere(value: number, feed: number, at: number, by: number): Promise<number> {
  const ops = new Tracer();
  const refs: Ref[] = [];
  program.nodes.forEach((node, index) => {
    const inputs = node.inputs.map((input) => refs[input]!);
    const made = ops.push(node.operation, inputs, node.parameters as NodeOf<Operation>['parameters'], node.scope);
    const length = node.shape.reduce((product, extent) => product * extent, 1);
    const moved = Float64Array.from({ length }, (_, i) => (i === at ? by : 0));
    refs.push(index === value ? ops.add(made, ops.constant(moved, node.shape)) : made);
  });
  const outputs = new Map([['logits', refs[program.outputs.get('logits')!]! as number]]);
  const executable = await backend.compile({ nodes: ops.nodes, outputs }, weights);
  const logits = (await executable.run(subject.feeds[feed]!)).get('logits')!.values;
  const ids = subject.feeds[feed]!.get('ids')!.values;
  let loss = 0;
  for (let i = 0; i < ids.length; i++) {
    if (i % tokens === tokens - 1) continue;
    const row = [...logits.subarray(11 * i, 11 * i + 11)];
    loss += Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0)) - row[ids[i + 1]!]!;
  }
  return loss / (batch * (tokens - 1));
}

/** Arguments, values and gradients of a layer's activation, of all feeds. */
async function observed(layer: number) {
  const { argument, value } = activationNodes(program, layer);
  const nodes = new Map([
    ['x', argument],
    ['f', value],
  ]);
  const sensitive = withSensitivity(program, value, nodes);
  const executable = await backend.compile(sensitive, weights);
  const found = [];
  for (const [at, feed] of subject.feeds.entries()) {
    const values = await executable.run(new Map([...feed, ...probeFeeds(program, value, subject.targets![at]!)]));
    found.push({ x: values.get('x')!.values, f: values.get('f')!.values, g: values.get(probeGradient)!.values });
  }
  return { value, found };
}

describe('the sensitivity of the loss to an activation', () => {
  it('is what moving the value shows', async () => {
    const { value, found } = await observed(0);
    for (const at of [0, 7, 23, 31, 44, 59]) {
      const step = 1e-4;
      const slope = ((await lossWhere(value, 1, at, step)) - (await lossWhere(value, 1, at, -step))) / (2 * step);
      expect(found[1]!.g[at]!).toBeCloseTo(slope, 7);
    }
    // Nothing is asked after the last token, and in the last layer no other position hears of it.
    const { g } = (await observed(1)).found[0]!;
    expect(g.subarray(6 * (tokens - 1), 6 * tokens).every((slope) => slope === 0)).toBe(true);
  });
});

/** The coefficients of quadratics by their letters. */
async function parts(fit: Promise<Polynomials>) {
  const { coefficients, relativeError } = await fit;
  const [c, b, a] = coefficients as [Float32Array, Float32Array, Float32Array];
  return { a, b, c, relativeError };
}

describe('a fit weighted by it', () => {
  const quadratics = (per: 'layer' | 'channel', initialisation: Initialisation) =>
    parts(fitActivation(subject, { program, layer: 0, weights, backend, per, initialisation, weighted: true, degree: 2 }));

  it('is the dense weighted least squares, for a layer and for each channel', async () => {
    const { found } = await observed(0);
    const mean = [...found[0]!.g].reduce((sum, g) => sum + g * g, 0) / found[0]!.g.length;
    const samples = found.flatMap(({ x, f, g }) =>
      Array.from(x, (value, i) => ({ x: value, f: f[i]!, w: g[i]! ** 2 + fisherDamping * mean, channel: i % 6 })),
    );
    const channel = await quadratics('channel', 'hessian');
    for (let c = 0; c < 6; c++) {
      const dense = leastSquares(samples.filter((sample) => sample.channel === c));
      for (const [k, part] of [channel.c, channel.b, channel.a].entries()) expect(part[c]).toBeCloseTo(dense[k]!, 3);
    }
    const layer = await quadratics('layer', 'hessian');
    const dense = leastSquares(samples);
    for (const [k, part] of [layer.c, layer.b, layer.a].entries()) expect(part[0]).toBeCloseTo(dense[k]!, 4);
    // It is another fit than the plain one.
    expect(Math.abs(layer.a[0]! - (await quadratics('layer', 'direct')).a[0]!)).toBeGreaterThan(1e-3);
  });

  it('needs labels', async () => {
    const vit = parseVitConfig({
      model_type: 'vit',
      hidden_size: 4,
      intermediate_size: 6,
      num_hidden_layers: 1,
      num_attention_heads: 1,
      image_size: 4,
      patch_size: 2,
      num_channels: 1,
      id2label: { 0: 'a', 1: 'b' },
    });
    const pixels = [{ shape: [2, 1, 4, 4], values: Float32Array.from({ length: 32 }, () => random.normal()) }];
    const own = weightsOf(traceVit(vit, exactPlan(vit), { batch: 2 }));
    const fitted = (labels?: Int32Array[]) => {
      const picture = vitSubject(vit, { pixels, labels });
      const traced = picture.trace(exactPlan(vit));
      const how = { per: 'channel', initialisation: 'hessian', weighted: true } as const;
      return parts(fitActivation(picture, { program: traced, layer: 0, weights: own, backend, degree: 2, ...how }));
    };
    await expect(fitted()).rejects.toMatchObject({ kind: 'usage', place: { field: 'initialisation' } });
    expect((await fitted([Int32Array.of(0, 1)])).a.every(Number.isFinite)).toBe(true);
  });
});

describe('the simple beginnings', () => {
  const quadratics = (initialisation: Initialisation, seed = 1) =>
    parts(
      fitActivation(subject, {
        program,
        layer: 1,
        weights,
        backend,
        per: 'layer',
        initialisation,
        weighted: false,
        degree: 2,
        seed,
      }),
    );

  it('drawn coefficients follow the seed and fit badly', async () => {
    const [one, again, other] = [await quadratics('naive'), await quadratics('naive'), await quadratics('naive', 2)];
    expect(again.a).toEqual(one.a);
    expect(other.a).not.toEqual(one.a);
    expect(one.relativeError).toBeGreaterThan((await quadratics('direct')).relativeError);
  });

  it('restored energy is the exact activation’s', async () => {
    const { found } = await observed(1);
    const { a, b, c } = await quadratics('direct-scale');
    let [exact, own] = [0, 0];
    for (const { x, f } of found)
      for (let i = 0; i < x.length; i++) {
        exact += f[i]! ** 2;
        own += ((a[0]! * x[i]! + b[0]!) * x[i]! + c[0]!) ** 2;
      }
    expect(own / exact).toBeCloseTo(1, 5);
    const direct = await quadratics('direct');
    expect(a[0]! / b[0]!).toBeCloseTo(direct.a[0]! / direct.b[0]!, 5);
  });
});

/** Σ w (f − c₀ − c₁x − c₂x²)² least, by elimination on the whole design matrix. */
function leastSquares(samples: readonly { x: number; f: number; w: number }[]): number[] {
  const rowsOf = samples.map(({ x, f, w }) => ({ powers: [1, x, x * x], f, w }));
  const system = [0, 1, 2].map((i) => [
    ...[0, 1, 2].map((j) => rowsOf.reduce((sum, { powers, w }) => sum + w * powers[i]! * powers[j]!, 0)),
    rowsOf.reduce((sum, { powers, f, w }) => sum + w * powers[i]! * f, 0),
  ]);
  for (let i = 0; i < 3; i++)
    for (let j = 0; j < 3; j++) {
      if (i === j) continue;
      const factor = system[j]![i]! / system[i]![i]!;
      for (let k = 0; k < 4; k++) system[j]![k]! -= factor * system[i]![k]!;
    }
  return system.map((row, i) => row[3]! / row[i]!);
}
