import { faults as lineKinds } from '../../src/net/faulty.ts';
import { type Moment, type Phase, phases, random } from './plan.ts';
import { type Answer, cleanSession, type ServiceFault, type Standing, sessionFault, stand } from './service.ts';
import type { Bed, Spares } from './strike.ts';
import { countsOf, heads, type Judged, markdownTable, tableOf, textTable } from './table.ts';
import { judge, type Right, type Verdict } from './verdict.ts';

/** `--service`: every fault befalls one session of three that run side by side at parties that stand through all of the faults. */

const processKinds = ['kill', 'stop', 'pause', 'restart'] as const;

interface ServiceRow extends Judged {
  readonly fault: ServiceFault;
}

function serviceFaultOf(
  seed: number,
  number: number,
  setting: Standing['setting'],
  own: readonly Moment[],
  shared: readonly Moment[],
): ServiceFault {
  const draw = random(Math.imul(seed + 3, 0x9e3779b1) ^ Math.imul(number + 1, 0xc2b2ae35));
  const pick = <T>(of: readonly T[]): T => of[draw(of.length)]!;
  const moment = (frames: readonly Moment[], among: readonly Phase[] = phases): Moment => {
    const phase = pick(among.filter((each) => frames.some((frame) => frame.phase === each)));
    const within = frames.filter((frame) => frame.phase === phase);
    const way = pick([...new Set(within.map(({ from, to }) => `${from} ${to}`))]);
    return pick(within.filter(({ from, to }) => `${from} ${to}` === way));
  };
  const lot = draw(130);
  if (lot >= 115)
    return { number, setting, kind: 'lie', moment: moment(own, ['setup', 'material', 'online']), draw: draw(2 ** 30) };
  if (lot >= 100) return { number, setting, kind: 'malformed', moment: moment(own, ['agreement']), draw: draw(2 ** 30) };
  if (lot < 70) {
    const isShared = lot >= 52;
    return {
      number,
      setting,
      kind: pick(lineKinds),
      moment: moment(isShared ? shared : own),
      seed: draw(2 ** 30),
      shared: isShared,
    };
  }
  const kind = pick(processKinds);
  if (kind === 'pause') return { number, setting, kind, moment: moment(own), timeouts: pick([0.1, 0.3, 1.6]) };
  return { number, setting, kind, moment: moment(own) };
}

interface ServiceRun {
  readonly rows: readonly ServiceRow[];
  /** Answers of the sessions beside the faulted ones: all of them, and those that were exact. */
  readonly others: Readonly<Others>;
}

interface Others {
  all: number;
  exact: number;
  /** Sessions that a lie gave a wrong answer: the lied to alone, and counted among the errors. */
  deceived: number;
}

/** Half of the faults in each setting, in both at once. */
export async function serviceFaults(
  bed: Bed,
  right: Right,
  spares: Spares,
  { count, seed, say }: { count: number; seed: number; say: (line: string) => void },
): Promise<ServiceRun> {
  const rows: ServiceRow[] = [];
  const others = { all: 0, exact: 0, deceived: 0 };
  const in_ = async (setting: Standing['setting'], first: number): Promise<void> => {
    const standing = await stand(bed, setting);
    try {
      const { own, shared, answer } = await cleanSession(standing, bed);
      if (!isExact(answer, right)) throw new Error(`the session without a fault is not right: ${answer.outcome.error}`);
      for (let number = first; number < count; number += 2) {
        const fault = serviceFaultOf(seed, number, setting, own, shared);
        const verdict = await judged(standing, bed, fault, right, spares, others);
        rows.push({ fault, verdict });
        if (verdict.result === 'failure')
          say(`FAILURE ${number}: ${verdict.why}\n  ${JSON.stringify(fault)}\n  ${verdict.ends.join('\n  ')}`);
        if (rows.length % 20 === 0)
          say(`${rows.length} of ${count} faults of a session, ${others.exact} of ${others.all} other sessions exact`);
      }
      const last = (await cleanSession(standing, bed)).answer;
      if (!isExact(last, right)) throw new Error(`the session after all faults is not right: ${last.outcome.error}`);
    } finally {
      const left = await standing.close();
      if (left.length > 0) say(`FAILURE: bundles are left in the ${setting} setting: ${left.join(', ')}`);
    }
  };
  await Promise.all([in_('dealer', 0), in_('helper', 1)]);
  return { rows, others };
}

