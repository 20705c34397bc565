import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { encodePng } from '../../src/pictures/index.ts';
import { stories, temporaryFolder, writeTiny } from './checkpoints.ts';
import { sotto, sottoHere, sottoJson } from './command.ts';

const folder = await temporaryFolder();
const exact = await writeTiny(join(folder, 'exact'), { plan: 'exact' });
const corpus = join(folder, 'corpus.txt');
await writeFile(corpus, Array.from({ length: 60 }, (_, at) => stories[at % 2]).join('\n<|endoftext|>\n'));

describe('sotto inspect', () => {
  it('says what is public and what stays with the server', async () => {
    const model = await writeTiny(join(folder, 'inspected'));
    const found = await sottoJson<Record<string, unknown>>(['inspect', model, '--tensors']);
    expect(found).toMatchObject({ architecture: 'llama', polynomial: true, plan: { name: 'full-p2' } });
    expect(found).toMatchObject({ bytesByType: { F32: 4 * (found.parameters as number) } });
    expect(Object.keys((found.manifest as { files: object }).files)).toEqual(['tokenizer.json', 'tokenizer_config.json']);
    const tensors = found.tensors as { name: string; shape: number[] }[];
    expect(tensors.find(({ name }) => name === 'model.embed_tokens.weight')?.shape).toEqual([300, 16]);
    const { stdout } = await sottoHere(['inspect', model]);
    expect(stdout).toMatch(/layers\.1 +quadratic per channel +power 2/);
  });
});

describe('sotto classify', () => {
  it('names a picture alike on every backend, and privately', async () => {
    const model = await writeTiny(join(folder, 'vit'), { family: 'vit' });
    const image = join(folder, 'picture.png');
    const noise = Uint8Array.from({ length: 3 * 20 * 16 }, (_, at) => (at * 7919) % 256);
    await writeFile(image, await encodePng({ width: 20, height: 16, data: noise }));
    const words = ['classify', '--model', model, '--image', image, '--backend'];
    const [onnx, reference, fixed, mpc] = await Promise.all(
      ['onnx', 'reference', 'fixed', 'mpc'].map((backend) =>
        sottoJson<{ id: number; label: string; logits: number[] } & Record<string, unknown>>([...words, backend]),
      ),
    );
    const difference = (logits: readonly number[]): number =>
      Math.max(...logits.map((value, at) => Math.abs(value - reference!.logits[at]!)));
    expect(onnx!.label).toBe(reference!.label);
    expect(difference(onnx!.logits)).toBeLessThan(1e-4);
    expect(difference(fixed!.logits)).toBeLessThan(0.1);
    expect(difference(mpc!.logits)).toBeLessThan(0.1);
    const { setup, offline, online, forecast } = mpc!;
    expect({ setup, offline, online }).toEqual(forecast);
  });

  it('refuses a picture that is none', async () => {
    const model = await writeTiny(join(folder, 'vit2'), { family: 'vit' });
    const ended = await sottoHere(['classify', '--model', model, '--image', corpus]);
    expect(ended.code).toBe(3);
    expect(ended.stderr).toContain('corpus.txt');
    expect((await sottoHere(['classify', '--model', exact, '--image', corpus])).code).toBe(4);
    expect((await sottoHere(['generate', '--model', model, '--prompt', 'a'])).code).not.toBe(0);
  });
});

describe('sotto convert', () => {
  it('makes a polynomial checkpoint that runs in the ring, and never overwrites one', async () => {
    const out = join(folder, 'converted');
    const words = ['convert', '--model', exact, '--out', out, '--text', corpus, '--rows', '4', '--tokens', '16'];
    const made = await sottoJson<{ layers: unknown[]; plan: { ring: unknown } }>(words);
    expect(made.layers).toHaveLength(2);
    expect(made.plan.ring).toEqual({ bits: 64, fraction: 16 });
    const { text } = await sottoJson<{ text: string }>([
      'generate',
      '--model',
      out,
      '--prompt',
      'Once',
      '--backend',
      'fixed',
      '--max-new-tokens',
      '2',
    ]);
    expect(text).toMatch(/^Once/);
    const again = await sottoHere(words);
    expect(again.code).toBe(2);
    expect(again.stderr).toContain('already holds a checkpoint');
  });
});

describe('sotto convert on pictures', () => {
  it('makes a vision transformer polynomial, and asks for pictures where there are none', async () => {
    const model = await writeTiny(join(folder, 'vit3'), { family: 'vit', plan: 'exact' });
    const images = join(folder, 'pictures');
    await mkdir(images);
    for (const seed of [3, 5]) {
      const noise = Uint8Array.from({ length: 3 * 64 }, (_, at) => (at * 7919 * seed) % 256);
      await writeFile(join(images, `${seed}.png`), await encodePng({ width: 8, height: 8, data: noise }));
    }
    const out = join(folder, 'vit-converted');
    const words = ['convert', '--model', model, '--out', out];
    expect((await sottoHere(words)).stderr).toContain('calibrated on pictures');
    expect((await sottoHere([...words, '--images', images])).code).toBe(0);
    const image = join(images, '3.png');
    const [exactly, fixed] = await Promise.all([
      sottoJson<{ logits: number[] }>(['classify', '--model', out, '--image', image]),
      sottoJson<{ logits: number[] }>(['classify', '--model', out, '--image', image, '--backend', 'fixed']),
    ]);
    fixed.logits.forEach((value, at) => {
      expect(Math.abs(value - exactly.logits[at]!)).toBeLessThan(0.05);
    });
  });
});

