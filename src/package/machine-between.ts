import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { fitRates, forecast, type MachineProfile, runSeconds, type Sample } from '../backends/cost/index.ts';
import { clientOffline, clientOnline, clientSetup, memoryBundle } from '../backends/mpc/index.ts';
import { quantise, type RingProgram } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import { ownModule, processFlags } from '../node/own-module.ts';
import { type Listener, listen } from '../node/sockets.ts';
import { temporaryFolder } from '../node/temporary.ts';
import { nodePlatform } from '../party/platform.ts';
import type { Program } from '../program/index.ts';
import { barrier, calibrationPrograms, inputsOf, measuredRings, median, type PeerOrder } from './machine-programs.ts';

interface Between {
  readonly offline: number[];
  readonly online: number[];
}

/** Wall clock of the phases of a program, run by run, between this process as the client and another one as server and dealer. */
async function timeBetween(number: number, program: Program, ringProgram: RingProgram, runs: number): Promise<Between> {
  const folder = await temporaryFolder('machine');
  const addresses = { server: `unix:${join(folder.path, 'server')}`, dealer: `unix:${join(folder.path, 'dealer')}` };
  const timeoutMilliseconds = 60_000;
  const listening = Object.values(addresses).map((address) => listen({ address, peer: 'server', timeoutMilliseconds }));
  const [forServer, forDealer] = (await Promise.all(listening)) as [Listener, Listener];
  const order: PeerOrder = { number, ring: ringProgram.ring, addresses, runs: runs + 1 };
  const module = ownModule(import.meta.url, 'machine-peer');
  const peer = fork(module.path, [JSON.stringify(order)], {
    execArgv: processFlags(module),
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  folder.beforeSignal(() => peer.kill('SIGKILL'));
  const failed = new Promise<never>((_, reject) => {
    const ended = (code: number | null): void => {
      if (code !== 0)
        reject(new SottoError('resource', `the process of a timed run ended with code ${code}`, { remedy: 'measure again' }));
    };
    peer.once('error', reject);
    peer.once('exit', ended);
  });
  failed.catch(() => undefined);
  const platform = nodePlatform(ringProgram.ring.bits);
  const session = { program: ringProgram, context: [] };
  const { input } = inputsOf(program);
  const client = async (): Promise<Between> => {
    const server = await forServer.accept({ peer: 'server' });
    const dealer = await forDealer.accept({ peer: 'dealer' });
    const maskSeed = await clientSetup(platform, session, { server });
    const seconds: Between = { offline: [], online: [] };
    for (let run = 0; run <= runs; run++) {
      const bundle = memoryBundle();
      const began = performance.now();
      await clientOffline(platform, session, { server, dealer }, maskSeed, bundle.sink);
      await barrier(server);
      const start = performance.now();
      seconds.offline.push((start - began) / 1000);
      await clientOnline(platform, session, { channel: server, bundle: bundle.source, input, output: () => undefined });
      seconds.online.push((performance.now() - start) / 1000);
    }
    await Promise.all([server.close(), dealer.close()]);
    return seconds;
  };
  try {
    return await Promise.race([client(), failed]);
  } finally {
    peer.kill('SIGKILL');
    await Promise.all([forServer.close(), forDealer.close()]);
    await folder.remove();
  }
}

/** What it takes to store material and to read it back. */
export async function measureBundle(): Promise<MachineProfile['bundle']> {
  const folder = await temporaryFolder('machine');
  try {
    const file = await open(join(folder.path, 'bundle'), 'w+');
    const part = new Uint8Array(randomBytes(2 ** 20));
    const start = performance.now();
    for (let at = 0; at < 32; at++) await file.write(part);
    await file.sync();
    const storedByteSeconds = (performance.now() - start) / 1000 / (32 * 2 ** 20);
    const reads: number[] = [];
    for (let at = 0; at < 200; at++) {
      const began = performance.now();
      await file.read(new Uint8Array(1024), 0, 1024, at * 4096);
      reads.push((performance.now() - began) / 1000);
    }
    await file.close();
    return { storedByteSeconds, readSeconds: median(reads) };
  } finally {
    await folder.remove();
  }
}

/** What frames and bytes cost between two parties beside what all compute, and what the first of several runs takes longer. */
export async function measureBetween(machine: MachineProfile): Promise<Pick<MachineProfile, 'frame' | 'firstRun' | 'overhead'>> {
  const samples: { online: Sample[]; offline: Sample[] } = { online: [], offline: [] };
  const firstRun = { offlineSeconds: 0, onlineSeconds: 0 };
  const boundless = { name: 'none', bitsPerSecond: 1e15, roundTripSeconds: 0 };
  for (const ring of Object.values(measuredRings))
    for (const [number, { program, runs }] of calibrationPrograms().entries()) {
      const ringProgram = quantise(program, ring);
      const { online, offline } = forecast(ringProgram).total;
      const taken = await timeBetween(number, program, ringProgram, runs + 1);
      const computed = runSeconds(ringProgram, machine, boundless);
      const [onlineTime, offlineTime] = [median(taken.online.slice(1)), median(taken.offline.slice(1))];
      samples.online.push({
        amounts: { hops: online.hops, bytes: online.clientToServerBytes + online.serverToClientBytes },
        seconds: Math.max(0, onlineTime - computed.online.seconds),
      });
      samples.offline.push({
        amounts: { bytes: offline.dealerSentBytes + offline.clientSentBytes },
        seconds: Math.max(0, offlineTime - computed.offline),
      });
      // Only the other process was new to its work: a new client takes as much longer.
      firstRun.onlineSeconds = Math.max(firstRun.onlineSeconds, 2 * (taken.online[0]! - onlineTime));
      firstRun.offlineSeconds = Math.max(firstRun.offlineSeconds, taken.offline[0]! - offlineTime);
    }
  const { hops = 0, bytes = 0 } = fitRates(samples.online, ['hops', 'bytes']);
  const offlineByteSeconds = fitRates(samples.offline, ['bytes']).bytes ?? 0;
  return { frame: { seconds: hops, byteSeconds: bytes }, firstRun, overhead: { ...machine.overhead, offlineByteSeconds } };
}
