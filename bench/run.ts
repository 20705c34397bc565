// `npm run bench -- NAME…` runs benches, all of them without a name, prints a table of each and writes bench/results/NAME.json.
// What follows a name and starts with a dash, with its value, goes to that bench: `npm run bench -- faults --count 100`.
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import type { Measurement } from './measure.ts';

/** The benches: a name, and how to run it. Each returns an object, whose `measurements`, where it has them, make the table. */
const benches: Record<string, (options: readonly string[]) => Promise<object>> = {
  kernels: async () => (await import('./kernels.ts')).kernels(),
  lattice: async () => (await import('./lattice.ts')).lattice(),
  training: async () => (await import('./training.ts')).training(),
  layer: async () => (await import('./layer.ts')).layer(),
  service: async () => (await import('./service.ts')).service(),
  memory: async () => (await import('./memory.ts')).memory(),
  networks: async () => (await import('./networks.ts')).networks(),
  'client-work': async () => (await import('./client-work.ts')).clientWork(),
  large: async (options) => (await import('./large.ts')).large(options),
  browser: async () => (await import('./browser.ts')).browser(),
  'range-flags': async (options) => (await import('./range-flags.ts')).rangeFlags(options),
  faults: async (options) => (await import('./faults.ts')).faults(options),
};

function machine(): object {
  const cores = cpus();
  const memoryGiB = Math.round(totalmem() / 2 ** 30);
  return {
    cores: cores.length,
    cpu: cores[0]?.model ?? 'unknown',
    memoryGiB,
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
  };
}

function isMeasurement(value: unknown): value is Measurement {
  return typeof value === 'object' && value !== null && 'median' in value && 'unit' in value;
}

function show(result: object): void {
  const { measurements, ...rest } = result as { measurements?: unknown };
  if (Array.isArray(measurements)) {
    const rows = measurements.filter(isMeasurement);
    const digits = (x: number): string => (Math.abs(x) >= 100 ? x.toFixed(0) : x.toFixed(2));
    const cells = rows.map(({ name, unit, count, median, min, max }) => [
      name,
      unit,
      String(count),
      digits(median),
      digits(min),
      digits(max),
    ]);
    const table = [['what', 'unit', 'count', 'median', 'min', 'max'], ...cells];
    const widths = table[0]!.map((_, c) => Math.max(...table.map((row) => row[c]!.length)));
    for (const row of table)
      console.log(row.map((cell, c) => (c < 2 ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!))).join('  '));
  }
  if (Object.keys(rest).length > 0) console.log(JSON.stringify(rest, null, 2));
}

const words = process.argv.slice(2);
const optionsAt = words.findIndex((word) => word.startsWith('-'));
const [asked, options] = optionsAt < 0 ? [words, []] : [words.slice(0, optionsAt), words.slice(optionsAt)];
const names = asked.length === 0 ? Object.keys(benches) : asked;
const unknown = names.filter((name) => !(name in benches));
if (unknown.length > 0) {
  console.error(`no bench ${unknown.join(', ')}; benches: ${Object.keys(benches).join(', ')}`);
  process.exit(2);
}
const folder = join(dirname(fileURLToPath(import.meta.url)), 'results');
mkdirSync(folder, { recursive: true });
for (const name of names) {
  const result = await benches[name]!(options);
  console.log(`\n${name}`);
  show(result);
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify({ bench: name, machine: machine(), ...result }, null, 2)}\n`);
}
