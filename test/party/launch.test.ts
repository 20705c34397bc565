import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { parsePreprocessor, preprocess } from '../../src/models/preprocess.ts';
import { folderFiles } from '../../src/node/files.ts';
import { type LaunchOptions, type LaunchResult, launchLocal, readManifest } from '../../src/party/index.ts';
import type { RoleOrder } from '../../src/party/launch.ts';
import { loadImage } from '../../src/pictures/index.ts';
import { type Expected, expected, farthest, temporary, vocabularySize, writeLlama, writeVit } from './models.ts';

/** Every role process that the launcher started: its order, what it said and wrote, whether it is gone. */
interface Started {
  order?: RoleOrder;
  readonly signal: (name: NodeJS.Signals) => void;
  readonly events: unknown[];
  output: string;
  readonly gone: () => boolean;
}
const started = vi.hoisted(() => ({ all: [] as Started[], beforeOrder: (_: RoleOrder): void => {} }));
vi.mock('node:child_process', async (original) => {
  const real = await original<typeof import('node:child_process')>();
  const fork = (path: string, values: string[], options: object) => {
    const child = real.fork(path, values, { ...options, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    const record: Started = {
      events: [],
      output: '',
      signal: (name) => void child.kill(name),
      gone: () => child.exitCode !== null || child.signalCode !== null,
    };
    started.all.push(record);
    for (const stream of [child.stdout!, child.stderr!]) stream.on('data', (text) => void (record.output += text));
    child.on('message', (event) => record.events.push(event));
    const send = child.send.bind(child) as (...parameters: unknown[]) => boolean;
    child.send = ((order: RoleOrder, ...rest: unknown[]) => {
      record.order ??= order;
      started.beforeOrder(order);
      return send(order, ...rest);
    }) as typeof child.send;
    return child;
  };
  return { ...real, fork };
});

vi.setConfig({ testTimeout: 60_000, maxConcurrency: 3 });
const { path: root, remove } = temporary();
const [model, ending, exact, vision] = ['llama', 'ending', 'exact', 'vit/model'].map((name) => join(root, name)) as [
  string,
  string,
  string,
  string,
];
const wide = { bits: 64, fraction: 16 } as const;
const narrow = { bits: 32, fraction: 9 } as const;
const promptIds = [1, 5, 270, 271, 272];
const newTokens = 4;
let picture = '';
let right: Record<32 | 64, Expected>;

beforeAll(async () => {
  for (const each of [model, exact, vision, ending]) mkdirSync(each, { recursive: true });
  await writeLlama(model);
  await writeLlama(exact, { sotto: undefined });
  picture = await writeVit(vision);
  const run = (ring: typeof wide | typeof narrow) => expected(model, { task: 'generate', newTokens, ring }, promptIds);
  right = { 64: await run(wide), 32: await run(narrow) };
  await writeLlama(ending, { eos_token_id: right[64].ids[1] });
});
afterAll(remove);

/** Launches are told apart by their timeout, so that tests may run side by side. */
let launches = 0;
const generating = (ids: readonly number[]): LaunchOptions['task'] => ({ kind: 'generate', prompt: { ids }, newTokens });
async function launch(
  options: Partial<LaunchOptions>,
  patience = 20_000,
): Promise<{ result: LaunchResult | Error; roles: Map<string, Started> }> {
  const timeoutMilliseconds = patience + launches++;
  const result = await launchLocal({
    rangeFlags: false,
    model,
    task: generating(promptIds),
    ring: wide,
    transport: 'unix',
    keepLogits: true,
    ...options,
    timeoutMilliseconds,
  }).catch((error: Error) => error);
  const own = started.all.filter(({ order }) => order?.timeoutMilliseconds === timeoutMilliseconds);
  for (const { order, gone } of own) {
    expect(gone(), `the ${order!.role} process is gone`).toBe(true);
    if ('state' in order!) expect(existsSync(dirname(order.state)), 'the temporary folder is gone').toBe(false);
  }
  return { result, roles: new Map(own.map((each) => [each.order!.role, each])) };
}

function succeeded(result: LaunchResult | Error): asserts result is LaunchResult {
  if (result instanceof Error) throw result;
}

/** Bytes and hops that three processes counted, in the shape of the forecast. */
function measured({ client, server, dealer }: LaunchResult) {
  const phase = (name: 'setup' | 'offline') => ({
    clientSentBytes: client.sentBytes[name],
    serverSentBytes: server.sentBytes[name],
    dealerSentBytes: dealer.sentBytes[name],
  });
  const online = {
    clientToServerBytes: client.sentBytes.online,
    serverToClientBytes: server.sentBytes.online,
    hops: client.hops,
  };
  return { setup: phase('setup'), offline: phase('offline'), online };
}

describe.concurrent('three processes', () => {
  it.each([
    { transport: 'unix', ring: wide, tolerance: 0.1 },
    { transport: 'tcp', ring: narrow, tolerance: 0.15 },
  ] as const)(
    "over $transport in a ring of $ring.bits bits give the simulation's text and send what the forecast says",
    async ({ transport, ring, tolerance }) => {
      const { result } = await launch({ transport, ring });
      succeeded(result);
      const { ids, logits, margin } = right[ring.bits];
      expect(farthest(result.logits, logits)).toBeLessThan(tolerance);
      expect(margin).toBeGreaterThan(2 * tolerance);
      expect(result.client.newIds).toEqual(ids);
      expect(result.client).toMatchObject({ stopped: 'length', promptIds });
      expect(measured(result)).toEqual(result.client.forecast);
      expect(result.server.hops).toBe(result.client.hops);
      expect(result.dealer.sentBytes.online).toBe(0);
      expect(new Set([result.client, result.server, result.dealer].map((report) => report.processId)).size).toBe(3);
    },
  );

  it('run a model that nobody converted, with its softmax and its own activation', async () => {
    const { result } = await launch({ model: exact });
    succeeded(result);
    const simulated = await expected(exact, { task: 'generate', newTokens, ring: wide }, promptIds);
    expect(farthest(result.logits, simulated.logits)).toBeLessThan(0.1);
    expect(measured(result)).toEqual(result.client.forecast);
  });

  it('reveal the likeliest tokens alone where that is asked for, and refuse to draw others', async () => {
    const task = { ...generating(promptIds), reveal: 'token' } as const;
    const { result } = await launch({ task });
    succeeded(result);
    expect(result.client.newIds).toEqual(right[64].ids);
    expect(result.logits).toEqual([]);
    expect(measured(result)).toEqual(result.client.forecast);
    const drawn = { ...task, sampling: { temperature: 1 } } as LaunchOptions['task'];
    expect((await launch({ task: drawn })).result).toMatchObject({
      name: 'SottoError',
      kind: 'usage',
      place: { party: 'client' },
    });
  });

  it('name a picture like the simulation', async () => {
    const { result } = await launch({ model: vision, task: { kind: 'classify', image: picture } });
    succeeded(result);
    const preprocessor = parsePreprocessor(JSON.parse(readFileSync(join(vision, 'preprocessor_config.json'), 'utf8')));
    const pixels = preprocess(await loadImage(readFileSync(picture), picture), preprocessor);
    const { logits, ids } = await expected(vision, { task: 'classify', newTokens: 1, ring: wide }, pixels);
    expect(farthest(result.logits, logits)).toBeLessThan(0.05);
    expect(result.client.newIds).toEqual([]);
    expect(ids).toHaveLength(1);
    expect(measured(result)).toEqual(result.client.forecast);
  });

  it('go to the whole length where the text ends early, and show as much of it as there is', async () => {
    const { result } = await launch({ model: ending });
    succeeded(result);
    expect(result.client.stopped).toBe('eos');
    expect(result.client.newIds).toEqual(right[64].ids.slice(0, 2));
    expect(measured(result)).toEqual(result.client.forecast);
  });

  it('stop where the text ends if they may: the server ends cleanly, and less is sent than for the whole length', async () => {
    const task = { kind: 'generate', prompt: { ids: promptIds }, newTokens, earlyStop: true } as const;
    const { result } = await launch({ model: ending, task });
    succeeded(result);
    expect(result.client.stopped).toBe('eos');
    expect(result.client.newIds).toEqual(right[64].ids.slice(0, 2));
    expect(result.server.sentBytes.online).toBeLessThan(result.client.forecast.online.serverToClientBytes);
    expect(result.server.sentBytes.online).toBeGreaterThan(0);
  });

  it('keep to themselves what is theirs', async () => {
    const marked = 'a small ZYX tree';
    const folder = join(root, 'moved');
    mkdirSync(folder);
    await writeLlama(folder);
    // Once the server has loaded its weights, nobody can open the folder any more; the client starts after that.
    started.beforeOrder = (order) => {
      if (order.role === 'client' && JSON.stringify(order.task).includes(marked)) renameSync(folder, `${folder}.away`);
    };
    const { result, roles } = await launch({
      model: folder,
      task: { kind: 'generate', prompt: { text: marked }, newTokens: 1 },
    });
    succeeded(result);
    expect(existsSync(folder)).toBe(false);
    expect(result.text.startsWith(marked)).toBe(true);
    const keys = (role: string) => Object.keys(roles.get(role)!.order!).sort();
    expect(keys('dealer')).toEqual(['linkToken', 'listen', 'role', 'startMilliseconds', 'timeoutMilliseconds']);
    expect(keys('server')).toEqual([
      'dealer',
      'linkToken',
      'listen',
      'measuring',
      'model',
      'role',
      'state',
      'timeoutMilliseconds',
    ]);
    expect(keys('client')).toEqual([
      'dealer',
      'manifestHash',
      'rangeFlags',
      'ring',
      'role',
      'sendLogits',
      'server',
      'state',
      'task',
      'timeoutMilliseconds',
    ]);
    expect(JSON.stringify(roles.get('client')!.order)).not.toContain(folder);
    for (const role of ['server', 'dealer']) {
      const { output, events } = roles.get(role)!;
      expect(output, `what the ${role} wrote`).toBe('');
      const told = JSON.stringify(events);
      for (const secret of [marked, 'ZYX', result.client.promptIds.join(','), `${result.client.newIds.join(',')}]`])
        expect(told, `what the ${role} told`).not.toContain(secret);
    }
    expect(roles.get('client')!.output).toBe('');
  });

  it.each([
    ['a token outside the vocabulary', { task: generating([5, vocabularySize + 7777]) }, 'client', 'prompt'],
    ['a task that the model is not made for', { task: { kind: 'classify', image: 'x.png' } as const }, 'client', undefined],
    ['no model at all', { model: join(root, 'nowhere') }, 'server', undefined],
  ])('end with the error of %s, not with its echo', async (what, options, party, field) => {
    const { result, roles } = await launch(options);
    expect(result, what).toMatchObject({ name: 'SottoError', place: { party, ...(field === undefined ? {} : { field }) } });
    expect((result as { kind?: string }).kind).not.toBe('peer');
    if (what.startsWith('no model'))
      expect((result as { place?: object }).place).toMatchObject({ file: expect.stringContaining('nowhere') });
    // What the others hear of a client's error says nothing of the prompt.
    if (party === 'client')
      for (const role of ['server', 'dealer']) expect(JSON.stringify(roles.get(role)!.events)).not.toMatch(/8057|position/);
  });
});

describe.concurrent('three processes of which one', () => {
  it('is killed end with the error of who missed it', async () => {
    const victim = (order: RoleOrder | undefined) => order?.role === 'server' && order.model.endsWith('killed');
    const onText = () => started.all.find(({ order }) => victim(order))!.signal('SIGKILL');
    mkdirSync(join(root, 'killed'));
    await writeLlama(join(root, 'killed'));
    const { result } = await launch({ model: join(root, 'killed'), onText });
    expect(result).toMatchObject({ name: 'SottoError', kind: 'peer', place: { party: 'server' } });
  });

  it('is stopped end after the timeout with its name, and it is ended, too', async () => {
    const patience = 5000;
    const { result, roles } = await launch(
      {
        onText: () => {
          const timeout = (order?: RoleOrder) => order?.timeoutMilliseconds ?? 0;
          for (const { order, signal } of started.all) if (order?.role === 'dealer' && timeout(order) < 7000) signal('SIGSTOP');
        },
      },
      patience,
    );
    expect(result).toMatchObject({
      name: 'SottoError',
      kind: 'peer',
      place: { party: 'dealer' },
      reason: expect.stringContaining('silent'),
    });
    expect(roles.size).toBe(3);
  });

  it('speaks to a listener that throws end with what it threw', async () => {
    const thrown = new Error('the listener');
    const onText = () => {
      throw thrown;
    };
    expect((await launch({ onText })).result).toBe(thrown);
  });

  it('cannot be given its order leave nothing behind', async () => {
    const sampling = { temperature: 1, seed: (() => 1) as unknown as number };
    const { result } = await launch({ task: { kind: 'generate', prompt: { ids: [5] }, newTokens: 1, sampling } });
    expect(result).toMatchObject({ name: 'SottoError', kind: 'resource', place: { party: 'client' } });
  });
});

describe('the public manifest', () => {
  it('has the configuration without calibration ranges, the tokenizer, and nothing of a tensor', async () => {
    const config = JSON.parse(readFileSync(join(model, 'config.json'), 'utf8'));
    expect(config.sotto.ranges).toBeDefined();
    const manifest = await readManifest(folderFiles(model), config);
    expect(Object.keys(manifest).sort()).toEqual(['config', 'files', 'type']);
    expect(Object.keys(manifest.files).sort()).toEqual(['tokenizer.json', 'tokenizer_config.json']);
    const { ranges: _, name: __, ...plan } = config.sotto;
    expect(manifest.config).toEqual({ ...config, sotto: plan });
    expect(JSON.stringify(manifest)).not.toMatch(/12\.25|ranges|mlp\.act|q_proj|safetensors/);
  });
});
