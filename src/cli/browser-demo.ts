import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { SottoError } from '../errors/index.ts';
import { writesText } from '../models/families/index.ts';
import { temporaryFolder } from '../node/temporary.ts';
import { manifestHash } from '../party/index.ts';
import { openServed } from '../party/model.ts';
import { servePage } from './page.ts';
import { painter, type Terminal } from './terminal.ts';

export interface BrowserDemoOptions {
  readonly model: string;
  readonly port: number;
}

/**
 * A dealer and a server that stand as processes of their own, and a page that a browser of this machine opens as the client; until it is
 * interrupted. This process sees neither prompt nor text.
 */
export async function browserDemo({ model, port }: BrowserDemoOptions, terminal: Terminal): Promise<void> {
  const paint = painter(terminal);
  const parties: Standing[] = [];
  const state = await temporaryFolder('demo');
  state.beforeSignal(() => {
    for (const party of parties) party.stop();
  });
  const places: { server?: string; dealer?: string; manifestHash?: string; task?: string } = {};
  const page = await servePage(terminal.packageFolder, port, () => places).catch(async (error: unknown) => {
    await state.remove();
    throw error;
  });
  const stopped = interruption(terminal);
  try {
    const start = async (role: string, words: readonly string[]): Promise<string> => {
      const party = startStanding(role, [...words, '--state', join(state.path, role), '--origin', page.origin], terminal);
      parties.push(party);
      return await Promise.race([party.address, stopped.then(() => Promise.reject(new Interrupted()))]);
    };
    places.dealer = await start('dealer', ['dealer', '--listen', 'ws:127.0.0.1:0']);
    const { manifest, config } = await openServed(model);
    places.manifestHash = manifestHash(manifest);
    places.task = writesText(config) ? 'generate' : 'classify';
    // Everybody here is of this machine, and the page draws from logits.
    const reached = ['--reveal', 'both', '--listen', 'ws:127.0.0.1:0'];
    places.server = await start('server', ['serve', '--model', model, ...reached, '--dealer', places.dealer]);
    terminal.styled(
      `${paint('bold', page.origin)}  open this in a browser: the page is the client\n` +
        `  ${paint('magenta', 'server')}  ${places.server}\n  ${paint('yellow', 'dealer')}  ${places.dealer}\n` +
        `${paint('dim', '  all on this machine, over plain WebSockets; Ctrl-C ends it')}\n`,
    );
    await Promise.race([stopped, ...parties.map((party) => party.failed)]);
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
  } finally {
    page.close();
    await Promise.all(parties.map((party) => party.end()));
    await state.remove();
  }
}

class Interrupted extends Error {}

/** Resolves when the user, or whoever started this process, wants it to end. */
function interruption(terminal: Terminal): Promise<void> {
  return new Promise((resolve) => {
    terminal.onInterrupt(resolve);
    process.once('SIGTERM', resolve);
  });
}

interface Standing {
  /** Where it waits, once it does. */
  readonly address: Promise<string>;
  /** Rejects when it ends by itself. */
  readonly failed: Promise<never>;
  end(): Promise<void>;
  /** At once, and without waiting. */
  stop(): void;
}

/** How long a party may take to end before it is ended. */
const graceMilliseconds = 3000;

function startStanding(role: string, words: readonly string[], terminal: Terminal): Standing {
  const command = [join(terminal.packageFolder, 'bin/sotto.js'), ...words, '--log', 'json', '--drain', '0'];
  const child = spawn(process.execPath, command, { stdio: ['ignore', 'ignore', 'pipe'] });
  let ending = false;
  const gone = new Promise<void>((resolve) => child.once('close', () => resolve()));
  let last = '';
  const failed = gone.then((): never | Promise<never> => {
    if (ending) return new Promise<never>(() => {});
    const remedy = `see what it says: sotto ${words[0]} --help`;
    throw new SottoError('peer', `the ${role} ended${last === '' ? '' : `: ${last}`}`, { place: { party: role }, remedy });
  });
  failed.catch(() => undefined);
  const listening = new Promise<string>((resolve) => {
    eachLine(child, (line) => {
      const entry = parseEntry(line);
      if (entry?.event === 'listening' && entry.address !== undefined) resolve(entry.address);
      else last = lastWords(line) ?? last;
    });
  });
  return {
    address: Promise.race([listening, failed]),
    failed,
    stop: () => void child.kill('SIGKILL'),
    async end() {
      ending = true;
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), graceMilliseconds);
      await gone;
      clearTimeout(timer);
    },
  };
}

function eachLine(child: ChildProcess, take: (line: string) => void): void {
  let rest = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop()!;
    for (const line of lines) take(line);
  });
}

/**
 * What a line of a party's log tells of the party's own end, if anything: nothing where it is about a session, a connection or a link, which ended
 * alone, and whose error is shown where it belongs, by the client.
 */
export function lastWords(line: string): string | undefined {
  const entry = parseEntry(line);
  if (entry === undefined) return line.trim() === '' ? undefined : line.slice(0, 300);
  if (entry.level !== 'error' || entry.session !== undefined) return undefined;
  return (entry.reason ?? entry.event)?.slice(0, 300);
}

interface Entry {
  readonly event?: string;
  readonly level?: string;
  readonly session?: string;
  readonly address?: string;
  readonly reason?: string;
}

function parseEntry(line: string): Entry | undefined {
  try {
    return (JSON.parse(line) as Entry | null) ?? undefined;
  } catch {
    return undefined;
  }
}