async function judged(
  standing: Standing,
  bed: Bed,
  fault: ServiceFault,
  right: Right,
  spares: Spares,
  others: Others,
): Promise<Verdict> {
  const failed = (why: string): Verdict => ({ result: 'failure', why, milliseconds: 0, named: 0, errors: 0, ends: [] });
  try {
    const seen = await sessionFault(standing, bed, fault, spares);
    const answers = seen.others;
    const wrong = answers.filter((answer) => !isExact(answer, right));
    // What befalls a line between server and dealer befalls whichever of the three sessions it belongs to.
    const hit =
      'shared' in fault && fault.shared && seen.faulted.ends[0]!.outcome.error === undefined ? wrong.shift() : undefined;
    others.all += answers.length;
    others.exact += answers.length - wrong.length;
    if (hit !== undefined && hit.outcome.error?.name !== 'SottoError')
      return failed('a wrong answer of the session that was hit');
    if (wrong.length > 0)
      return failed(
        `another session ended with ${wrong.map(({ outcome }) => outcome.error?.reason ?? 'a wrong answer').join('; ')}`,
      );
    const ends =
      hit === undefined ? seen.faulted.ends : [...seen.faulted.ends, { role: 'client' as const, outcome: hit.outcome }];
    const limit = 2 * bed.timeoutMilliseconds + 20_000 + ('timeouts' in fault ? fault.timeouts * bed.timeoutMilliseconds : 0);
    const verdict = judge(fault, { ...seen.faulted, ends }, right, limit);
    // Who is lied to in well-formed words may get a wrong answer, which the threat model says; it must end all the same.
    const deceived = fault.kind === 'lie' && verdict.result === 'failure' && /^(logits|the t)/.test(verdict.why ?? '');
    if (deceived) others.deceived++;
    return deceived ? { ...verdict, result: 'error', why: 'deceived' } : verdict;
  } catch (error) {
    return failed((error as Error).message);
  }
}

const isExact = ({ outcome, logits }: Answer, right: Right): boolean =>
  outcome.report !== undefined &&
  'newIds' in outcome.report &&
  `${outcome.report.newIds}` === `${right.ids}` &&
  logits.length === right.logits.length &&
  logits.every((row, at) => row.every((value, i) => Math.abs(value - right.logits[at]![i]!) <= right.tolerance));

const whereOf = (fault: ServiceFault): string =>
  'seed' in fault ? `${fault.moment.from} → ${fault.moment.to}${fault.shared ? ', of a session' : ''}` : 'client';
const linesOf = (rows: readonly ServiceRow[]): string[][] =>
  tableOf(rows, ({ fault }) => [fault.kind, fault.moment.phase, whereOf(fault)]);

export const serviceTable = ({ rows }: ServiceRun): string => textTable(linesOf(rows));
export const serviceSummary = ({ rows, others }: ServiceRun) => ({
  ...countsOf(rows),
  otherSessions: others.all,
  otherSessionsExact: others.exact,
  deceivedByLies: others.deceived,
});

/** The same as a page. */
export function serviceMarkdown(
  run: ServiceRun,
  { command, seconds, timeoutMilliseconds }: { command: string; seconds: number; timeoutMilliseconds: number },
): string {
  const counts = serviceSummary(run);
  return `# Faults at a standing service

Made by \`${command} --write\` in ${seconds} s. One standing server with one standing dealer, and one with one standing helper (\`sotto serve\`, \`sotto dealer\`, \`sotto
helper\`), see all of these faults, one after the other. Each befalls one session of three that run side by side: a frame of that client's lines, a
frame of a session's line between server and dealer or helper, a message of that client's lines (malformed, or a lie: other words of the same form under a right checksum), or the client's process (kill, stop, pause, and a restart, which comes back as one client more).
The session that was hit must end with the exact answer or with typed errors that name the party; **the other two must be exact**; every session must end
(${timeoutMilliseconds} ms of timeout), and so must one more session after all faults; no bundle may be left that nobody burned.

**${counts.faults} faults: ${counts.exact} exact answers, ${counts.error} typed errors, ${counts.failure} failures; of the lies ${counts.deceivedByLies} gave the lied-to session a wrong answer (counted as errors; threat-model.md); ${counts.otherSessionsExact} of ${counts.otherSessions} other sessions exact; the slowest end ${counts.slowestMilliseconds} ms after its fault.**

${markdownTable(heads, linesOf(run.rows))}
`;
}
