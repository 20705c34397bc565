import { mkdirSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Channel } from '../../src/net/contract.ts';
import { frameHeaderBytes } from '../../src/net/frame.ts';
import { connect } from '../../src/node/sockets.ts';
import { openBundleStore } from '../../src/party/bundles.ts';
import { controlFrame, protocolVersion, receiveControl, sendControl } from '../../src/party/control.ts';
import { type Role, runDealer, runServer } from '../../src/party/index.ts';
import { traceRun } from '../../src/party/manifest.ts';
import { temporary, writeLlama } from './models.ts';
import { type Crossing, type Outcome, type PartiesOptions, runParties } from './relay.ts';

vi.setConfig({ testTimeout: 60_000, maxConcurrency: 4 });
const { path: root, remove } = temporary();
afterAll(remove);
const model = join(root, 'model');
const ring = { bits: 64, fraction: 16 };
beforeAll(async () => {
  mkdirSync(model);
  await writeLlama(model);
});

let runs = 0;
const freshDirectory = (): string => join(root, `run${runs++}`);
const run = (options: Partial<PartiesOptions>) =>
  runParties({
    directory: freshDirectory(),
    model,
    promptIds: [5, 9],
    newTokens: 2,
    ring,
    timeoutMilliseconds: 8000,
    ...options,
  });

/** The error names the party: as the one it met, or as the one that another party met. */
function expectNamed({ error }: Outcome<unknown>, party: Role): void {
  expect(error).toMatchObject({ name: 'SottoError', kind: 'peer' });
  expect(
    error!.place.party === party || error!.reason.includes(`party ${party}`),
    `${error!.place.party}: ${error!.reason}`,
  ).toBe(true);
}

const moments = {
  setup: ({ kind, from }: Crossing) => kind === 2 && from === 'server',
  offline: ({ kind, from }: Crossing) => kind === 3 && from === 'dealer',
  online: ({ kind, from, frame }: Crossing) => kind === 1 && from === 'client' && frame > 12,
} as const;
type Moment = keyof typeof moments;

type Signal = 'SIGKILL' | 'SIGSTOP' | 'orphan';

/** Runs with one role as a process, which gets a signal at the first frame of its moment. */
async function signalled(apart: Role, moment: Moment, signal: Signal, timeoutMilliseconds: number) {
  // Where a busy machine does not start the process within the timeout, the run ends before its moment, and nothing was tried.
  for (let tries = 1; ; tries++) {
    const found = await signalledOnce(apart, moment, signal, timeoutMilliseconds);
    if (found.signalledAt === 0 && tries < 3) continue;
    expect(found.signalledAt, 'the moment came').toBeGreaterThan(0);
    return found;
  }
}

async function signalledOnce(apart: Role, moment: Moment, signal: Signal, timeoutMilliseconds: number) {
  const directory = freshDirectory();
  let signalledAt = 0;
  let strike = (): void => {};
  const outcomes = await run({
    directory,
    apart,
    timeoutMilliseconds,
    onApart: (child) => {
      strike = () => void (signal === 'orphan' ? child.disconnect() : child.kill(signal));
    },
    onFrame: (crossing) => {
      if (signalledAt > 0 || !moments[moment](crossing)) return;
      signalledAt = performance.now();
      strike();
    },
  });
  return { ...outcomes, directory, signalledAt };
}

describe.concurrent('a party that dies or falls silent', () => {
  const roles = ['client', 'server', 'dealer'] as const;
  const cases = roles.flatMap((role) => (['setup', 'offline', 'online'] as const).map((moment) => [role, moment] as const));

  it.each(cases)(
    'as the %s killed in the %s phase is named by the others, and no bundle can be used again',
    async (victim, moment) => {
      const { directory, stored, ...outcomes } = await signalled(victim, moment, 'SIGKILL', 8000);
      // The dealer has left before the run, and may have said all it had to before that: whoever kills it then changes nothing.
      const unharmed = outcomes.client.error === undefined && outcomes.server.error === undefined;
      const finished = victim === 'dealer' && (moment === 'online' || (moment === 'offline' && unharmed));
      for (const role of ['client', 'server'] as const) {
        if (finished) expect(outcomes[role].error).toBeUndefined();
        else if (role !== victim) expectNamed(outcomes[role], victim);
        for (const { id, state } of stored[role]) {
          if (role !== victim) expect(state).toBe('burned');
          else expect(['claimed', 'burned', 'incomplete']).toContain(state);
          // After a restart, too.
          const store = await openBundleStore(join(directory, role), role);
          const claim = store.claim(id, { program: '0'.repeat(64), copy: '0'.repeat(64), ring });
          const reason = expect.stringMatching(/was claimed already|is not in the store/);
          await expect(claim).rejects.toMatchObject({ kind: 'material', reason });
        }
      }
      // The dealer may have said all it had to before the other one died.
      if (victim !== 'dealer' && outcomes.dealer.error !== undefined) expectNamed(outcomes.dealer, victim);
      if (moment === 'online') expect(stored.client.length + stored.server.length).toBe(2);
    },
    60_000,
  );

  it.each([
    ['dealer', 'setup'],
    ['server', 'online'],
    ['client', 'online'],
  ] as const)('as the %s stopped in the %s phase is given up after the timeout', async (victim, moment) => {
    const milliseconds = 4000;
    const outcomes = await signalled(victim, moment, 'SIGSTOP', milliseconds);
    const others = (['client', 'server'] as const).filter((role) => role !== victim);
    for (const role of others) {
      expect(outcomes[role].error).toMatchObject({ kind: 'peer' });
      expect(outcomes[role].at - outcomes.signalledAt).toBeLessThan(milliseconds + 3500);
      for (const { state } of outcomes.stored[role]) expect(state).toBe('burned');
    }
    expect(others.map((role) => outcomes[role].error!.reason).join()).toContain(`the ${victim} is silent`);
  });
});

