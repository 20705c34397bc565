// One party of the service bench, in a process of its own.
import { once } from 'node:events';
import process from 'node:process';
import { runClient, type Service, serveDealer, serveModel } from '../src/party/index.ts';

export interface ServiceOrder {
  readonly role: 'dealer' | 'server' | 'client';
  readonly directory: string;
  readonly model: string;
  readonly promptIds: readonly number[];
  readonly newTokens: number;
  /** Of a client, one after the other; of the server, bundles made ahead. */
  readonly count: number;
}
export type ServiceEvent = { readonly type: 'ready' } | { readonly type: 'done'; readonly seconds: number[] };

const ring = { bits: 64, fraction: 16 };
const timeoutMilliseconds = 600_000;
const tell = (event: ServiceEvent): void => void process.send!(event);

async function run({ role, directory, model, promptIds, newTokens, count }: ServiceOrder): Promise<void> {
  const address = (name: string): string => `unix:${directory}/${name}.socket`;
  if (role === 'client') {
    tell({ type: 'ready' });
    await once(process, 'message');
    const seconds: number[] = [];
    for (let session = 0; session < count; session++) {
      const start = performance.now();
      await runClient({
        rangeFlags: false,
        ...{ server: address('server'), dealer: address('dealer'), state: `${directory}/client-${process.pid}`, ring },
        task: { kind: 'generate', prompt: { ids: promptIds }, newTokens },
        timeoutMilliseconds,
      });
      seconds.push((performance.now() - start) / 1000);
    }
    return tell({ type: 'done', seconds });
  }
  const shape = { task: 'generate', promptTokens: promptIds.length, newTokens, ring } as const;
  let prepared = 0;
  const common = {
    listen: [address(role)],
    limits: { maximumSessions: 8, maximumWaiting: 8, maximumPromptTokens: 64, maximumNewTokens: 64 },
    timeoutMilliseconds,
    handshakeMilliseconds: 60_000,
    maximumSessionMilliseconds: 3_600_000,
    setting: 'dealer',
    state: `${directory}/${role}-state`,
    log: (_: string, event: string) => {
      if (event === 'prepared' && ++prepared === count) tell({ type: 'ready' });
    },
  } as const;
  let service: Service;
  if (role === 'dealer') service = await serveDealer({ ...common, maximumMaskedBytes: 2 ** 32, maximumBundles: 1000 });
  else
    service = await serveModel({
      ...common,
      model,
      dealer: address('dealer'),
      prepare: { count, shapes: [shape] },
      policy: { reveal: ['logits', 'token'] },
    });
  process.once('SIGTERM', () => void service.drain(0).then(() => process.exit(0)));
  if (role === 'dealer' || count === 0) tell({ type: 'ready' });
}

process.once('message', (order: ServiceOrder) => {
  run(order).catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
});
