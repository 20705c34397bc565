import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Channel } from '../../src/net/contract.ts';
import { connect } from '../../src/node/sockets.ts';
import { openBundleStore } from '../../src/party/bundles.ts';
import { type ClientOptions, runClientOn } from '../../src/party/client.ts';
import { runDealer, runServer } from '../../src/party/index.ts';
import { knownManifests } from '../../src/party/known-manifests-node.ts';
import { nodePlatform } from '../../src/party/platform.ts';
import type { ClientReport } from '../../src/party/report.ts';
import { writeLlama } from '../party/models.ts';

/** What goes over one connection: a letter for who sent it, the frame's kind, and its bytes. */
export type Transcript = Readonly<Record<string, readonly string[]>>;

export interface Outcome {
  /** The client's report, or what it threw. */
  readonly report: ClientReport | Error;
  /** By connection, in the order of their opening. */
  readonly transcript: Transcript;
}

const patience = { timeoutMilliseconds: 15_000 };

function watched(channel: Channel, frames: string[]): Channel {
  return new Proxy(channel, {
    get(target, name) {
      if (name === 'send')
        return (kind: number, payload: Uint8Array) => {
          frames.push(`> ${kind} ${payload.length}`);
          return target.send(kind, payload);
        };
      if (name === 'receive')
        return async () => {
          const frame = await target.receive();
          frames.push(`< ${frame.kind} ${frame.payload.length}`);
          return frame;
        };
      const value = Reflect.get(target, name) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** A client, written down as its peers see it. */
export async function watchedClient(state: string, options: ClientOptions): Promise<Outcome> {
  const transcript: Record<string, string[]> = {};
  const host = {
    platform: nodePlatform,
    connect: async (address: string, peer: string) => {
      const frames: string[] = [];
      transcript[`${Object.keys(transcript).length} ${peer}`] = frames;
      return watched(await connect({ address, peer, ...patience }), frames);
    },
    store: () => openBundleStore(state, 'client'),
    manifests: knownManifests(state),
    patienceMilliseconds: 0,
  };
  const report = await runClientOn(host, { rangeFlags: false, ...options }).catch((error: Error) => error);
  return { report, transcript };
}

type Task = Extract<ClientOptions['task'], { kind: 'generate' }>;

let runs = 0;

/** One run of a client with an honest dealer and a server of a folder that may be hostile, at an address of its own unless told. */
export async function run(
  root: string,
  folder: string,
  task: Omit<Task, 'kind'>,
  more: { readonly state?: string; readonly place?: string; readonly manifestHash?: string } = {},
): Promise<Outcome> {
  const place = join(root, more.place ?? `run-${runs++}`);
  mkdirSync(place, { recursive: true, mode: 0o700 });
  const ready = async (start: (announce: (address: string) => void) => Promise<unknown>) => {
    let done: Promise<unknown> = Promise.resolve();
    const address = await new Promise<string>((resolve, reject) => {
      done = start(resolve);
      done.catch(reject);
    });
    // Where the client goes, the others end with errors of their own.
    return { address, done: done.catch(() => undefined) };
  };
  const dealer = await ready((onListening) => runDealer({ listen: `unix:${place}/dealer`, ...patience, onListening }));
  const nobodyElse = new AbortController();
  const server = await ready((onListening) =>
    runServer({
      model: folder,
      listen: `unix:${place}/server`,
      dealer: dealer.address,
      state: join(place, `server-${runs}`),
      ...patience,
      onListening,
      nobodyElse: nobodyElse.signal,
    }),
  );
  const state = join(root, more.state ?? `client-${runs++}`);
  const given = more.manifestHash === undefined ? {} : { manifestHash: more.manifestHash };
  const options = { server: server.address, dealer: dealer.address, ring: { bits: 64, fraction: 16 }, ...given };
  const outcome = await watchedClient(state, { ...options, task: { kind: 'generate', ...task } });
  nobodyElse.abort();
  await Promise.all([server.done, dealer.done]);
  return outcome;
}

export type Json = Record<string, unknown>;

/** A small Llama whose public files were changed by somebody who wants to read prompts. */
export async function writeHostile(
  folder: string,
  change: { readonly config?: Json; readonly tokenizer?: (tokenizer: Json) => void },
): Promise<void> {
  mkdirSync(folder, { recursive: true });
  await writeLlama(folder, change.config);
  const path = join(folder, 'tokenizer.json');
  const tokenizer = JSON.parse(readFileSync(path, 'utf8')) as Json;
  change.tokenizer?.(tokenizer);
  writeFileSync(path, JSON.stringify(tokenizer));
}