describe('a party whose launcher is gone', () => {
  it('ends, and leaves no material behind', async () => {
    const { stored, client } = await signalled('server', 'online', 'orphan', 8000);
    expectNamed(client, 'server');
    expect(stored.server).toEqual([]);
  });
});

/** A server with its dealer, and whoever the test plays. */
async function serverFor(play: (address: string) => Promise<void>, timeoutMilliseconds = 3000) {
  const directory = freshDirectory();
  mkdirSync(directory, { mode: 0o700 });
  const listening = <T>(start: (onListening: (address: string) => void) => Promise<T>) =>
    new Promise<{ address: string; end: Promise<unknown> }>((resolve) => {
      const end: Promise<unknown> = start((address) => resolve({ address, end })).catch((error: unknown) => error);
    });
  const common = { timeoutMilliseconds };
  const dealer = await listening((onListening) => runDealer({ ...common, listen: `unix:${directory}/d`, onListening }));
  const state = join(directory, 'state');
  const nobodyElse = new AbortController();
  const server = await listening((onListening) =>
    runServer({
      ...{ ...common, model, listen: `unix:${directory}/s`, dealer: dealer.address, state, onListening },
      nobodyElse: nobodyElse.signal,
    }),
  );
  await play(server.address);
  nobodyElse.abort();
  const [error, dealerError] = await Promise.all([server.end, dealer.end]);
  expect(dealerError).toMatchObject({ name: 'SottoError', kind: 'peer' });
  return error;
}

async function asClient(address: string, talk: (channel: Channel) => Promise<void>): Promise<void> {
  const channel = await connect({ address, peer: 'server', timeoutMilliseconds: 3000 });
  try {
    await talk(channel);
  } finally {
    await channel.close();
  }
}
const hello = { type: 'hello', version: protocolVersion, role: 'client' } as const;