describe('sotto train', () => {
  const recipe = {
    kind: 'pretrain',
    name: 'tiny',
    seed: 1,
    data: { text: ['corpus.txt'] },
    tokenizer: { vocabularySize: 280 },
    model: { hiddenSize: 16, intermediateSize: 16, layers: 1, heads: 2, keyValueHeads: 1 },
    context: 16,
    batch: 2,
    steps: 3,
    optimiser: { kind: 'adamw', rate: 0.01 },
    evaluateRows: 2,
  };

  it('runs a recipe to a checkpoint that writes, with progress on stderr where it is asked for', async () => {
    const file = join(folder, 'tiny.json');
    await writeFile(file, JSON.stringify(recipe));
    const directory = join(folder, 'run');
    const ended = await sotto(['train', file, '--data', folder, '--directory', directory, '--json', '--progress']);
    expect(JSON.parse(ended.stdout)).toMatchObject({ finished: true, step: 3, checkpoint: join(directory, 'checkpoint') });
    expect(ended.stderr).toMatch(/step 3 of 3, loss /);
    const made = await sottoJson<{ ids: number[] }>([
      'generate',
      '--model',
      join(directory, 'checkpoint'),
      '--prompt',
      'One',
      '--max-new-tokens',
      '2',
    ]);
    expect(made.ids.length).toBeGreaterThan(2);
  });

  it('names the field of a recipe that is wrong', async () => {
    const file = join(folder, 'wrong.json');
    await writeFile(file, JSON.stringify({ ...recipe, steps: 0 }));
    const ended = await sottoHere(['train', file]);
    expect(ended.code).toBe(3);
    expect(ended.stderr).toContain('field steps');
  });

  it('computes on the device it is told to, or names those that there are and makes no folder', async () => {
    const file = join(folder, 'tiny.json');
    await writeFile(file, JSON.stringify(recipe));
    const directory = join(folder, 'device');
    const ended = await sottoHere(['train', file, '--data', folder, '--directory', directory, '--device', 'cuda']);
    expect(existsSync(directory)).toBe(ended.code === 0);
    if (ended.code !== 0) expect(ended.stderr).toMatch(/cannot compute on cuda: .*choose from what there is: .*cpu/s);
    expect((await sottoHere(['train', file, '--device', 'abacus'])).code).toBe(2);
  });
});

describe('sotto pull', () => {
  const commit = 'b'.repeat(40);
  let authorization: string | undefined;
  const served = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors'];
  const server = createServer(async (request, response) => {
    authorization = request.headers.authorization;
    const path = request.url!.split('?')[0]!;
    if (path === '/api/models/someone/tiny/revision/main') {
      const siblings = await Promise.all(
        served.map(async (name) => {
          const bytes = await readFile(join(exact, name));
          return { rfilename: name, size: bytes.length, lfs: { sha256: createHash('sha256').update(bytes).digest('hex') } };
        }),
      );
      response.end(JSON.stringify({ sha: commit, siblings }));
      return;
    }
    const name = path.split('/').at(-1)!;
    if (path.startsWith(`/someone/tiny/resolve/${commit}/`) && served.includes(name))
      response.end(await readFile(join(exact, name)));
    else response.writeHead(404).end();
  });
  afterAll(() => server.close());
  const listening = new Promise<string>((resolve) =>
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)),
  );

  it('fetches a checkpoint from the endpoint of the environment, with its token', async () => {
    const env = { HF_ENDPOINT: await listening, HF_TOKEN: 'hf_secret' };
    const out = join(folder, 'pulled');
    const pulled = await sottoJson<{ commit: string }>(['pull', 'someone/tiny', '--out', out], { env });
    expect(pulled.commit).toBe(commit);
    expect((await readdir(out)).sort()).toEqual([...served].sort());
    expect(authorization).toBe('Bearer hf_secret');
  });

  it('takes the repository name as the folder, and shows progress where it is asked for', async () => {
    const { stdout, stderr, code } = await sotto(['pull', 'someone/tiny', '--progress', '--endpoint', await listening], {
      cwd: folder,
    });
    expect(code).toBe(0);
    expect(stdout).toContain(`someone/tiny at ${commit} → tiny`);
    expect(stderr).toMatch(/100 %.*kB/);
    expect(authorization).toBeUndefined();
  });

  it('refuses names that are none', async () => {
    expect((await sottoHere(['pull', 'tiny'])).code).toBe(2);
  });
});
