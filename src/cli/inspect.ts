import type { Command } from 'commander';
import { printable } from '../errors/index.ts';
import type { LayerPlan } from '../models/index.ts';
import { type Inspection, inspectModel } from '../package/inspection.ts';
import type { Bounded } from '../program/index.ts';
import { jsonOption } from './options.ts';
import { modelFolder } from './shipped.ts';
import { bytes, table } from './table.ts';
import { painter, printJson, type Terminal } from './terminal.ts';

interface InspectFlags {
  readonly tensors?: true;
  readonly json?: true;
}

const help = `
Examples:
  $ sotto inspect stories-teacher
  $ sotto inspect stories-polynomial --tensors
  $ sotto inspect stories-polynomial --json
`;

export function registerInspect(program: Command, terminal: Terminal): void {
  program
    .command('inspect')
    .summary('say what a checkpoint is')
    .description('Says what a checkpoint is: architecture, plan, tables, and what a private run shows to its client.')
    .argument('<folder>', 'a checkpoint in the Hugging Face layout', modelFolder(terminal))
    .option('--tensors', 'list every tensor')
    .addOption(jsonOption())
    .addHelpText('after', help)
    .action(async (folder: string, flags: InspectFlags) => {
      const { tensors, ...rest } = await inspectModel(folder);
      if (flags.json) printJson(terminal, flags.tensors ? { ...rest, tensors } : rest);
      else print({ tensors, ...rest }, flags, terminal);
    });
}

function print(found: Inspection, { tensors: listed }: InspectFlags, terminal: Terminal): void {
  const paint = painter(terminal);
  const types = Object.entries(found.bytesByType).map(([type, count]) => `${bytes(count)} ${type}`);
  terminal.styled(
    `${paint('bold', found.folder)}: ${printable(found.architecture)}, ${found.parameters.toLocaleString('en')} parameters, ${printable(types.join(' + '))}\n`,
  );
  const dimensions = Object.entries(found.dimensions).filter(
    ([name, value]) => name !== 'family' && value !== null && !Array.isArray(value),
  );
  terminal.out(
    `${wrapped(
      dimensions.map(([name, value]) => `${name} ${typeof value === 'object' ? JSON.stringify(value) : value}`),
      100,
    )}\n`,
  );
  const { plan, polynomial, manifest, weights } = found;
  const ring = plan.ring === undefined ? '' : `, calibrated for ${plan.ring.bits} bits with ${plan.ring.fraction} of fraction`;
  const verdict = polynomial
    ? 'every layer is polynomial: cheap to run privately'
    : 'runs privately as it is, at the price of comparisons; sotto convert makes it polynomial';
  terminal.styled(`\nplan ${paint('bold', plan.name ?? 'unnamed')}${ring}; ${verdict}\n`);
  const rows = plan.layers.map((layer, index) => [`layers.${index}`, ...describe(layer)]);
  const final = plan.finalNorm.table;
  terminal.out(
    table(
      ['scope', 'activation', 'attention', 'attention table', 'norm table'],
      [...rows, ['norm', '', '', '', tableText(final)]],
    ),
  );
  const files = Object.entries(manifest.files).map(([name, count]) => `${name} ${bytes(count)}`);
  terminal.out(`\npublic manifest: configuration ${bytes(manifest.configBytes)}${files.map((file) => `, ${file}`).join('')}\n`);
  const hashed = `manifest hash: sha256:${manifest.sha256}`;
  terminal.out(
    manifest.asServed
      ? `${hashed}, which clients may pin (--manifest-hash)\n`
      : `${hashed} of the folder as it is. A server measures a model that was never calibrated, and shows another hash, which \`sotto calibrate\` prints\n`,
  );
  terminal.out(`private weights: ${weights.tensors} tensors, ${bytes(weights.bytes)}: they never leave the server unmasked\n`);
  if (!listed) return;
  terminal.out(
    `\n${table(
      ['tensor', 'type', 'shape', 'size'],
      found.tensors.map(({ name, dtype, shape, byteLength }) => [name, dtype, shape.join(' × '), bytes(byteLength)]),
    )}`,
  );
}

function describe({ activation, attention, norm }: LayerPlan): string[] {
  const act = 'per' in activation ? `${activation.kind} per ${activation.per}` : activation.kind;
  if (attention.kind === 'softmax') return [act, 'softmax', '', tableText(norm?.table)];
  const form = attention.kind === 'power' && attention.form !== undefined ? `${attention.form} ` : '';
  const half = attention.kind === 'power' ? attention.half : undefined;
  const name =
    attention.kind === 'power' ? `${form}power ${attention.exponent}${half === undefined ? '' : ', levelled'}` : attention.kind;
  const tables = [...(half === undefined ? [] : [tableText(half)]), tableText(attention.table)].join(', then ');
  return [act, name, tables, tableText(norm?.table)];
}

function tableText(table: Bounded | undefined): string {
  if (table === undefined) return '–';
  if (table.method !== 'newton') return `[0, 2^${table.rangeBits}) by 2^${table.indexBits}`;
  return `[${table.low.toPrecision(3)}, ${table.high.toPrecision(3)}] by ${table.iterations} iterations`;
}

function wrapped(parts: readonly string[], width: number): string {
  const lines = [''];
  for (const part of parts) {
    const line = lines.at(-1)!;
    if (line === '') lines[lines.length - 1] = part;
    else if (line.length + 2 + part.length <= width) lines[lines.length - 1] = `${line}, ${part}`;
    else {
      lines[lines.length - 1] = `${line},`;
      lines.push(part);
    }
  }
  return lines.join('\n');
}
