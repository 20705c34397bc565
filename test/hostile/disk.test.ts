import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { aesPrg, hkdf } from '../../src/node/randomness.ts';
import { openChunk, sealChunk, sealedChunkBytes } from '../../src/node/sealed.ts';
import { freshBundleId, systemMinutes } from '../../src/party/bundle-id.ts';
import { openBundleStore } from '../../src/party/bundles.ts';
import { sendControl } from '../../src/party/control.ts';
import { runClient } from '../../src/party/index.ts';
import { clientKeptBytes, openRunStore } from '../../src/party/run-store.ts';
import { sessionOf } from '../../src/party/session.ts';
import { temporary, writeLlama } from '../party/models.ts';
import { type Crossing, forkRole, line, startRole } from '../party/relay.ts';
import { answerOf, as, fresh } from './peers.ts';
import { honest } from './place.ts';

/**
 * Who takes a party's disk, at any moment and however its process ended, and who has recorded every frame besides: reads no prompt by it.
 */
vi.setConfig({ testTimeout: 180_000 });
const { path: root, remove } = temporary();
const model = join(root, 'model');
const ring = { bits: 64, fraction: 16 };
beforeAll(async () => {
  mkdirSync(model);
  await writeLlama(model);
});
afterAll(remove);

/** Every byte of every file below a folder, one after the other. */
function everything(folder: string): Buffer {
  const entries = existsSync(folder) ? readdirSync(folder, { recursive: true, withFileTypes: true }) : [];
  return Buffer.concat(
    entries.filter((entry) => entry.isFile()).map((entry) => readFileSync(join(entry.parentPath, entry.name))),
  );
}

/** Whether 16 bytes in a row of the needle are in the hay, at any of 500 places of it. */
function anyOf(needle: Uint8Array, hay: Buffer): boolean {
  const step = Math.max(16, Math.floor(needle.length / 500));
  for (let at = 0; at + 16 <= needle.length; at += step) if (hay.includes(Buffer.from(needle.subarray(at, at + 16)))) return true;
  return false;
}

describe('a client that is killed', () => {
  const moments: readonly [string, (crossing: Crossing) => boolean][] = [
    ['before the dealer’s stream', ({ kind, from }) => kind === 2 && from === 'server'],
    ['in the dealer’s stream', ({ kind, from }) => kind === 3 && from === 'dealer'],
    ['when it sends its half', ({ kind, from, to }) => kind === 3 && from === 'client' && to === 'server'],
    ['when both have claimed', ({ kind, payload }) => kind === 0 && new TextDecoder().decode(payload).includes('"claimed"')],
    ['in the run', ({ kind, from, frame }) => kind === 1 && from === 'client' && frame > 12],
  ];
  it.each(moments)('%s leaves no seed and no pad on its disk', async (name, moment) => {
    for (const signal of name === 'in the run' ? (['SIGKILL', 'SIGTERM', 'SIGINT'] as const) : (['SIGKILL'] as const)) {
      const directory = join(root, fresh(4));
      mkdirSync(directory, { mode: 0o700 });
      const [s, d] = [`unix:${directory}/s`, `unix:${directory}/d`];
      const at = await honest(directory, model, { dealer: { listen: [d] }, server: { listen: [s], dealer: d } });
      const child = forkRole();
      const state = join(directory, 'client');
      let struck = false;
      let session: Parameters<typeof sessionOf>[1] | undefined;
      const ofDealer: Uint8Array[] = [];
      const onFrame = (crossing: Crossing): undefined => {
        const { from, to, kind, payload } = crossing;
        if (kind === 3 && from === 'dealer' && to === 'client') ofDealer.push(payload.slice());
        if (kind === 0 && from === 'server') {
          const message = JSON.parse(new TextDecoder().decode(payload));
          if (message.type === 'session') session = message;
        }
        if (struck || !moment(crossing)) return;
        struck = child.kill(signal);
      };
      const lines = [
        await line(`unix:${directory}/cs`, s, 'client', 'server', { onFrame }),
        await line(`unix:${directory}/cd`, d, 'client', 'dealer', { onFrame }),
      ];
      const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      startRole(
        {
          ...{ role: 'client', server: `unix:${directory}/cs`, dealer: `unix:${directory}/cd`, state, ring, sendLogits: false },
          task: { kind: 'generate', prompt: { ids: [5, 277] }, newTokens: 4 },
          timeoutMilliseconds: 20_000,
        },
        child,
      );
      await gone;
      expect(struck, signal).toBe(true);
      const seen = everything(state);
      // Who recorded the dealer's stream knows the master; on the disk there is neither it, nor its seed, nor a pad, nor a key.
      const stream = Buffer.concat(ofDealer);
      const program = { nodes: [] } as never;
      if (stream.length >= 48) {
        const { context } = sessionOf(program, session!);
        const seed = hkdf(stream.subarray(0, 32), 'sotto correlations client/v1', context);
        const pads = new Uint8Array(2 ** 12);
        for (const needle of [stream.subarray(0, 32), seed, stream.subarray(48)]) expect(anyOf(needle, seen), signal).toBe(false);
        for (let number = 0; number < 400; number++) {
          aesPrg(seed.slice()).fill(number, pads);
          expect(anyOf(pads.subarray(0, 64), seen), signal).toBe(false);
        }
      }
      // What is there is names: of claims, and nothing else.
      for (const folder of ['bundles', 'spill'].map((name) => join(state, name)))
        expect(existsSync(folder) ? readdirSync(folder) : []).toEqual([]);
      for (const each of lines) each.close();
      await at.end();
    }
  });
});

