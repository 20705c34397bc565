import { randomFillSync } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { forecast, perLayer } from '../src/backends/cost/index.ts';
import { quantise, type RingProgram } from '../src/backends/ring/index.ts';
import { parsePlan, parseShape, serverInputs, traceShape } from '../src/models/index.ts';
import { openSafetensors, readTensor } from '../src/models/safetensors.ts';
import { folderFiles } from '../src/node/files.ts';
import { type Program, size, type Tensor } from '../src/program/index.ts';
import { errorOf, party } from './layer.ts';
import { type LayerCase, traceLayer } from './layer-case.ts';
import type { LayerResult } from './layer-party.ts';

const wide = { bits: 64, fraction: 16 };
const narrow = { bits: 32, fraction: 10 };
const sevenBillion = { shape: 'llama2-7b', plan: 'full-p2', tokens: 128, runs: 1 };
const cases: LayerCase[] = [
  {
    name: 'bert-base, twelve layers, p = 2, 32 bits',
    shape: 'bert-base',
    plan: 'full-p2',
    tokens: 128,
    runs: 1,
    layers: 12,
    ring: narrow,
  },
  { name: 'gpt2 layer, p = 2, 64 bits', shape: 'gpt2', plan: 'full-p2', tokens: 128, runs: 1, ring: wide },
  { name: 'gpt2 layer, p = 2, 32 bits', shape: 'gpt2', plan: 'full-p2', tokens: 128, runs: 1, ring: narrow },
  { name: 'llama2-7b layer, p = 2, 64 bits', ...sevenBillion, ring: wide },
  { name: 'llama2-7b layer, p = 2, 32 bits', ...sevenBillion, ring: narrow },
  { name: 'llama2-7b, two layers, p = 2, 32 bits', ...sevenBillion, layers: 2, ring: narrow },
  { name: 'llama2-7b, four layers, p = 2, 32 bits', ...sevenBillion, layers: 4, ring: narrow },
];

/**
 * Layers with the dimensions of GPT-2 and Llama 2 7B, and twelve of BERT-base, between three processes. Weights are random, in a float16 file that the server reads a tensor of
 * when it comes to it; the dealer keeps masked weights in files. And what decoding sends a token. `--only TEXT`: cases whose names have it.
 */
export async function large(options: readonly string[] = []): Promise<object> {
  const rows: object[] = [];
  const asked = options.includes('--only') ? options[options.indexOf('--only') + 1]! : '';
  for (const one of cases.filter(({ name }) => name.includes(asked))) {
    const row = await runCase(one);
    console.log(JSON.stringify(row));
    rows.push(row);
  }
  return { layers: rows, decoding: decoding(), loadAverage: loadavg()[0] };
}

