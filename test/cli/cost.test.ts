import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder, writeTiny } from './checkpoints.ts';
import { sotto, sottoHere, sottoJson } from './command.ts';

interface Sent {
  clientSentBytes: number;
  serverSentBytes: number;
  dealerSentBytes: number;
}
interface Costs {
  setup: Sent;
  offline: Sent;
  online: { clientToServerBytes: number; serverToClientBytes: number; hops: number };
}
interface Cost {
  perLayer: (Costs & { scope: string })[];
  total: Costs;
  seconds: { setup: number; offline: number; online: number };
}

const folder = await temporaryFolder();
const bert = ['cost', '--shape', 'bert-base', '--prompt-tokens', '128'];

describe('sotto cost', () => {
  it.each([
    { plan: 'full-p2', megabytes: 23.5, hops: 42 },
    { plan: 'full-p8', megabytes: 30, hops: 46 },
  ])('keeps a layer of bert-base under $plan within $megabytes MB and $hops hops', async ({ plan, megabytes, hops }) => {
    const { perLayer } = await sottoJson<Cost>([...bert, '--plan', plan]);
    const layers = perLayer.filter(({ scope }) => scope.startsWith('layers.'));
    expect(layers).toHaveLength(12);
    for (const { online } of layers) {
      expect((online.clientToServerBytes + online.serverToClientBytes) / 1e6).toBeLessThanOrEqual(megabytes);
      expect(online.hops).toBeLessThanOrEqual(hops);
    }
  });

  it('counts in total what the layers send, and headers on top', async () => {
    const { perLayer, total } = await sottoJson<Cost>(bert);
    const sum = perLayer.reduce((all, { online }) => all + online.clientToServerBytes + online.serverToClientBytes, 0);
    const sent = total.online.clientToServerBytes + total.online.serverToClientBytes;
    expect(sent).toBeGreaterThan(sum);
    expect(sent - sum).toBeLessThan(total.online.hops * 64);
  });

  it('turns bytes and hops into seconds of a network, computing excluded', async () => {
    const network = { name: 'home', bitsPerSecond: 1e8, roundTripSeconds: 0.03 };
    const file = join(folder, 'home.json');
    await writeFile(file, JSON.stringify(network));
    const { total, seconds } = await sottoJson<Cost>([...bert, '--network', file]);
    const { clientToServerBytes, serverToClientBytes, hops } = total.online;
    expect(seconds.online).toBeCloseTo((8 * (clientToServerBytes + serverToClientBytes)) / 1e8 + hops * 0.015, 9);
    expect(seconds).toMatchObject({ computing: 'excluded' });
  });

  it('forecasts 7 billion parameters within seconds', async () => {
    const start = performance.now();
    const { perLayer } = await sottoJson<Cost>(['cost', '--shape', 'llama2-7b', '--plan', 'full-p4', '--prompt-tokens', '128']);
    expect(perLayer.filter(({ scope }) => scope.startsWith('layers.'))).toHaveLength(32);
    expect(performance.now() - start).toBeLessThan(10_000);
  });

  it('prints a table', async () => {
    const { stdout } = await sotto(['cost', '--shape', 'vit-base', '--prompt-tokens', '1', '--network', 'wan']);
    expect(stdout).toMatch(/^layers\.11 /m);
    expect(stdout).toMatch(/^total /m);
    expect(stdout).toMatch(/On wan .*computing excluded/);
  });

  it('forecasts a checkpoint under its own plan, and an exact one under a plan that is named', async () => {
    const own = await writeTiny(join(folder, 'own'));
    const exact = await writeTiny(join(folder, 'exact'), { plan: 'exact' });
    const length = ['--prompt-tokens', '4', '--new-tokens', '3'];
    const [first, second] = await Promise.all([
      sottoJson<Cost>(['cost', '--model', own, ...length]),
      sottoJson<Cost>(['cost', '--model', exact, ...length, '--plan', 'full-p2']),
    ]);
    expect(second.total).toEqual(first.total);
    const exactly = await sottoJson<Cost>(['cost', '--model', exact, ...length]);
    expect(exactly.total.offline.dealerSentBytes).toBeGreaterThan(2 * first.total.offline.dealerSentBytes);
  });

  it.each([
    { words: ['--prompt-tokens', '4'], code: 2, says: /neither --model nor --shape/ },
    { words: ['--prompt-tokens', '4', '--shape', 'gpt9'], code: 2, says: /bert-base, vit-base, gpt2, llama2-7b/ },
    { words: ['--prompt-tokens', '4', '--shape', 'gpt2', '--plan', 'full-p3'], code: 4, says: /there is no plan "full-p3"/ },
    { words: ['--prompt-tokens', '5000', '--shape', 'gpt2'], code: 2, says: /1 to 1024/ },
    { words: ['--prompt-tokens', '4', '--new-tokens', '2', '--shape', 'bert-base'], code: 2, says: /encoder/ },
    { words: ['--prompt-tokens', '4', '--shape', 'gpt2', '--network', 'moon'], code: 3, says: /moon/ },
    { words: ['--prompt-tokens', '0', '--shape', 'gpt2'], code: 2, says: /whole number/ },
  ])('refuses $words', async ({ words, code, says }) => {
    const ended = await sottoHere(['cost', ...words]);
    expect(ended.code).toBe(code);
    expect(ended.stderr).toMatch(says);
    expect(ended.stdout).toBe('');
  });
});