describe('material that is longer than memory has room for', () => {
  const header = { id: freshBundleId(systemMinutes()), program: 'cd'.repeat(32), ring, createdFor: 'client' } as const;
  const text = new TextEncoder().encode('a pad that lies in the clear, sixteen bytes and more. ');

  it('lies sealed in a file that has no name, and comes back exactly, in ranges of any kind', async () => {
    const state = join(root, 'spilling');
    const store = await openRunStore({ state, party: 'client', keptBytes: sealedChunkBytes });
    const length = 3 * sealedChunkBytes + 12_345;
    const material = new Uint8Array(length);
    for (let at = 0; at < length; at++) material[at] = text[at % text.length]! ^ (at >> 16);
    const writer = await store.write(header);
    for (let at = 0; at < length; at += 100_001) await writer.append(material.subarray(at, at + 100_001));
    await writer.finish();
    await store.claim(header.id, header);
    // The file is open, and in no folder; what it holds is nothing of the material.
    expect(readdirSync(join(state, 'spill'))).toEqual([]);
    const open = readdirSync('/proc/self/fd').flatMap((name) => {
      const path = `/proc/self/fd/${name}`;
      try {
        return readlinkSync(path).startsWith(join(state, 'spill')) ? [readFileSync(path)] : [];
      } catch {
        return [];
      }
    });
    if (process.platform === 'linux') {
      expect(open).toHaveLength(1);
      expect(open[0]!.length).toBeGreaterThan(2 * sealedChunkBytes);
      expect(anyOf(material, open[0]!)).toBe(false);
    }
    const reader = await store.open(header.id);
    expect(Buffer.compare(await reader.read(0, length), material)).toBe(0);
    for (const [at, count] of [
      [0, 1],
      [sealedChunkBytes - 3, 7],
      [2 * sealedChunkBytes, sealedChunkBytes],
      [length - 9, 9],
      [5, 0],
    ] as const)
      expect(await reader.read(at, count)).toEqual(material.slice(at, at + count));
    await expect(reader.read(length - 3, 4)).rejects.toMatchObject({ kind: 'material' });
    const many = Array.from({ length: 40 }, (_, k) => (k * 7919 * 31) % (length - 50));
    expect(await Promise.all(many.map((at) => reader.read(at, 50)))).toEqual(many.map((at) => material.slice(at, at + 50)));
    await store.burn(header.id);
    await expect(store.claim(header.id, header)).rejects.toMatchObject({ kind: 'material' });
    await expect(store.write(header)).rejects.toMatchObject({
      kind: 'material',
      reason: expect.stringContaining('known already'),
    });
    // Also by another process of this folder, and ever after.
    const again = await openRunStore({ state, party: 'client', keptBytes: clientKeptBytes });
    await expect(again.write(header)).rejects.toMatchObject({ kind: 'material' });
  });

  it('is noticed where a bit, a place or the key is another', () => {
    const key = new Uint8Array(32).fill(3);
    const sealed = sealChunk(key, 7, text);
    expect(openChunk(key, 7, sealed)).toEqual(text);
    for (const [k, index, at] of [
      [key, 8, -1],
      [new Uint8Array(32), 7, -1],
      [key, 7, 0],
      [key, 7, sealed.length - 1],
    ] as const) {
      const changed = sealed.slice();
      if (at >= 0) changed[at]! ^= 1;
      expect(() => openChunk(k, index, changed)).toThrow(/sealed material is damaged/);
    }
    // One text in two places shows no likeness.
    expect(anyOf(sealChunk(key, 1, text), Buffer.from(sealChunk(key, 2, text)))).toBe(false);
  });

  it('that an older version or a crash has left in the open is swept at the next start', async () => {
    const state = join(root, 'older');
    await openBundleStore(state, 'client');
    const old = join(state, 'bundles', 'ef'.repeat(16));
    mkdirSync(old);
    writeFileSync(join(old, 'material.bin'), text);
    const v1 = { ...header, id: 'ef'.repeat(16), version: 1, weights: 'ab'.repeat(32), materialBytes: text.length };
    const sha = createHash('sha256').update(text).digest('hex');
    writeFileSync(join(old, 'header.json'), JSON.stringify({ ...v1, materialSha256: sha }));
    mkdirSync(join(state, 'bundles', `${'01'.repeat(16)}.incoming`));
    writeFileSync(join(state, 'bundles', `${'01'.repeat(16)}.incoming`, 'material.bin'), text);
    mkdirSync(join(state, 'spill'));
    writeFileSync(join(state, 'spill', 'left'), text);
    await openRunStore({ state, party: 'client', keptBytes: 0 });
    expect(anyOf(text.slice(0, 48), everything(state))).toBe(false);
    expect(readdirSync(join(state, 'bundles'))).toEqual([]);
  });
});