async function runCase(one: LayerCase): Promise<object> {
  const directory = mkdtempSync(join(tmpdir(), 'sotto-large-'));
  try {
    const weightsFile = join(directory, 'model.safetensors');
    const { program, ringProgram } = traceLayer(one);
    writeRandom(weightsFile, program);
    const roles = ['dealer', 'server', 'client'] as const;
    const results = await Promise.all(roles.map((role) => party({ role, directory, layer: { ...one, weightsFile } })));
    const [dealer, server, client] = results as [LayerResult, LayerResult, LayerResult];
    const expected = forecast(ringProgram).total;
    const output = client.output!;
    const error = one.layers === undefined ? { error: await errorOf(one, output, await readAll(weightsFile)) } : {};
    const gigabytes = (bytes: number): number => Math.round(bytes / 1e7) / 100;
    return {
      name: one.name,
      weights: [...serverInputs(program).values()].reduce((sum, shape) => sum + size(shape), 0),
      weightsFileGigabytes: gigabytes(statSync(weightsFile).size),
      layersMegabytes: layersBytes(ringProgram) / 1e6,
      onlineMegabytes: (client.sentBytes.online + server.sentBytes.online) / 1e6,
      equalsForecast:
        client.sentBytes.online === expected.online.clientToServerBytes &&
        server.sentBytes.online === expected.online.serverToClientBytes,
      hops: client.hops,
      seconds: {
        setup: server.setupSeconds,
        offline: server.offlineSeconds[0],
        online: Math.max(client.onlineSeconds[0]!, server.onlineSeconds[0]!),
        clientComputesOnline: client.computeSeconds[0],
        serverComputesOnline: server.computeSeconds[0],
      },
      offlineMegabytes: { dealer: dealer.sentBytes.offline / 1e6, client: client.sentBytes.offline / 1e6 },
      peakResidentGigabytes: {
        client: gigabytes(client.peakResidentBytes),
        server: gigabytes(server.peakResidentBytes),
        dealer: gigabytes(dealer.peakResidentBytes),
      },
      peakKernelGigabytes: {
        client: gigabytes(client.peakKernelBytes),
        server: gigabytes(server.peakKernelBytes),
        dealer: gigabytes(dealer.peakKernelBytes),
      },
      ...error,
      outputRootMeanSquare: Math.sqrt(output.reduce((sum, value) => sum + value * value, 0) / output.length),
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What the layers send, without sharing the input and opening the output. */
const layersBytes = (program: RingProgram): number =>
  perLayer(program).reduce(
    (sum, { scope, online }) =>
      scope.startsWith('layers.') ? sum + online.clientToServerBytes + online.serverToClientBytes : sum,
    0,
  );

/** All tensors of a file, for the float reference. */
async function readAll(path: string): Promise<Map<string, Tensor>> {
  const files = folderFiles(dirname(path));
  const { tensors } = await openSafetensors(files, basename(path));
  const read = new Map<string, Tensor>();
  for (const [name, entry] of tensors) read.set(name, { shape: entry.shape, values: await readTensor(files, entry) });
  return read;
}

const chunkBytes = 2 ** 24;
/** Half-precision numbers of either sign with magnitudes in [2^−7, 2^−6), a spread of 0.75 / √4096; a quarter of it for queries and keys. */
const exponentBits = (name: string): number => (15 - (name.includes('qkv') ? 9 : 7)) << 10;

/** Random float16 tensors under the names and shapes of the program's weights, written a chunk at a time. */
function writeRandom(path: string, program: Program): void {
  let end = 0;
  const header: Record<string, object> = {};
  for (const [name, shape] of serverInputs(program)) {
    const start = end;
    end += 2 * size(shape);
    header[name] = { dtype: 'F16', shape, data_offsets: [start, end] };
  }
  const text = Buffer.from(JSON.stringify(header).padEnd(Math.ceil(JSON.stringify(header).length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const file = openSync(path, 'w', 0o600);
  writeSync(file, length);
  writeSync(file, text);
  const chunk = new Uint16Array(chunkBytes / 2);
  for (const [name, shape] of serverInputs(program))
    for (let left = 2 * size(shape); left > 0; left -= chunkBytes) {
      randomFillSync(chunk);
      const bits = exponentBits(name);
      for (let at = 0; at < chunk.length; at++) chunk[at] = (chunk[at]! & 0x83ff) | bits;
      writeSync(file, new Uint8Array(chunk.buffer, 0, Math.min(left, chunkBytes)));
    }
  closeSync(file);
}

/** Bytes both ways that one more token costs behind `past` others, by part of the model: from the program, which every run equals. */
function decoding(): object[] {
  const past = 127;
  return ['gpt2', 'llama2-7b'].flatMap((name) =>
    [wide, narrow].map((ring) => {
      const shape = parseShape(JSON.parse(readFileSync(new URL(`../shapes/${name}.json`, import.meta.url), 'utf8')));
      // A layer costs what every other costs: one is traced, and counted as often as there are.
      const one = { ...shape, numHiddenLayers: 1 };
      const bytesOf = (newTokens: number): Map<string, number> => {
        const program = quantise(traceShape(one, parsePlan('full-p2', one), { promptTokens: past, newTokens }), ring);
        return new Map(
          perLayer(program).map(({ scope, online }) => [scope, online.clientToServerBytes + online.serverToClientBytes]),
        );
      };
      const [without, withOne] = [bytesOf(1), bytesOf(2)];
      const parts = Object.fromEntries([...withOne].map(([scope, bytes]) => [scope, bytes - (without.get(scope) ?? 0)]));
      const { 'layers.0': layer = 0, ...others } = parts;
      const rest = Object.values(others).reduce((sum, bytes) => sum + bytes, 0);
      return {
        name,
        bits: ring.bits,
        pastTokens: past,
        layerBytes: layer,
        ...Object.fromEntries(Object.entries(others).map(([scope, bytes]) => [`${scope}Bytes`, bytes])),
        wholeModelBytes: layer * shape.numHiddenLayers + rest,
      };
    }),
  );
}
