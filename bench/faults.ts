import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { expected, writeLlama } from '../test/party/models.ts';
import { runParties } from '../test/party/relay.ts';
import { type Fault, faultOf, type Moment, placeOf, rings, variantName, variants } from './faults/plan.ts';
import { serviceFaults, serviceMarkdown, serviceSummary, serviceTable } from './faults/service-command.ts';
import { type Certificates, certificateFault, certificatesIn, replayFault } from './faults/special.ts';
import {
  type Bed,
  build,
  cleanRun,
  forgedField,
  lineFault,
  malformedMessage,
  partiesOf,
  processFault,
  Spares,
} from './faults/strike.ts';
import { markdown, type Row, summary, table } from './faults/table.ts';
import { judge, type Right, type Seen, type Verdict } from './faults/verdict.ts';

/**
 * `npm run bench -- faults --count 1000 --seed 7`: private runs over real sockets, each with one fault that the seed chose. Every run
 * must end in time with the exact answer or with errors that name the party. `--only NUMBER` does one again; `--write` replaces
 * docs/results/faults.md. With `--service` the faults befall one session of three at standing parties, and the page is faults-service.md.
 */
export async function faults(words: readonly string[]): Promise<object> {
  const { values } = parseArgs({
    args: [...words],
    options: {
      count: { type: 'string', default: '1000' },
      seed: { type: 'string', default: '1' },
      only: { type: 'string', multiple: true },
      timeout: { type: 'string', default: '3000' },
      lines: { type: 'string', default: '6' },
      processes: { type: 'string', default: '3' },
      // Begins no fault after so many minutes.
      minutes: { type: 'string', default: 'Infinity' },
      // Tells of every fault whose run ended later than so many milliseconds after it.
      slow: { type: 'string', default: 'Infinity' },
      // Faults of one session among three at a standing server instead.
      service: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
    },
  });
  const [count, seed, timeoutMilliseconds] = [values.count, values.seed, values.timeout].map(Number) as [number, number, number];
  const numbers = values.only?.map(Number) ?? Array.from({ length: count }, (_, number) => number);
  build();
  const root = mkdtempSync(join(tmpdir(), 'sotto-faults-'));
  const spares = new Spares(Number(values.processes));
  try {
    const bed = await prepare(root, timeoutMilliseconds);
    if (values.service) return await ofService(bed, spares, { count, seed, write: values.write });
    const certificates = await certificatesIn(join(root, 'certificates'), new Date());
    const chosen = numbers.map((number) => faultOf(seed, number, bed.clean));
    const rows: Row[] = [];
    const start = performance.now();
    const next = (part: Fault[]): Fault | undefined =>
      performance.now() - start < Number(values.minutes) * 60_000 ? part.shift() : undefined;
    const work = async (part: Fault[]): Promise<void> => {
      for (let fault = next(part); fault !== undefined; fault = next(part)) {
        rows.push({ fault, verdict: await once(fault, bed, { spares, certificates }) });
        report(rows, numbers.length, seed, Number(values.slow));
        rmSync(bed.directory(fault.number), { recursive: true, force: true });
      }
    };
    // A few processes at a time, and more of the runs that are this process alone.
    const [apart, here] = [chosen.filter(isApart), chosen.filter((fault) => !isApart(fault))];
    await Promise.all([
      ...Array.from({ length: Number(values.processes) }, () => work(apart)),
      ...Array.from({ length: Number(values.lines) }, () => work(here)),
    ]);
    const seconds = (performance.now() - start) / 1000;
    const command = `npm run bench -- faults --count ${count} --seed ${seed} --timeout ${timeoutMilliseconds}`;
    const result = { command, seed, timeoutMilliseconds, seconds: Math.round(seconds), ...summary(rows) };
    console.log(table(rows));
    if (values.write) writeFileSync(resultsFile, markdown(rows, result));
    if (result.failures.length > 0) process.exitCode = 1;
    return result;
  } finally {
    await spares.end();
    rmSync(root, { recursive: true, force: true });
  }
}

async function ofService(bed: Prepared, spares: Spares, { count, seed, write }: { count: number; seed: number; write: boolean }) {
  const right = bed.right.get(variantName(variants[0]!))!;
  const start = performance.now();
  const run = await serviceFaults(bed, right, spares, { count, seed, say: (line) => console.log(line) });
  const { timeoutMilliseconds } = bed;
  const command = `npm run bench -- faults --service --count ${count} --seed ${seed} --timeout ${timeoutMilliseconds}`;
  const about = { command, seconds: Math.round((performance.now() - start) / 1000), timeoutMilliseconds };
  console.log(serviceTable(run));
  if (write) writeFileSync(join(dirname(resultsFile), 'faults-service.md'), serviceMarkdown(run, about));
  const result = { ...about, ...serviceSummary(run) };
  if (result.failure > 0 || result.otherSessionsExact < result.otherSessions) process.exitCode = 1;
  return result;
}

const resultsFile = join(dirname(fileURLToPath(import.meta.url)), '../docs/results/faults.md');
const isApart = (fault: Fault): boolean => 'victim' in fault && 'moment' in fault;

interface Prepared extends Bed {
  readonly clean: ReadonlyMap<string, readonly Moment[]>;
  readonly right: ReadonlyMap<string, Right>;
}