describe.concurrent('a server that a stranger talks to', () => {
  const blamed = (reason: RegExp) => ({
    name: 'SottoError',
    kind: 'peer',
    place: { party: 'client' },
    reason: expect.stringMatching(reason),
  });

  it('refuses another version, another role, and says so', async () => {
    for (const [message, reason] of [
      [{ ...hello, version: 'sotto/3' }, /speaks sotto\/3, this party sotto\/\d/],
      [{ ...hello, role: 'dealer' }, /is a dealer/],
    ] as const) {
      const error = await serverFor((address) =>
        asClient(address, async (channel) => {
          await sendControl(channel, message);
          await receiveControl(channel, 'hello');
          await expect(receiveControl(channel, 'manifest')).rejects.toThrow(/refused: /);
        }),
      );
      expect(error).toMatchObject(blamed(reason));
    }
  });

  it('refuses bytes that are no frame, frames over the bound and hellos over theirs', async () => {
    const raw = (bytes: Uint8Array) => (address: string) =>
      new Promise<void>((resolve) => {
        const socket = createConnection(address.slice(5), () => socket.write(bytes));
        socket.on('error', () => {}).on('close', () => resolve());
        socket.resume();
      });
    expect(await serverFor(raw(new TextEncoder().encode('GET / HTTP/1.1\r\n\r\n')))).toMatchObject(
      blamed(/starts with byte 0x47/),
    );
    const huge = new Uint8Array(frameHeaderBytes);
    huge.set([0x51, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    expect(await serverFor(raw(huge))).toMatchObject(blamed(/announces 4294967295 bytes/));
    const long = (address: string) =>
      asClient(address, async (channel) => {
        await channel.send(controlFrame, new TextEncoder().encode(JSON.stringify({ ...hello, more: 'x'.repeat(5000) })));
        // The header alone is refused: nothing is read behind it.
        await channel.receive().catch(() => undefined);
      });
    expect(await serverFor(long)).toMatchObject(blamed(/announces 50\d\d bytes, more than the 4096 that this channel takes/));
  });

  it('refuses a stranger that says nothing, after the timeout', async () => {
    const started = performance.now();
    const error = await serverFor((address) => asClient(address, async (channel) => void (await channel.receive())), 700);
    expect(error).toMatchObject(blamed(/silent|closed/));
    expect(performance.now() - started).toBeLessThan(5000);
  });

  it('refuses the hash of another ring, a ring that cannot be, and a text longer than the context', async () => {
    const asking = (asked: object, traced: object) => (address: string) =>
      asClient(address, async (channel) => {
        await sendControl(channel, hello);
        await receiveControl(channel, 'hello');
        const { config } = await receiveControl(channel, 'manifest');
        const request = { task: 'generate', promptTokens: 3, newTokens: 1, ring } as const;
        const program = traceRun(config, { ...request, ...traced }).hash;
        await sendControl(channel, { type: 'request', run: { ...request, ...asked }, program, nonce: '0'.repeat(32) });
        // The reason of an error that is not about the client stays at home.
        await expect(receiveControl(channel, 'session')).rejects.toThrow(
          /refused: (it met an error of its own|the programs of the two sides differ)/,
        );
      });
    expect(await serverFor(asking({ ring: { bits: 48, fraction: 14 } }, {}))).toMatchObject(blamed(/runs the program/));
    expect(await serverFor(asking({ ring: { bits: 16, fraction: 15 } }, {}))).toMatchObject({ name: 'SottoError' });
    expect(await serverFor(asking({ newTokens: 63 }, {}))).toMatchObject({ name: 'SottoError', kind: 'input' });
  });
});

describe.concurrent('a client that leaves the protocol', () => {
  const json = (payload: Uint8Array) => JSON.parse(new TextDecoder().decode(payload));
  const encode = (message: object) => new TextEncoder().encode(JSON.stringify(message));

  it.each([
    ['before the run', ({ kind, payload }: Crossing) => kind === controlFrame && json(payload).type === 'claimed', 1],
    ['before the first token', ({ kind }: Crossing) => kind === 1, 1],
    ['with a wrong count', ({ kind, frame }: Crossing) => kind === 1 && frame > 60, 2],
  ] as const)('by stopping %s ends with an error at the server, which burns its bundle', async (_, place, tokens) => {
    let done = false;
    const { server, stored } = await run({
      onFrame: (crossing) => {
        if (done || crossing.from !== 'client' || crossing.to !== 'server' || !place(crossing)) return undefined;
        done = true;
        return { kind: controlFrame, payload: encode({ type: 'stop', tokens }) };
      },
    });
    expect(done).toBe(true);
    expect(server.error).toMatchObject({ name: 'SottoError', kind: 'peer', place: { party: 'client' } });
    for (const { state } of [...stored.client, ...stored.server]) expect(state).toBe('burned');
  });

  it('does not get a bundle twice, whoever replays it', async () => {
    const directory = freshDirectory();
    let first = '';
    let fresh = '';
    const once = await run({
      directory,
      onFrame: ({ from, kind, payload }) => {
        if (from === 'dealer' && kind === controlFrame && json(payload).type === 'agreed') first = json(payload).bundle;
      },
    });
    expect([once.client.error, once.server.error, once.dealer.error]).toEqual([undefined, undefined, undefined]);
    // The second time the dealer names the first bundle again, and hears what it expects.
    const again = await run({
      directory,
      onFrame: ({ from, to, kind, payload }) => {
        if (kind !== controlFrame) return undefined;
        const message = json(payload);
        if (from === 'dealer' && message.type === 'agreed') {
          fresh = message.bundle;
          return { kind, payload: encode({ ...message, bundle: first }) };
        }
        return to === 'dealer' && message.type === 'join' ? { kind, payload: encode({ ...message, bundle: fresh }) } : undefined;
      },
    });
    const refused = { kind: 'material', reason: expect.stringContaining('known already') };
    expect(again.server.error).toMatchObject(refused);
    expect(again.client.error).toMatchObject(refused);
    expect(again.stored).toEqual({ client: [{ id: first, state: 'burned' }], server: [{ id: first, state: 'burned' }] });
  });
});
