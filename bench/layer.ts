import { fork } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { forecast, perLayer } from '../src/backends/cost/index.ts';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { frameHeaderBytes } from '../src/net/frame.ts';
import type { Tensor } from '../src/program/index.ts';
import { type LayerCase, traceLayer } from './layer-case.ts';
import type { LayerOrder, LayerResult } from './layer-party.ts';
import { type Measurement, summarise } from './measure.ts';

/** The cases of layer.json: one transformer layer, privately, between three processes on this machine's Unix sockets. */
export async function layer(): Promise<object> {
  const cases = JSON.parse(readFileSync(new URL('./layer.json', import.meta.url), 'utf8')) as LayerCase[];
  const measurements: Measurement[] = [];
  const details: object[] = [];
  for (const one of cases) {
    const result = await runCase(one);
    measurements.push(...result.measurements);
    details.push(result.detail);
  }
  return { measurements, cases: details };
}

async function runCase(one: LayerCase): Promise<{ measurements: Measurement[]; detail: object }> {
  const directory = mkdtempSync(join(tmpdir(), 'sotto-bench-'));
  try {
    const roles = ['dealer', 'server', 'client'] as const;
    const [dealer, server, client] = (await Promise.all(roles.map((role) => party({ role, directory, layer: one })))) as [
      LayerResult,
      LayerResult,
      LayerResult,
    ];
    const wall = client.onlineSeconds.map((seconds, at) => Math.max(seconds, server.onlineSeconds[at]!));
    const expected = forecast(traceLayer(one).ringProgram).total;
    const online = {
      clientToServerBytes: client.sentBytes.online,
      serverToClientBytes: server.sentBytes.online,
      hops: client.hops,
    };
    const alone = layerBytes(client);
    const layerHops = perLayer(traceLayer(one).ringProgram).find(({ scope }) => scope === 'layers.0')!.online.hops;
    const detail = {
      ...one,
      online: { ...online, megabytes: (online.clientToServerBytes + online.serverToClientBytes) / 1e6 },
      layerAloneMegabytes: alone / 1e6,
      layerHops,
      offlineMegabytes: { dealer: dealer.sentBytes.offline / 1e6, client: client.sentBytes.offline / 1e6 },
      setupMegabytes: server.sentBytes.setup / 1e6,
      equalsForecast: JSON.stringify(online) === JSON.stringify(expected.online),
      error: await errorOf(one, client.output!),
      peakKernelMegabytes: {
        client: client.peakKernelBytes / 1e6,
        server: server.peakKernelBytes / 1e6,
        dealer: dealer.peakKernelBytes / 1e6,
      },
      peakResidentMegabytes: { client: client.peakResidentBytes / 1e6, server: server.peakResidentBytes / 1e6 },
      serverSecondsByScope: server.scopes,
      clientSecondsByScope: client.scopes,
    };
    const measurements = [
      summarise(`${one.name}: online, both parties`, 's', wall),
      summarise(`${one.name}: client computes online`, 's', client.computeSeconds),
      summarise(`${one.name}: server computes online`, 's', server.computeSeconds),
      summarise(`${one.name}: processor time of the client online`, 's', client.processorSeconds),
      summarise(`${one.name}: processor time of the server online`, 's', server.processorSeconds),
      summarise(`${one.name}: offline, all parties`, 's', client.offlineSeconds),
      summarise(`${one.name}: the layer, online both ways, frame headers included`, 'MB', [detail.layerAloneMegabytes]),
      summarise(`${one.name}: with the input's sharing and the output's opening`, 'MB', [detail.online.megabytes]),
      summarise(`${one.name}: hops of the layer`, '', [layerHops]),
      summarise(`${one.name}: hops with input and output`, '', [online.hops]),
    ];
    return { measurements, detail };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The layer's own messages and all frame headers; sharing the input and opening the output belong to no layer. */
function layerBytes(client: LayerResult): number {
  const own = Object.entries(client.scopeBytes).filter(([scope]) => scope.startsWith('layers.'));
  return own.reduce((sum, [, bytes]) => sum + bytes, 0) + client.hops * frameHeaderBytes;
}

/** One role of a layer in a process of its own. */
export function party(order: LayerOrder): Promise<LayerResult> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(new URL('./layer-party.ts', import.meta.url)), [], { serialization: 'advanced' });
    child.on('message', (result) => resolve(result as LayerResult));
    child.on('exit', (code) => reject(new Error(`the ${order.role} ended with code ${code}`)));
    child.send(order);
  });
}

/** The private result against float64 on the same weights. */
export async function errorOf(
  one: LayerCase,
  output: Float64Array,
  tensors?: ReadonlyMap<string, Tensor>,
): Promise<{ largest: number; relativeL2: number }> {
  const { program, weights, input } = traceLayer(one);
  const exact = await (await referenceBackend().compile(program, tensors ?? weights())).run(new Map([['x', input()]]));
  const values = exact.get('hidden')!.values;
  let [largest, error, norm] = [0, 0, 0];
  output.forEach((value, at) => {
    const difference = value - values[at]!;
    largest = Math.max(largest, Math.abs(difference));
    error += difference ** 2;
    norm += values[at]! ** 2;
  });
  return { largest, relativeL2: Math.sqrt(error / norm) };
}
