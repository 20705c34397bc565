import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Exchange, Held } from '../../src/backends/mpc/protocol.ts';
import { runClient, type Service } from '../../src/party/index.ts';
import { type Expected, expected, temporary, writeLlama } from '../party/models.ts';
import { type Crossing, line } from '../party/relay.ts';
import { type Honest, honest } from './place.ts';

/**
 * A server that lies in well-formed words: it shifts its share of what is revealed, so that the client opens what it wants, or what depends
 * on the prompt. Everything of the run goes through this process, which looks at sizes, kinds and order, and at every text.
 */
vi.setConfig({ testTimeout: 120_000 });
const { path: root, remove } = temporary();
const [model, ending] = [join(root, 'model'), join(root, 'ending')];
const ring = { bits: 64, fraction: 16 };
const newTokens = 4;
/** Two prompts of one length, as texts that are searched for. */
const prompts = { one: [277, 5, 278], two: [9, 279, 271] } as const;
let right: Expected;
beforeAll(async () => {
  for (const each of [model, ending]) mkdirSync(each);
  await writeLlama(model);
  right = await expected(model, { task: 'generate', newTokens, ring }, prompts.one);
  // Its text ends at once for one prompt, and not for the other.
  await writeLlama(ending, { eos_token_id: right.ids[0] });
});
afterAll(remove);

/** What the server adds to the words that it reveals; nothing where it is honest. Real code but for that. */
const lie = vi.hoisted(() => ({ shift: 0n }));
vi.mock('../../src/party/server-run.ts', async (original) => {
  const real = await original<typeof import('../../src/party/server-run.ts')>();
  type Run = ReturnType<typeof real.serverRun>['run'];
  const shifted = (bytes: Uint8Array): Uint8Array => {
    const words = new BigUint64Array(new Uint8Array(bytes).buffer);
    return new Uint8Array(words.map((word) => BigInt.asUintN(64, word + lie.shift)).buffer);
  };
  const lying = (run: Run): Run => ({
    ...run,
    observe: (protocol) => {
      const observed = run.observe!(protocol);
      return {
        ...observed,
        *reveal(node, x) {
          const step = observed.reveal(node, x) as Generator<Exchange, Held, Uint8Array>;
          let next = step.next();
          while (!next.done) {
            const answer: Uint8Array = yield 'send' in next.value ? { send: shifted(next.value.send) } : next.value;
            next = step.next(answer);
          }
          return next.value;
        },
      };
    },
  });
  return {
    ...real,
    serverRun: (...parameters: Parameters<typeof real.serverRun>) => {
      const made = real.serverRun(...parameters);
      return { ...made, run: lying(made.run) };
    },
  };
});

const standing: Honest[] = [];
afterEach(async () => {
  for (const each of standing.splice(0)) await each.end();
});

let places = 0;
interface Told {
  readonly outcome: { readonly newIds?: readonly number[]; readonly error?: { name: string; kind: string; message: string } };
  /** Sizes, kinds and order on each connection. */
  readonly transcript: string[];
  /** Everything that was said, and what the others wrote down. */
  readonly said: string;
}

/** One run through lines that look at every frame. */
async function told(
  folder: string,
  ids: readonly number[],
  {
    reveal = 'token',
    shift = 0n,
    setting = 'dealer',
    ...own
  }: {
    readonly reveal?: 'token' | 'logits';
    readonly shift?: bigint;
    readonly onToken?: (id: number) => void;
    readonly setting?: 'dealer' | 'helper';
    readonly earlyStop?: boolean;
  } = {},
): Promise<Told> {
  lie.shift = shift;
  const directory = join(root, `place${places++}`);
  mkdirSync(directory, { mode: 0o700 });
  const [s, d] = [`unix:${directory}/s`, `unix:${directory}/d`];
  const at = await honest(directory, folder, {
    dealer: { setting, listen: [d] },
    server: { setting, listen: [s], dealer: d },
  });
  standing.push(at);
  const transcript: string[] = [];
  const texts: string[] = [];
  const frames = new Map<string, string[]>();
  const onFrame = ({ from, to, connection, kind, payload }: Crossing): undefined => {
    const way = `${from} ${to} ${connection}`;
    frames.set(way, [...(frames.get(way) ?? []), `${kind}:${payload.length}`]);
    const text = kind === 0 ? new TextDecoder().decode(payload) : '';
    // The public files have every token's number.
    if (!text.startsWith('{"type":"manifest"')) texts.push(text);
  };
  const lines = [
    await line(`unix:${directory}/cs`, s, 'client', 'server', { onFrame }),
    await line(`unix:${directory}/cd`, d, 'client', setting, { onFrame }),
  ];
  const outcome = await runClient({
    rangeFlags: false,
    ...{ server: `unix:${directory}/cs`, dealer: `unix:${directory}/cd`, state: join(directory, 'client') },
    ...{ ring, setting, timeoutMilliseconds: 8000 },
    task: { kind: 'generate', prompt: { ids }, newTokens, reveal, ...own },
  }).then(
    ({ newIds }) => ({ newIds }),
    (error) => ({ error }),
  );
  await vi.waitFor(() => expect(at.lines.some(({ event }) => /^session-(ended|failed)$/.test(String(event)))).toBe(true), 8000);
  for (const each of lines) each.close();
  for (const way of [...frames.keys()].sort()) transcript.push(`${way} ${frames.get(way)!.join(' ')}`);
  const pages = await Promise.all([at.server, at.dealer].map(metricsOf));
  const logs = at.lines.map((entry) => JSON.stringify({ ...entry, time: undefined })).join('\n');
  const files = ['server', 'dealer'].map((role) => filesIn(join(directory, role))).join('\n');
  return { outcome, transcript, said: [...texts, ...pages, logs, files].join('\n') };
}