describe('halves made ahead', () => {
  it('lie sealed on the dealer’s disk, and open for who shows the ticket: not for the session’s name, and once', async () => {
    const directory = join(root, 'ahead');
    mkdirSync(directory, { mode: 0o700 });
    const [s, d] = [`unix:${directory}/s`, `unix:${directory}/d`];
    const shape = { task: 'generate', promptTokens: 1, newTokens: 1, ring } as const;
    const at = await honest(directory, model, {
      dealer: { listen: [d] },
      server: { listen: [s], dealer: d, prepare: { count: 2, shapes: [shape] } },
    });
    try {
      const made = () => at.lines.filter(({ event }) => event === 'prepared').length;
      await vi.waitFor(() => expect(made()).toBeGreaterThanOrEqual(2), 20_000);
      const dealer = await openBundleStore(join(directory, 'dealer'), 'client');
      const server = await openBundleStore(join(directory, 'server'), 'server');
      const [half] = (await dealer.list()).filter(({ state }) => state === 'available');
      const own = (await server.list()).find(({ id }) => id === half!.id)!;
      const { ticket } = own.header!;
      // The dealer's disk has the commitment and not the ticket, and no master: the client's master stands at the stream's head.
      const disk = everything(join(directory, 'dealer'));
      expect(disk.includes(ticket!)).toBe(false);
      expect(disk.includes(Buffer.from(ticket!, 'hex'))).toBe(false);
      expect(JSON.stringify(at.lines)).not.toContain(ticket);
      const join1 = { type: 'join', bundle: half!.id, program: half!.header!.program } as const;
      for (const wrong of [fresh(32), half!.id + half!.id, half!.header!.commitment! + half!.id]) {
        const thief = await as('client', d, 'dealer');
        await sendControl(thief, { ...join1, ticket: wrong });
        expect(await answerOf(thief)).toBe('session');
        await thief.close();
      }
      // It is still there for a client, whom the server gives the ticket.
      const recorded: Uint8Array[] = [];
      const relayed = await line(`unix:${directory}/cd`, d, 'client', 'dealer', {
        onFrame: ({ from, kind, payload }) => {
          if (from === 'dealer' && kind === 3) recorded.push(payload.slice());
          return undefined;
        },
      });
      const run = (state: string) =>
        runClient({
          rangeFlags: false,
          ...{ server: s, dealer: `unix:${directory}/cd`, state: join(directory, state), ring, timeoutMilliseconds: 8000 },
          task: { kind: 'generate', prompt: { ids: [5] }, newTokens: 1 },
        });
      expect((await run('one')).newIds).toHaveLength(1);
      await vi.waitFor(
        () => expect(at.lines.some(({ event, task }) => event === 'session-ended' && task === 'hand')).toBe(true),
        8000,
      );
      // What a thief of the disk would need, the recorded master, was never there in the clear.
      expect(anyOf(Buffer.concat(recorded), disk)).toBe(false);
      relayed.close();
    } finally {
      await at.end();
    }
  });
});
