import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type MachineProfile, type RunSeconds, runSeconds } from '../src/backends/cost/index.ts';
import { quantise } from '../src/backends/ring/index.ts';
import { traceLlamaPrivate } from '../src/models/index.ts';
import { type Network, parseNetwork } from '../src/net/shaped.ts';
import { measureMachine } from '../src/package/machine.ts';
import { openModel } from '../src/package/model.ts';
import type { RoleEvent, RoleOrder } from '../src/party/launch.ts';
import type { Phase, RoleReport } from '../src/party/report.ts';
import { party } from './layer.ts';
import { type LayerCase, traceLayer } from './layer-case.ts';
import { relayProcess } from './network.ts';

const networkNames = ['lan', 'wan'];
const timeoutMilliseconds = 300_000;

interface Comparison {
  readonly case: string;
  readonly network: string;
  readonly phase: Phase;
  readonly forecastSeconds: number;
  readonly measuredSeconds: number;
  /** Forecast over measured. */
  readonly ratio: number;
  readonly runs: number;
}

/**
 * What `sotto cost --network` forecasts beside what runs between processes take, whose bytes pass a relay of that bandwidth and latency:
 * layers of layer.json, of which the first run only warms up, and the shipped model writing 12 tokens, in new processes. The machine is
 * measured first, under the same load.
 */
export async function networks(): Promise<object> {
  const machine = await measureMachine((step) => console.log(`measuring ${step}`));
  const load = { before: loadavg()[0] };
  const comparisons: Comparison[] = [];
  const add = (more: Comparison[]): void => {
    comparisons.push(...more);
    for (const one of more) console.log(row(one));
  };
  console.log(['case', 'network', 'phase', 'forecast, s', 'measured, s', 'ratio', 'runs'].join(' | '));
  for (const name of networkNames) {
    const network = parseNetwork(name)!;
    for (const layer of cases()) add(await compareLayer(layer, network, machine));
    add(await compareStories(network, machine));
  }
  const online = comparisons.filter(({ phase }) => phase === 'online');
  const worstRatio = Math.max(...online.map(({ ratio }) => Math.max(ratio, 1 / ratio)));
  return { comparisons, worstOnlineRatio: worstRatio, loadAverage: { ...load, after: loadavg()[0] }, machine };
}

const row = ({ case: name, network, phase, forecastSeconds, measuredSeconds, ratio, runs }: Comparison): string =>
  `| ${name} | ${network} | ${phase} | ${forecastSeconds.toFixed(2)} | ${measuredSeconds.toFixed(2)} | ${ratio.toFixed(2)} | ${runs} |`;

function cases(): LayerCase[] {
  const all = JSON.parse(readFileSync(new URL('./layer.json', import.meta.url), 'utf8')) as LayerCase[];
  const find = (name: string): LayerCase => all.find((one) => one.name === name)!;
  const warm = { runs: 6 };
  return [
    { ...find('bert-base layer, p = 2'), ...warm },
    { ...find('bert-base layer, p = 2, 32 bits'), ...warm },
    { ...find('bert-base layer, p = 8'), ...warm },
    { ...find('bert-base layer, exact'), runs: 3 },
  ];
}

const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
};

function comparisonsOf(
  name: string,
  network: Network,
  expected: RunSeconds,
  measured: Record<Phase, readonly number[]>,
): Comparison[] {
  const seconds = { setup: expected.setup, offline: expected.offline, online: expected.online.seconds };
  return (['setup', 'offline', 'online'] as const).map((phase) => ({
    case: name,
    network: network.name,
    phase,
    forecastSeconds: seconds[phase],
    measuredSeconds: median(measured[phase]),
    ratio: seconds[phase] / median(measured[phase]),
    runs: measured[phase].length,
  }));
}

