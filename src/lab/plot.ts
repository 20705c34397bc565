/** A line of a training's log: figures by name at a step. */
interface Line {
  readonly step: number;
  readonly [figure: string]: number;
}

/** One curve: where it has values, and how it is drawn. */
interface Series {
  readonly title: string;
  readonly points: readonly (readonly [step: number, value: number])[];
  /** Of single evaluations: every one is marked. */
  readonly marked: boolean;
}

interface Panel {
  readonly title: string;
  readonly logarithmic: boolean;
  readonly series: readonly Series[];
}

const [width, height, left, right, top, gap, bottom] = [960, 200, 76, 210, 62, 46, 44] as const;
const inner = width - left - right;
/** Told apart by people who see few colours too (Okabe and Ito). */
const colours = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#444444', '#8c6d31'];
const bucketsAtMost = 480;
/** What is larger, or no number, is left out; and on logarithmic scales what is smaller than its inverse. */
const largest = 1e30;

/**
 * The curves of a run as an SVG: losses and gradient norms on logarithmic scales, held-out shares and the rate on linear ones, all over
 * the same steps. Noisy figures are drawn as means of buckets, within a band from the least to the greatest of each.
 */
export function curves(name: string, lines: readonly Line[]): string {
  const panels = panelsOf(lines)
    .map((panel) => ({ ...panel, series: panel.series.filter(({ points }) => points.length > 0) }))
    .filter(({ series }) => series.length > 0);
  const last = lines.reduce((most, { step }) => Math.max(most, step), 1);
  const total = top + panels.length * (height + gap) + bottom - gap;
  const x = (step: number): number => left + (inner * step) / last;
  const drawn = panels.map((panel, index) => draw(panel, top + index * (height + gap), x, last));
  const end = total - bottom;
  const ticks = niceTicks(0, last, 8).map(
    (step) => `<text x="${at(x(step))}" y="${end + 18}" class="tick" text-anchor="middle">${thousands(step)}</text>`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${total}" width="${width}" height="${total}" font-family="Helvetica, Arial, sans-serif">`,
    '<style>.tick{font-size:11px;fill:#555}.name{font-size:12px;fill:#222}.title{font-size:13px;font-weight:bold;fill:#222}</style>',
    `<rect width="${width}" height="${total}" fill="#ffffff"/>`,
    `<text x="${left}" y="26" font-size="16" font-weight="bold" fill="#111">${escaped(name)}</text>`,
    ...drawn,
    ...ticks,
    `<text x="${left + inner / 2}" y="${end + 36}" class="tick" text-anchor="middle">step</text>`,
    '</svg>',
    '',
  ].join('\n');
}

