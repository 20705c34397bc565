import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from './checkpoints.ts';
import { root, sotto, sottoJson } from './command.ts';

const folder = await temporaryFolder();
const shipped = join(root, 'artefacts/stories-polynomial');
const length = ['--max-new-tokens', '3'];

describe('sotto demo', () => {
  it('writes the text privately and beside it in the clear, with the ledger and what each party saw', async () => {
    const { stdout, code } = await sotto(['demo', ...length]);
    expect(code).toBe(0);
    expect(stdout).not.toContain('\u001b');
    expect(stdout).toContain('One day, a dog named Max');
    expect(stdout).toContain('the same tokens');
    expect(stdout).toContain('equal to the byte in every phase');
    expect(stdout).toMatch(/layers\.3 .*kB/);
    expect(stdout).toContain('no message of the run');
    for (const line of stdout.split('\n')) if (!line.startsWith('forecast')) expect(line.length).toBeLessThanOrEqual(100);
  });

  it('reports as one JSON object', async () => {
    const { ids, clear, setup, offline, online, forecast } = await sottoJson<
      Record<string, unknown> & { ids: number[]; clear: { ids: number[] }[] }
    >(['demo', '--transport', 'tcp', ...length]);
    expect(clear[0]!.ids).toEqual(ids);
    expect({ setup, offline, online }).toEqual(forecast);
  });
});

describe('sotto party', () => {
  it('runs client, server and dealer that were started one by one', async () => {
    const address = (name: string): string => `unix:${join(folder, `sockets/${name}`)}`;
    const state = (name: string): string[] => ['--state', join(folder, name)];
    const dealer = sottoJson<{ role: string; scopes: unknown[] }>(['party', 'dealer', '--listen', address('dealer')]);
    const server = sottoJson<{ role: string; sentBytes: { online: number } }>([
      ...['party', 'server', '--listen', address('server'), '--dealer', address('dealer'), '--model', shipped],
      ...state('server'),
    ]);
    const client = await sottoJson<{
      text: string;
      ids: number[];
      forecast: { online: { clientToServerBytes: number; serverToClientBytes: number } };
      sentBytes: { online: number };
    }>([
      ...['party', 'client', '--server', address('server'), '--dealer', address('dealer'), '--prompt', 'Once upon'],
      ...[...length, ...state('client')],
    ]);
    expect(client.text).toMatch(/^Once upon a/);
    const { clientToServerBytes, serverToClientBytes } = client.forecast.online;
    expect(client.sentBytes.online).toBe(clientToServerBytes);
    expect((await server).sentBytes.online).toBe(serverToClientBytes);
    expect((await dealer).scopes).toEqual([]);
  });

  it('gives up on a server that is not there, naming it, with exit code 6', async () => {
    const nobody = `unix:${join(folder, 'sockets/nobody')}`;
    const words = ['party', 'client', '--server', nobody, '--dealer', nobody, '--prompt', 'a', '--timeout', '0.3'];
    const ended = await sotto([...words, '--state', join(folder, 'alone')]);
    expect(ended.code).toBe(6);
    expect(ended.stderr).toMatch(/^sotto: party server/);
  });
});
