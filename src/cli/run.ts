import type { Costs } from '../backends/cost/index.ts';
import type { LaunchResult, RoleReport } from '../party/index.ts';
import { bytes, seconds, table } from './table.ts';

/** What a private run sent, from the reports of its parties: each counts its own channels. */
export function measuredCosts({ client, server, dealer }: Pick<LaunchResult, 'client' | 'server' | 'dealer'>): Costs {
  const sent = (phase: 'setup' | 'offline') => ({
    clientSentBytes: client.sentBytes[phase],
    serverSentBytes: server.sentBytes[phase],
    dealerSentBytes: dealer.sentBytes[phase],
  });
  return {
    setup: sent('setup'),
    offline: sent('offline'),
    online: { clientToServerBytes: client.sentBytes.online, serverToClientBytes: server.sentBytes.online, hops: client.hops },
  };
}

/** The ledger of a private run: what each scope sent each way, and how long each party computed on it; layers added up. */
export function runTable(run: LaunchResult): string {
  const { client, server, dealer } = run;
  const rows = layersOf(client).map(([scope, own]) => {
    const theirs = new Map(layersOf(server)).get(scope);
    return [
      scope,
      bytes(own.clientToServerBytes),
      bytes(own.serverToClientBytes),
      seconds(own.seconds),
      seconds(theirs?.seconds ?? 0),
    ];
  });
  const { online } = measuredCosts(run);
  rows.push([
    `whole run, ${online.hops} hops`,
    bytes(online.clientToServerBytes),
    bytes(online.serverToClientBytes),
    seconds(client.onlineComputeSeconds),
    seconds(server.onlineComputeSeconds),
  ]);
  const ledger = table(['online', 'to server', 'to client', 'client computes', 'server computes'], rows, [rows.length - 1]);
  const phase = (name: 'setup' | 'offline' | 'online'): string[] => [
    name,
    ...[client, server, dealer].flatMap(({ sentBytes, seconds: took }) => [bytes(sentBytes[name]), seconds(took[name])]),
  ];
  const phases = table(
    ['phase', 'client sends', 'took', 'server sends', 'took', `${dealer.role} sends`, 'took'],
    [phase('setup'), phase('offline'), phase('online')],
  );
  return `${ledger}\n${phases}`;
}

type Sums = { clientToServerBytes: number; serverToClientBytes: number; seconds: number };

/** Scopes added up by layer: `layers.3.mlp.act` counts for `layers.3`. */
function layersOf({ scopes }: RoleReport): [string, Sums][] {
  const layers = new Map<string, Sums>();
  for (const { scope, ...record } of scopes) {
    const name = /^layers\.\d+/.exec(scope)?.[0] ?? scope.split('.')[0] ?? scope;
    const sums = layers.get(name) ?? { clientToServerBytes: 0, serverToClientBytes: 0, seconds: 0 };
    sums.clientToServerBytes += record.clientToServerBytes;
    sums.serverToClientBytes += record.serverToClientBytes;
    sums.seconds += record.seconds;
    layers.set(name, sums);
  }
  return [...layers];
}

/** What `--json` says of a private run. */
export function privateFields(run: LaunchResult) {
  const { client, server, dealer } = run;
  const parties = [client, server, dealer].map((report) => {
    const { role, processId, seconds, sentBytes, onlineComputeSeconds, scopes, peakKernelBytes, saw } = report;
    return [role, { processId, seconds, sentBytes, onlineComputeSeconds, peakKernelBytes, saw, scopes }];
  });
  return { ...measuredCosts(run), forecast: client.forecast, parties: Object.fromEntries(parties) as Record<string, unknown> };
}
