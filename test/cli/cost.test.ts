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
  seconds: { setup: number; offline: number; online: OnlineSeconds; firstRun: object };
  networkSeconds: { setup: number; offline: number; online: number };
}
interface OnlineSeconds {
  seconds: number;
  networkSeconds: number;
  clientComputeSeconds: number;
  serverComputeSeconds: number;
}

const folder = await temporaryFolder();
const bert = ['cost', '--shape', 'bert-base', '--prompt-tokens', '128', '--no-range-flags'];

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

  it('turns bytes, hops and work into seconds of a network and a machine', async () => {
    const network = { name: 'home', bitsPerSecond: 1e8, roundTripSeconds: 0.03 };
    const file = join(folder, 'home.json');
    await writeFile(file, JSON.stringify(network));
    const { total, seconds, networkSeconds } = await sottoJson<Cost>([...bert, '--network', file]);
    const { clientToServerBytes, serverToClientBytes, hops } = total.online;
    const alone = (8 * (clientToServerBytes + serverToClientBytes)) / 1e8 + hops * 0.015;
    expect(networkSeconds.online).toBeCloseTo(alone, 9);
    const { online } = seconds;
    // Handling frames comes on top of the network; the parties compute one after the other, and a little beside one another.
    expect(online.networkSeconds).toBeGreaterThan(alone * 0.95);
    expect(online.networkSeconds).toBeLessThan(alone * 1.1);
    expect(online.seconds).toBeGreaterThan(online.networkSeconds);
    expect(online.seconds).toBeLessThanOrEqual(
      online.networkSeconds + online.clientComputeSeconds + online.serverComputeSeconds + 1e-9,
    );
    expect(seconds.offline).toBeGreaterThan(networkSeconds.offline / 3);
  });

  it('knows networks by name and by bandwidth and round trip, and slower ones take longer', async () => {
    const times: number[][] = [];
    for (const network of ['lan-10g', '100mbit:300us', 'wan']) {
      const { code, stdout } = await sottoHere([
        'cost',
        '--shape',
        'gpt2',
        '--prompt-tokens',
        '8',
        '--network',
        network,
        '--json',
      ]);
      expect(code).toBe(0);
      const { seconds } = JSON.parse(stdout) as Cost;
      times.push([seconds.setup, seconds.offline, seconds.online.seconds]);
    }
    for (const phase of [0, 1, 2])
      for (let at = 1; at < times.length; at++) expect(times[at]![phase]).toBeGreaterThanOrEqual(times[at - 1]![phase]!);
  });

  it('refuses a machine whose numbers are none, with the field', async () => {
    const file = join(folder, 'machine.json');
    await writeFile(file, JSON.stringify({ name: 'm', frame: { seconds: -1, byteSeconds: 0 }, rings: {} }));
    const ended = await sottoHere([
      'cost',
      '--shape',
      'bert-base',
      '--prompt-tokens',
      '8',
      '--network',
      'lan',
      '--machine',
      file,
    ]);
    expect(ended.code).toBe(3);
    expect(ended.stderr).toMatch(/frame\.seconds/);
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
    expect(stdout).toMatch(/On wan: 100 Mbit\/s, 40 ms round trip/);
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
    const plain = [...length, '--no-range-flags'];
    const [polynomial, exactly] = await Promise.all(
      [own, exact].map((model) => sottoJson<Cost>(['cost', '--model', model, ...plain])),
    );
    expect(exactly!.total.offline.dealerSentBytes).toBeGreaterThan(2 * polynomial!.total.offline.dealerSentBytes);
    // What range flags cost is counted unless it is not wanted.
    expect(first.total.offline.dealerSentBytes).toBeGreaterThan(polynomial!.total.offline.dealerSentBytes);
  });

  it.each([
    { words: ['--prompt-tokens', '4'], code: 2, says: /neither --model nor --shape/ },
    { words: ['--prompt-tokens', '4', '--shape', 'gpt9'], code: 2, says: /bert-base, vit-base, gpt2, llama2-7b/ },
    { words: ['--prompt-tokens', '4', '--shape', 'gpt2', '--plan', 'full-p3'], code: 4, says: /there is no plan "full-p3"/ },
    { words: ['--prompt-tokens', '5000', '--shape', 'gpt2'], code: 2, says: /1 to 1024/ },
    { words: ['--prompt-tokens', '4', '--new-tokens', '2', '--shape', 'bert-base'], code: 2, says: /encoder/ },
    { words: ['--prompt-tokens', '4', '--shape', 'gpt2', '--network', 'moon'], code: 3, says: /moon/ },
    { words: ['--prompt-tokens', '0', '--shape', 'gpt2'], code: 2, says: /whole number/ },
    { words: ['--shape', 'gpt2'], code: 2, says: /--prompt-tokens/ },
  ])('refuses $words', async ({ words, code, says }) => {
    const ended = await sottoHere(['cost', ...words]);
    expect(ended.code).toBe(code);
    expect(ended.stderr).toMatch(says);
    expect(ended.stdout).toBe('');
  });
});