async function compareLayer(layer: LayerCase, network: Network, machine: MachineProfile): Promise<Comparison[]> {
  const directory = mkdtempSync(join(tmpdir(), 'sotto-networks-'));
  const lines = ['server', 'dealer', 'dealer-server'].map((name) => ({
    listen: join(directory, `near-${name}.socket`),
    target: join(directory, `${name}.socket`),
  }));
  const stop = await relayProcess({ lines, network });
  try {
    const roles = ['dealer', 'server', 'client'] as const;
    const results = await Promise.all(roles.map((role) => party({ role, directory, layer, relayed: true })));
    const [, server, client] = results as [(typeof results)[0], (typeof results)[0], (typeof results)[0]];
    const slower = (read: (result: typeof client) => readonly number[]): number[] =>
      read(client)
        .map((seconds, at) => Math.max(seconds, read(server)[at]!))
        .slice(1);
    return comparisonsOf(layer.name, network, runSeconds(traceLayer(layer).ringProgram, machine, network), {
      setup: [server.setupSeconds],
      offline: slower((result) => result.offlineSeconds),
      online: slower((result) => result.onlineSeconds),
    });
  } finally {
    stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

const storiesFolder = fileURLToPath(new URL('../artefacts/stories-polynomial', import.meta.url));
const story = { prompt: 'Once upon a time', newTokens: 12, ring: { bits: 64, fraction: 16 } };
const storyRuns = 3;

/** The shipped model between the processes that `sotto generate --private` starts. */
async function compareStories(network: Network, machine: MachineProfile): Promise<Comparison[]> {
  const model = await openModel(storiesFolder);
  const promptTokens = (await model.tokenizer()).encode(story.prompt).length;
  if (model.config.family !== 'llama') throw new Error('the shipped model writes text');
  const program = quantise(traceLlamaPrivate(model.config, model.plan, { promptTokens, newTokens: story.newTokens }), story.ring);
  const expected = runSeconds(program, machine, network);
  const { offlineSeconds, onlineSeconds } = machine.firstRun;
  const first = {
    ...expected,
    offline: expected.offline + offlineSeconds,
    online: { ...expected.online, seconds: expected.online.seconds + onlineSeconds },
  };
  const measured: Record<Phase, number[]> = { setup: [], offline: [], online: [] };
  for (let run = 0; run < storyRuns; run++) {
    const { client, server } = await tellStory(network);
    for (const phase of ['setup', 'offline', 'online'] as const)
      measured[phase].push(Math.max(client.seconds[phase], server.seconds[phase]));
  }
  return comparisonsOf(`stories-polynomial, ${promptTokens} + ${story.newTokens} tokens`, network, first, measured);
}

async function tellStory(network: Network): Promise<{ client: RoleReport; server: RoleReport }> {
  const directory = mkdtempSync(join(tmpdir(), 'sotto-networks-'));
  const at = (name: string): string => join(directory, name);
  const lines = ['server', 'dealer'].map((name) => ({ listen: at(`near-${name}`), target: at(name) }));
  const stop = await relayProcess({ lines, network });
  const children: ChildProcess[] = [];
  const start = (order: RoleOrder) => {
    const role = fork(fileURLToPath(new URL('../src/party/role.ts', import.meta.url)), [], {
      execArgv: ['--import', 'tsx'],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    children.push(role);
    const until = <T>(read: (event: RoleEvent) => T | undefined): Promise<T> =>
      new Promise((resolve, reject) => {
        role.on('message', (event: RoleEvent) => {
          const found = read(event);
          if (found !== undefined) resolve(found);
          if (event.type === 'error') reject(new Error(event.error.reason));
        });
        role.once('exit', () => setTimeout(() => reject(new Error(`the ${order.role} ended`)), 100));
      });
    const listening = until((event) => (event.type === 'listening' ? event.address : undefined));
    const report = until((event) => (event.type === 'report' ? event.report : undefined));
    listening.catch(() => undefined);
    report.catch(() => undefined);
    role.send(order);
    return { listening, report };
  };
  try {
    const linkToken = new Uint8Array(32).fill(7);
    const listen = `unix:${at('dealer')}`;
    const dealer = start({ role: 'dealer', listen, linkToken, timeoutMilliseconds, startMilliseconds: 60_000 });
    await dealer.listening;
    const near = { server: `unix:${at('near-server')}`, dealer: `unix:${at('near-dealer')}` };
    const server = start({
      role: 'server',
      listen: `unix:${at('server')}`,
      dealer: near.dealer,
      linkToken,
      model: storiesFolder,
      state: at('server-state'),
      timeoutMilliseconds,
    });
    await server.listening;
    const client = start({
      role: 'client',
      ...near,
      state: at('client-state'),
      sendLogits: false,
      task: { kind: 'generate', prompt: { text: story.prompt }, newTokens: story.newTokens },
      ring: story.ring,
      timeoutMilliseconds,
    });
    const [clientReport, serverReport] = await Promise.all([client.report, server.report, dealer.report]);
    return { client: clientReport, server: serverReport };
  } finally {
    stop();
    for (const child of children) child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
}