const metricsOf = async ({ metricsAddress }: Service): Promise<string> =>
  (await (await fetch(`http://${metricsAddress}/metrics`)).text()).replaceAll(
    /sotto_(resident|session_seconds|phase_seconds).*\n/g,
    '',
  );

function filesIn(folder: string): string {
  if (!existsSync(folder)) return '';
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.name} ${readFileSync(join(entry.parentPath, entry.name), 'latin1')}`)
    .join('\n');
}

describe.each(['dealer', 'helper'] as const)('in the %s setting a server that shifts what it reveals', (setting) => {
  it('opens what no token is, and hears nothing of it: the run goes to its end, and the client’s error says no value', async () => {
    const results = [
      await told(model, prompts.one, { setting, shift: -500n }),
      await told(model, prompts.two, { setting, shift: -500n }),
      await told(model, prompts.one, { setting, shift: 1n << 40n }),
      // An honest run is no different either.
      await told(model, prompts.one, { setting }),
    ];
    for (const { outcome } of results.slice(0, 3)) {
      expect(outcome.error).toMatchObject({ name: 'SottoError', kind: 'peer', place: { party: 'server' } });
      expect(outcome.error!.message).not.toMatch(/\d/);
    }
    expect(results[3]!.outcome.newIds).toEqual(right.ids);
    // The same frames, of the same sizes, in the same order on every connection.
    for (const { transcript, said } of results) {
      expect(transcript).toEqual(results[0]!.transcript);
      expect(said).not.toContain('"type":"refusal"');
      expect(said).not.toContain('session-failed');
    }
  });
});

describe('what a client opens', () => {
  it('ends nothing where the text ends, by end tokens that the server chose, unless its policy lets that show', async () => {
    const [ended, whole] = [await told(ending, prompts.one), await told(ending, prompts.two)];
    expect(ended.outcome.newIds).toEqual(right.ids.slice(0, 1));
    expect(whole.outcome.newIds!.length).toBeGreaterThan(1);
    expect(ended.transcript).toEqual(whole.transcript);
    const shown = await told(ending, prompts.one, { earlyStop: true });
    expect(shown.outcome.newIds).toEqual(right.ids.slice(0, 1));
    expect(shown.said).toContain('"type":"stop","tokens":1');
  });

  it('ends nothing where its own caller throws over it: that is an error after the run', async () => {
    const thrown = new Error('the terminal is gone');
    const onToken = (): never => {
      throw thrown;
    };
    const [broken, well] = [await told(model, prompts.one, { onToken }), await told(model, prompts.one)];
    expect(broken.outcome.error).toBe(thrown);
    expect(broken.transcript).toEqual(well.transcript);
  });

  it('is in no message, log, metric or file of the others, whole or in part', async () => {
    // Logits of 1,000 and more, or none at all: what a caller draws from them may be any token, or an error of its own.
    for (const options of [
      {},
      { shift: 3n },
      { reveal: 'logits' } as const,
      { reveal: 'logits', shift: 70_000n << 16n } as const,
    ]) {
      const { said, outcome } = await told(model, prompts.one, options);
      const opened = outcome.newIds ?? [];
      for (const secret of [prompts.one.join(','), opened.join(','), 'token -', 'at position'])
        if (secret.length > 4) expect(said, secret).not.toContain(secret);
      // Sessions have random names in hexadecimal; a token's number would stand between other signs.
      for (const id of [...prompts.one, ...opened].filter((id) => id > 99))
        expect(said).not.toMatch(new RegExp(`[^0-9a-f.]${id}[^0-9a-f.]`));
    }
  });
});
