import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import { encodeBundleHeader, parseBundleHeader, type StoredHeader } from '../../src/party/bundle-header.ts';
import { freshBundleId, systemMinutes } from '../../src/party/bundle-id.ts';
import { type BundleHeader, type BundleStore, openBundleStore } from '../../src/party/bundles.ts';
import { builtFile } from '../built.ts';

const root = mkdtempSync(join(tmpdir(), 'sotto-bundles-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let stores = 0;
const freshDirectory = () => join(root, `store${stores++}`);

const expectation = { program: 'ab'.repeat(32), ring: { bits: 64, fraction: 16 }, copy: 'cd'.repeat(32) };
const headerFor = (change: Partial<BundleHeader> = {}): BundleHeader => ({
  id: freshBundleId(systemMinutes()),
  ...expectation,
  createdFor: 'client',
  ...change,
});
const material = Uint8Array.from({ length: 5000 }, (_, i) => i * 31);
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

async function added(store: BundleStore, bytes = material): Promise<string> {
  const header = headerFor();
  const writer = await store.write(header);
  for (let at = 0; at < bytes.length; at += 1999) await writer.append(bytes.subarray(at, at + 1999));
  await writer.finish(sha256(bytes));
  return header.id;
}
const refusal = (kind: string, reason: RegExp) => ({ name: 'SottoError', kind, reason: expect.stringMatching(reason) });
const states = async (store: BundleStore) => Object.fromEntries((await store.list()).map(({ id, state }) => [id, state]));

describe('the bundle store', () => {
  it('keeps material through a restart and gives its ranges to the one who claims it', async () => {
    const directory = freshDirectory();
    const id = await added(await openBundleStore(directory, 'client'));
    const store = await openBundleStore(directory, 'client');
    const [entry] = await store.list();
    expect(entry).toMatchObject({
      id,
      state: 'available',
      header: { ...expectation, materialBytes: 5000, materialSha256: sha256(material) },
    });
    await store.claim(id, expectation);
    const reader = await store.open(id);
    expect(await reader.read(0, 5000)).toEqual(material);
    expect(await reader.read(4990, 10)).toEqual(material.slice(4990));
    expect(await reader.read(5000, 0)).toEqual(new Uint8Array(0));
    for (const [offset, length] of [
      [4990, 11],
      [-1, 2],
      [0.5, 1],
      [0, -1],
      [2 ** 53, 1],
    ] as const)
      await expect(reader.read(offset, length)).rejects.toMatchObject({ kind: 'material' });
    await reader.close();
    expect(await states(store)).toEqual({ [id]: 'claimed' });
    await store.finish(id);
    expect(await states(store)).toEqual({ [id]: 'burned' });
  });

  it('refuses a second claim by the same store, another one, and one after a restart, before and after burning', async () => {
    const directory = freshDirectory();
    const first = await openBundleStore(directory, 'client');
    const second = await openBundleStore(directory, 'client');
    const id = await added(first);
    await first.claim(id, expectation);
    for (const store of [first, second, await openBundleStore(directory, 'client')]) {
      await expect(store.claim(id, expectation)).rejects.toMatchObject(refusal('material', /claimed already/));
    }
    await expect(second.open(id)).rejects.toMatchObject(refusal('material', /not claimed by this process/));
    await expect(second.finish(id)).rejects.toMatchObject({ kind: 'material' });
    await first.finish(id);
    await expect(first.claim(id, expectation)).rejects.toMatchObject(refusal('material', /claimed already/));
    await expect(first.open(id)).rejects.toMatchObject({ kind: 'material' });
    await expect(first.write(headerFor({ id }))).rejects.toMatchObject(refusal('material', /known already/));
  });

  it('takes a marker for a claim even where its bytes never reached the disk', async () => {
    const directory = freshDirectory();
    const store = await openBundleStore(directory, 'client');
    const id = await added(store);
    writeFileSync(join(directory, 'claims', id), '');
    await expect(store.claim(id, expectation)).rejects.toMatchObject(refusal('material', /claimed already/));
    expect(await states(store)).toEqual({ [id]: 'claimed' });
  });

  it('lets exactly one of many concurrent claims succeed', async () => {
    const store = await openBundleStore(freshDirectory(), 'client');
    const id = await added(store);
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => store.claim(id, expectation)));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it('lets exactly one of two processes that race for each bundle have it, and a killed winner keeps its claims', async () => {
    const directory = freshDirectory();
    const store = await openBundleStore(directory, 'client');
    const ids: string[] = [];
    for (let i = 0; i < 12; i++) ids.push(await added(store));
    const module = builtFile(fileURLToPath(new URL('../../src/party/bundles.ts', import.meta.url)));
    const script = `
      import { openBundleStore } from ${JSON.stringify(module)};
      const store = await openBundleStore(${JSON.stringify(directory)}, 'client');
      process.stdout.write('ready\\n');
      await new Promise((resolve) => process.stdin.once('data', resolve));
      const won = [];
      for (const id of ${JSON.stringify(ids)}) await store.claim(id, ${JSON.stringify(expectation)}).then(() => won.push(id), (error) => { if (error.kind !== 'material') throw error; });
      process.stdout.write(JSON.stringify(won) + '\\n', () => process.kill(process.pid, 'SIGKILL'));
      setInterval(() => {}, 1000);
    `;
    const file = join(root, 'race.mjs');
    writeFileSync(file, script);
    const racers = [0, 1].map(() => {
      const child = spawn(process.execPath, [file], {
        cwd: process.cwd(),
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      let output = '';
      let ready = () => {};
      const started = new Promise<void>((resolve) => (ready = resolve));
      child.stdout.on('data', (text) => {
        output += text;
        if (output.includes('ready\n')) ready();
      });
      const ended = new Promise<{ signal: string | null; won: string[] }>((resolve) =>
        child.on('close', (_code, signal) => {
          ready();
          resolve({ signal, won: JSON.parse(output.split('\n')[1] || 'null') });
        }),
      );
      return { child, started, ended };
    });
    await Promise.all(racers.map(({ started }) => started));
    for (const { child } of racers) child.stdin.write('go\n');
    const [a, b] = await Promise.all(racers.map(({ ended }) => ended));
    expect([a!.signal, b!.signal]).toEqual(['SIGKILL', 'SIGKILL']);
    expect([...a!.won, ...b!.won].sort()).toEqual([...ids].sort());
    for (const id of ids)
      await expect(store.claim(id, expectation)).rejects.toMatchObject(refusal('material', /claimed already/));
    expect(new Set(Object.values(await states(store)))).toEqual(new Set(['claimed']));
  }, 15_000);

  it('does not claim a bundle of another program, ring, copy or party', async () => {
    const directory = freshDirectory();
    const store = await openBundleStore(directory, 'client');
    const id = await added(store);
    for (const change of [
      { program: '00'.repeat(32) },
      { copy: '00'.repeat(32) },
      { ring: { bits: 32, fraction: 16 } },
      { ring: { bits: 64, fraction: 12 } },
    ])
      await expect(store.claim(id, { ...expectation, ...change })).rejects.toMatchObject({ kind: 'material' });
    await expect((await openBundleStore(directory, 'server')).claim(id, expectation)).rejects.toMatchObject({ kind: 'material' });
    await expect(store.write(headerFor({ createdFor: 'server' }))).rejects.toMatchObject({ kind: 'material' });
    await expect(store.claim(freshBundleId(systemMinutes()), expectation)).rejects.toMatchObject(
      refusal('material', /not in the store/),
    );
    await store.claim(id, expectation);
  });

  it('does not claim truncated, lengthened or changed material, or a damaged or foreign header, and lists them as damaged', async () => {
    const directory = freshDirectory();
    const store = await openBundleStore(directory, 'client');
    const file = (id: string, name: string) => join(directory, 'bundles', id, name);
    const damage: Record<string, (id: string) => void> = {
      truncated: (id) => truncateSync(file(id, 'material.bin'), 4999),
      lengthened: (id) => truncateSync(file(id, 'material.bin'), 5001),
      deleted: (id) => rmSync(file(id, 'material.bin')),
      linked: (id) => {
        rmSync(file(id, 'material.bin'));
        writeFileSync(join(root, 'elsewhere'), material);
        symlinkSync(join(root, 'elsewhere'), file(id, 'material.bin'));
      },
      'header cut': (id) => truncateSync(file(id, 'header.json'), 100),
      'header empty': (id) => truncateSync(file(id, 'header.json'), 0),
      'header huge': (id) => truncateSync(file(id, 'header.json'), 10 ** 6),
      'header of another': (id) =>
        writeFileSync(file(id, 'header.json'), readFileSync(file(id, 'header.json'), 'utf8').replace(id, '0'.repeat(32))),
    };
    for (const [name, apply] of Object.entries(damage)) {
      const id = await added(store);
      apply(id);
      await expect(store.claim(id, expectation), name).rejects.toMatchObject({ name: 'SottoError', kind: 'material' });
      expect((await states(store))[id], name).toBe('damaged');
      expect(readdirSync(join(directory, 'claims'))).not.toContain(id);
      await store.burn(id);
      expect((await states(store))[id], name).toBe('burned');
    }
    const id = await added(store);
    const bytes = Buffer.from(material);
    bytes[4321]! ^= 1;
    writeFileSync(file(id, 'material.bin'), bytes);
    await expect(store.claim(id, expectation)).rejects.toMatchObject(refusal('material', /SHA-256/));
    await store.claim(id, { ...expectation, check: 'size' });
  });

  it('notices material that is cut short after the claim', async () => {
    const directory = freshDirectory();
    const store = await openBundleStore(directory, 'client');
    const id = await added(store);
    await store.claim(id, expectation);
    const reader = await store.open(id);
    truncateSync(join(directory, 'bundles', id, 'material.bin'), 10);
    await expect(reader.read(5, 10)).rejects.toMatchObject(refusal('material', /cut short/));
    await reader.close();
  });

  it('overwrites what it burns, deletes it and keeps the marker; burning works at any time and twice', async () => {
    const directory = freshDirectory();
    const store = await openBundleStore(directory, 'client');
    const id = await added(store);
    await store.claim(id, expectation);
    const reader = await store.open(id);
    await store.burn(id);
    expect(await reader.read(0, 5000), 'an open file sees the overwritten bytes').toEqual(new Uint8Array(5000));
    await reader.close();
    expect(existsSync(join(directory, 'bundles', id))).toBe(false);
    expect(existsSync(join(directory, 'claims', id))).toBe(true);
    await store.burn(id);
    const unclaimed = await added(store);
    await store.burn(unclaimed);
    await expect(store.claim(unclaimed, expectation)).rejects.toMatchObject({ kind: 'material' });
    expect(await states(store)).toEqual({ [id]: 'burned', [unclaimed]: 'burned' });
  });

  it('shows a bundle only when all of it is there, and takes unfinished ones for incomplete', async () => {
    const directory = freshDirectory();
    const store = await openBundleStore(directory, 'client');
    const header = headerFor();
    const writer = await store.write(header);
    await writer.append(material);
    await expect(store.write(header)).rejects.toMatchObject(refusal('material', /known already/));
    await expect(store.claim(header.id, expectation)).rejects.toMatchObject({ kind: 'material' });
    expect(await states(await openBundleStore(directory, 'client'))).toEqual({ [header.id]: 'incomplete' });
    await writer.abort();
    expect(await states(store)).toEqual({});
    const again = await store.write(header);
    await again.append(material);
    await expect(again.finish('00'.repeat(32))).rejects.toMatchObject(refusal('material', /announced/));
    await expect(again.append(material)).rejects.toMatchObject({ kind: 'usage' });
    expect(await states(store)).toEqual({});
    const left = headerFor();
    const crashed = await store.write(left);
    await store.burn(left.id);
    await expect(crashed.finish()).rejects.toMatchObject({ name: 'SottoError' });
    expect(await states(store)).toEqual({ [left.id]: 'burned' });
  });

  it('keeps everything private and refuses a directory that others can enter', async () => {
    const directory = freshDirectory();
    const store = await openBundleStore(directory, 'client');
    const id = await added(store);
    for (const path of ['', 'bundles', 'claims', `bundles/${id}`])
      expect(statSync(join(directory, path)).mode & 0o777).toBe(0o700);
    for (const path of ['material.bin', 'header.json'])
      expect(statSync(join(directory, 'bundles', id, path)).mode & 0o777).toBe(0o600);
    chmodSync(directory, 0o755);
    await expect(openBundleStore(directory, 'client')).rejects.toMatchObject({ kind: 'usage' });
  });

  it('takes no name that leads out of its directory and ignores files that are not its own', async () => {
    const directory = freshDirectory();
    const store = await openBundleStore(directory, 'client');
    mkdirSync(join(directory, 'bundles', 'lost+found'));
    writeFileSync(join(directory, 'claims', '.DS_Store'), '');
    expect(await store.list()).toEqual([]);
    for (const id of [
      '',
      '..',
      '../../etc/passwd',
      'A'.repeat(32),
      `${'0'.repeat(31)}\n`,
      `${'0'.repeat(32)}\n`,
      `${'0'.repeat(32)}/..`,
      7 as unknown as string,
    ]) {
      for (const act of [
        () => store.claim(id, expectation),
        () => store.open(id),
        () => store.burn(id),
        () => store.finish(id),
        () => store.write(headerFor({ id })),
      ])
        await expect(act(), JSON.stringify(id)).rejects.toMatchObject({ name: 'SottoError', kind: 'input' });
    }
  });
});

describe('a bundle header', () => {
  const stored: StoredHeader = {
    version: 2,
    ...headerFor({ id: '0f'.repeat(16) }),
    materialBytes: 12,
    materialSha256: 'ee'.repeat(32),
  };
  const parse = (value: unknown) => parseBundleHeader(new TextEncoder().encode(JSON.stringify(value)));

  it('comes back as it was written', () => {
    expect(parseBundleHeader(encodeBundleHeader(stored))).toEqual(stored);
  });

  it('is refused, naming the field, when one is missing, wrong or unknown', () => {
    for (const field of Object.keys(stored)) {
      // A client's half is of no copy that it knows.
      for (const value of [...(field === 'copy' ? [] : [undefined]), null, -1, 1.5, 'x', [], {}, '0f'.repeat(17)])
        expect(() => parse({ ...stored, [field]: value }), `${field} ${value}`).toThrow(SottoError);
    }
    expect(() => parse({ ...stored, version: 1 })).toThrow(/version is 1, of an older sotto/);
    expect(() => parse({ ...stored, ring: { bits: 65, fraction: 1 } })).toThrow(/ring.bits/);
    expect(() => parse({ ...stored, ring: { bits: 16, fraction: 16 } })).toThrow(/ring.fraction/);
    expect(() => parse({ ...stored, ring: { bits: 16, fraction: 2, more: 1 } })).toThrow(/more/);
    expect(() => parse({ ...stored, extra: 1 })).toThrow(/extra/);
    expect(() => parseBundleHeader(new TextEncoder().encode(`{"__proto__": {}, ${JSON.stringify(stored).slice(1)}`))).toThrow(
      SottoError,
    );
  });

  it('is a typed error for any other bytes', () => {
    const good = encodeBundleHeader(stored);
    const changed = fc
      .array(fc.tuple(fc.nat(good.length - 1), fc.integer({ min: 0, max: 255 })), { maxLength: 3 })
      .map((changes) => {
        const bytes = good.slice();
        for (const [place, value] of changes) bytes[place] = value;
        return bytes;
      });
    const any = fc.oneof(
      changed,
      fc.uint8Array({ maxLength: 200, size: 'max' }),
      fc.json().map((text) => new TextEncoder().encode(text)),
      fc.nat(good.length).map((end) => good.slice(0, end)),
    );
    fc.assert(
      fc.property(any, (bytes) => {
        try {
          const header = parseBundleHeader(bytes);
          expect(parseBundleHeader(encodeBundleHeader(header))).toEqual(header);
        } catch (error) {
          expect(error).toMatchObject({ name: 'SottoError', kind: 'input' });
        }
      }),
      { numRuns: 3000 },
    );
  });
});