function panelsOf(lines: readonly Line[]): Panel[] {
  const names = [...new Set(lines.flatMap((line) => Object.keys(line)))];
  const series = (wanted: (name: string) => boolean, title: (name: string) => string = (name) => name): Series[] =>
    names
      .filter(wanted)
      .toSorted(lossFirst)
      .map((name) => ({
        title: title(name),
        points: lines.flatMap((line) => {
          const value = line[name];
          return value !== undefined && Math.abs(value) <= largest ? [[line.step, value] as const] : [];
        }),
        marked: name.startsWith('heldOut/'),
      }));
  const bare = (name: string): string => name.replace(/^(heldOut|loss|metric)\//, '');
  const shares = (name: string): boolean => /^heldOut\/(accuracy|fidelity)$/.test(name);
  return [
    {
      title: 'loss',
      logarithmic: true,
      series: positive(series((name) => /^(loss|loss\/.*|perturbedLoss)$/.test(name), bare)),
    },
    {
      title: 'held out',
      logarithmic: true,
      series: positive(series((name) => name.startsWith('heldOut/') && !shares(name), bare)),
    },
    { title: 'held out, shares', logarithmic: false, series: series(shares, bare) },
    { title: 'gradient norm', logarithmic: true, series: positive(series((name) => name.startsWith('gradientNorm'), layerName)) },
    { title: 'learning rate', logarithmic: false, series: series((name) => name === 'rate') },
  ];
}

const lossFirst = (one: string, other: string): number => Number(other === 'loss') - Number(one === 'loss');
const layerName = (name: string): string => (name === 'gradientNorm' ? 'all' : name.replace('gradientNorm/', ''));

/** What a logarithm can show. */
const positive = (series: readonly Series[]): Series[] =>
  series.map((one) => ({ ...one, points: one.points.filter(([, value]) => value >= 1 / largest) }));

function draw({ title, logarithmic, series }: Panel, from: number, x: (step: number) => number, last: number): string {
  const buckets = series.map((one) => ({ ...one, buckets: bucketed(one, last, logarithmic) }));
  const { low, high, ticks } = scaleOf(
    buckets.flatMap((one) => one.buckets),
    logarithmic,
  );
  const place = (value: number): number =>
    logarithmic ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  const y = (value: number): number => from + height * (1 - Math.min(1, Math.max(0, place(value))));
  const grid = ticks.map(
    (tick) =>
      `<line x1="${left}" x2="${left + inner}" y1="${at(y(tick))}" y2="${at(y(tick))}" stroke="#e4e4e4"/><text x="${left - 8}" y="${at(y(tick) + 4)}" class="tick" text-anchor="end">${figure(tick)}</text>`,
  );
  const upright = niceTicks(0, last, 8).map(
    (step) => `<line x1="${at(x(step))}" x2="${at(x(step))}" y1="${from}" y2="${from + height}" stroke="#f0f0f0"/>`,
  );
  const lines = buckets.map((one, index) => curve(one, colours[index % colours.length]!, x, y));
  const legend = buckets.map((one, index) => {
    const row = from + 12 + 18 * index;
    const value = one.points.at(-1)![1];
    const colour = colours[index % colours.length]!;
    return `<line x1="${left + inner + 14}" x2="${left + inner + 34}" y1="${row - 4}" y2="${row - 4}" stroke="${colour}" stroke-width="2.5"/><text x="${left + inner + 40}" y="${row}" class="name">${escaped(one.title)} <tspan fill="#777">${figure(value)}</tspan></text>`;
  });
  return [
    `<text x="${left}" y="${from - 8}" class="title">${title}</text>`,
    ...upright,
    ...grid,
    `<rect x="${left}" y="${from}" width="${inner}" height="${height}" fill="none" stroke="#999"/>`,
    ...lines,
    ...legend,
  ].join('\n');
}

interface Bucket {
  readonly step: number;
  readonly middle: number;
  readonly low: number;
  readonly high: number;
}

/** Neighbouring points put together: their mean (of logarithms on a logarithmic scale) and extremes. */
function bucketed({ points, marked }: Series, last: number, logarithmic: boolean): Bucket[] {
  const size = marked ? 1 : Math.max(1, Math.ceil(last / bucketsAtMost));
  const made: Bucket[] = [];
  for (let first = 0; first < points.length; first += size) {
    const group = points.slice(first, first + size);
    const values = group.map(([, value]) => value);
    const mean = (some: readonly number[]): number => some.reduce((sum, value) => sum + value, 0) / some.length;
    made.push({
      step: mean(group.map(([step]) => step)),
      middle: logarithmic ? Math.exp(mean(values.map(Math.log))) : mean(values),
      low: Math.min(...values),
      high: Math.max(...values),
    });
  }
  return made;
}

function curve(
  { buckets, marked }: Series & { readonly buckets: readonly Bucket[] },
  colour: string,
  x: (step: number) => number,
  y: (value: number) => number,
): string {
  const point = (step: number, value: number): string => `${at(x(step))},${at(y(value))}`;
  const path = buckets.map(({ step, middle }) => point(step, middle)).join(' ');
  const band = [
    ...buckets.map(({ step, high }) => point(step, high)),
    ...buckets.toReversed().map(({ step, low }) => point(step, low)),
  ];
  const noisy = buckets.some(({ low, high }) => high > low);
  return [
    ...(noisy ? [`<polygon points="${band.join(' ')}" fill="${colour}" opacity="0.13"/>`] : []),
    `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="1.6" stroke-linejoin="round"/>`,
    ...(marked || buckets.length === 1
      ? buckets.map(({ step, middle }) => `<circle cx="${at(x(step))}" cy="${at(y(middle))}" r="2.6" fill="${colour}"/>`)
      : []),
  ].join('\n');
}

/** Ends of an axis that its ticks divide well. */
function scaleOf(buckets: readonly Bucket[], logarithmic: boolean): { low: number; high: number; ticks: number[] } {
  const least = buckets.reduce((sofar, { low }) => Math.min(sofar, low), Number.POSITIVE_INFINITY);
  const most = buckets.reduce((sofar, { high }) => Math.max(sofar, high), Number.NEGATIVE_INFINITY);
  if (!logarithmic) {
    const spare = Math.max(most - least, 1e-9 * Math.abs(most), 1e-12);
    const ticks = niceTicks(least - 0.02 * spare, most + 0.02 * spare, 5);
    const step = ticks.length > 1 ? ticks[1]! - ticks[0]! : spare;
    const low = Math.min(least, ...ticks) - (Math.min(...ticks) > least ? 0.1 * step : 0);
    return { low, high: Math.max(most, ...ticks) + 0.02 * spare, ticks };
  }
  const [low, high] = [least / 1.08, most * 1.08];
  const decades = Math.log10(high / low);
  const factors = decades < 1.2 ? [1, 1.5, 2, 3, 5, 7] : decades < 3 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil(decades / 6));
  const ticks: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    if (power % every === 0)
      ticks.push(...factors.map((factor) => factor * 10 ** power).filter((tick) => tick >= low && tick <= high));
  return { low, high, ticks: ticks.length > 1 ? ticks : [low, Math.sqrt(low) * Math.sqrt(high), high] };
}

/** Multiples of 1, 2 or 5 times a power of ten within the bounds, about `count` of them. */
function niceTicks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough)!;
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.max(0, Math.floor(high / step + 1e-9) - first + 1) }, (_, i) => (first + i) * step);
}

const at = (place: number): string => place.toFixed(1);
const thousands = (step: number): string => (step >= 10_000 ? `${+(step / 1000).toFixed(1)}k` : String(+step.toFixed(2)));
const figure = (value: number): string => {
  const size = Math.abs(value);
  if (value === 0) return '0';
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1).replace('.0e', 'e').replace('e+', 'e');
  return String(+value.toPrecision(size >= 0.9 && size < 1 ? 4 : 3));
};
const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