/** Models, what is right, and a run of every variant without a fault. */
async function prepare(root: string, timeoutMilliseconds: number): Promise<Prepared> {
  const models = { whole: join(root, 'whole'), ending: join(root, 'ending') };
  const [promptIds, newTokens] = [[12], 2];
  for (const path of Object.values(models)) mkdirSync(path);
  await writeLlama(models.whole);
  const right = new Map<string, Right>();
  const clean = new Map<string, readonly Moment[]>();
  const bed = {
    models,
    promptIds,
    newTokens,
    timeoutMilliseconds,
    directory: (number: number | string) => join(root, `${number}`),
  };
  for (const ring of rings) {
    const { ids, logits, margin } = await expected(models.whole, { task: 'generate', newTokens, ring }, promptIds);
    const tolerance = 0.9 * 2 ** (7 - ring.fraction);
    if (margin < 2 * tolerance) throw new Error('two tokens are too close for a test');
    if (ring === rings[0]) await writeLlama(models.ending, { eos_token_id: ids[0] });
    else if (ids[0] !== right.get(variantName(variants[0]!))!.ids[0])
      throw new Error('the rings do not agree on the first token');
    for (const variant of variants.filter((each) => each.ring === ring)) {
      const shown = variant.ending ? 1 : newTokens;
      right.set(variantName(variant), { ids: ids.slice(0, shown), logits: logits.slice(0, shown), tolerance });
    }
  }
  for (const variant of variants) {
    const { outcomes, frames } = await cleanRun(bed, variant);
    const verdict = judgeClean(outcomes, right.get(variantName(variant))!);
    if (verdict !== undefined) throw new Error(`the run without a fault gives ${verdict} (${variantName(variant)})`);
    clean.set(variantName(variant), frames);
  }
  return { ...bed, clean, right };
}

function judgeClean(
  { client, logits }: Awaited<ReturnType<typeof cleanRun>>['outcomes'],
  { ids, logits: exact, tolerance }: Right,
) {
  if (`${client.report?.newIds}` !== `${ids}`) return `the text ${client.report?.newIds} where ${ids} is right`;
  const off = Math.max(...logits.flatMap((row, at) => [...row].map((value, i) => Math.abs(value - exact[at]![i]!))));
  return off <= tolerance ? undefined : `logits that are off by ${off}`;
}

/** How long after the fault a party may end: its timeout, that of the one it waits for, and the closing of sockets, on a busy machine. */
const busyMilliseconds = 20_000;
const limitOf = ({ timeoutMilliseconds }: Bed): number => 2 * timeoutMilliseconds + busyMilliseconds;
const hang = Symbol('hang');

/** Once more where a busy machine ended a run before its fault came. */
async function once(fault: Fault, bed: Prepared, tools: Tools): Promise<Verdict> {
  for (let tries = 6; ; tries--) {
    const verdict = await attempt(fault, bed, tools);
    if (verdict.why !== notStruck || tries === 1) return verdict;
    rmSync(bed.directory(fault.number), { recursive: true, force: true });
  }
}
const notStruck = 'the moment did not come';

interface Tools {
  readonly spares: Spares;
  readonly certificates: Certificates;
}

async function attempt(fault: Fault, bed: Prepared, tools: Tools): Promise<Verdict> {
  const right = bed.right.get(variantName(fault.variant))!;
  const failed = (why: string): Verdict => ({ result: 'failure', why, milliseconds: 0, named: 0, errors: 0, ends: [] });
  let timer: NodeJS.Timeout | undefined;
  const watchdog = new Promise<typeof hang>((resolve) => {
    timer = setTimeout(() => resolve(hang), 90_000 + 10 * bed.timeoutMilliseconds);
  });
  try {
    const seen = await Promise.race([strike(fault, bed, tools), watchdog]);
    if (seen === hang) return failed('a hang');
    if (seen.struckAt === undefined) return failed(notStruck);
    const limit = fault.kind === 'pause' ? limitOf(bed) + fault.timeouts * bed.timeoutMilliseconds : limitOf(bed);
    const verdict = judge(fault, seen, right, limit);
    if (fault.kind !== 'restart' || verdict.result === 'failure') return verdict;
    // After the restart the stores are as they were left: the next run is as good as a first one.
    const next = await runParties({ ...partiesOf(bed, fault.variant, bed.directory(fault.number)), timeoutMilliseconds: 20_000 });
    const problem = next.client.error?.reason ?? judgeClean(next, right);
    return problem === undefined ? verdict : failed(`after a restart: ${problem}`);
  } catch (error) {
    return failed(`the harness failed: ${(error as Error).stack}`);
  } finally {
    clearTimeout(timer);
  }
}

async function strike(fault: Fault, bed: Bed, { spares, certificates }: Tools): Promise<Seen> {
  if (fault.kind === 'malformed') return await malformedMessage(bed, fault);
  if ('moment' in fault) return 'victim' in fault ? await processFault(bed, fault, spares) : await lineFault(bed, fault);
  if (fault.kind === 'program') return await forgedField(bed, fault);
  if (fault.kind === 'certificate') return await certificateFault(bed, fault, certificates);
  return await replayFault(bed, fault);
}

/** A failure at once, with what does it again; the rest now and then. */
function report(rows: readonly Row[], total: number, seed: number, slow: number): void {
  const { fault, verdict } = rows.at(-1)!;
  if (verdict.result === 'failure') {
    const { phase, role } = placeOf(fault);
    console.log(`FAILURE ${fault.number} (${fault.kind}, ${phase}, ${role}): ${verdict.why}`);
    console.log(
      `  ${JSON.stringify(fault)}\n  ${verdict.ends.join('\n  ')}\n  again: npm run bench -- faults --seed ${seed} --only ${fault.number}`,
    );
  }
  if (verdict.milliseconds > slow)
    console.log(
      `${Math.round(verdict.milliseconds)} ms: ${verdict.result} ${JSON.stringify(fault)}\n  ${verdict.ends.join('\n  ')}`,
    );
  if (rows.length % 50 === 0 || rows.length === total) {
    const failures = rows.filter((row) => row.verdict.result === 'failure').length;
    console.log(`${rows.length} of ${total} faults, ${failures} failures`);
  }
}
