import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SottoError } from '../../src/errors/index.ts';
import {
  collectPictures,
  type PictureStream,
  pictureAt,
  readCifar,
  readIdx,
  readPictureFolder,
  readPictureTar,
  readTar,
} from '../../src/lab/data/index.ts';
import { encodePng } from '../../src/pictures/index.ts';
import { all, testFolder } from './folder.ts';

const folder = testFolder();
const pictures = (stream: PictureStream) => all(stream.pictures());

function idx(extents: number[], values: ArrayLike<number>): Buffer {
  const header = Buffer.alloc(4 + 4 * extents.length);
  header[2] = 8;
  header[3] = extents.length;
  for (const [at, extent] of extents.entries()) header.writeUInt32BE(extent, 4 + 4 * at);
  return Buffer.concat([header, Uint8Array.from(values)]);
}

describe('the reader of IDX', () => {
  const pixels = Array.from({ length: 3 * 2 * 4 }, (_, at) => at * 9);
  const images = folder.put('images.gz', gzipSync(idx([3, 2, 4], pixels)));
  const labels = folder.put('labels.gz', gzipSync(idx([3], [7, 0, 9])));

  it('gives grey pictures with their labels', async () => {
    const set = await collectPictures(readIdx(images, labels));
    expect(set).toMatchObject({ count: 3, width: 4, height: 2, channels: 1 });
    expect([...set.labels]).toEqual([7, 0, 9]);
    expect([...pictureAt(set, 1).data]).toEqual(pixels.slice(8, 16));
    expect((await collectPictures(readIdx(images, labels), { limit: 2 })).count).toBe(2);
  });

  it('names a label out of range, files of different lengths, a wrong kind and an early end', async () => {
    await expect(pictures(readIdx(images, labels, { classes: 9 }))).rejects.toMatchObject({
      kind: 'input',
      place: { file: labels, field: 'label 2' },
    });
    const fewer = folder.put('fewer', idx([2], [1, 2]));
    await expect(pictures(readIdx(images, fewer))).rejects.toThrow(/2 labels for 3 pictures/);
    await expect(pictures(readIdx(labels, labels))).rejects.toThrow(/1 dimensions where 3 are due/);
    const cut = folder.put('cut', idx([3, 2, 4], pixels).subarray(0, 30));
    await expect(pictures(readIdx(cut, labels))).rejects.toMatchObject({ place: { file: cut, field: 'picture 1' } });
    const long = folder.put('long', idx([3], [1, 2, 3, 4]));
    await expect(pictures(readIdx(images, long))).rejects.toThrow(/bytes follow the 3 labels/);
  });
});

describe('the reader of CIFAR', () => {
  const record = (labels: number[], at: number) => [...labels, ...Array.from({ length: 3072 }, (_, i) => (i + at) % 251)];

  it('gives coloured pictures with the channels beside one another', async () => {
    const file = folder.put('batch.bin', Uint8Array.from([...record([3], 0), ...record([9], 5)]));
    const [first, second] = await pictures(readCifar([file], { format: 'cifar10' }));
    expect([first!.label, second!.label]).toEqual([3, 9]);
    expect([...first!.data.subarray(0, 6)]).toEqual([0, 1024 % 251, 2048 % 251, 1, 1025 % 251, 2049 % 251]);
  });

  it('takes the fine or the coarse label of the hundred classes', async () => {
    const file = folder.put('hundred.bin', Uint8Array.from(record([19, 99], 0)));
    expect((await pictures(readCifar([file], { format: 'cifar100' })))[0]!.label).toBe(99);
    expect((await pictures(readCifar([file], { format: 'cifar100', labels: 'coarse' })))[0]!.label).toBe(19);
  });

  it('names a label out of range and a record that ends early', async () => {
    const strange = folder.put('strange.bin', Uint8Array.from([...record([1], 0), ...record([10], 0)]));
    await expect(pictures(readCifar([strange], { format: 'cifar10' }))).rejects.toMatchObject({ place: { field: 'record 1' } });
    const cut = folder.put('cut.bin', Uint8Array.from(record([1], 0).slice(0, 100)));
    await expect(pictures(readCifar([cut], { format: 'cifar10' }))).rejects.toMatchObject({
      place: { file: cut, field: 'record 0' },
    });
  });
});

const long = `${'sehr-'.repeat(40)}lang`;
const made = (async () => {
  const root = join(folder.path, 'tree');
  const colours: Record<string, number[]> = {
    'train/cat/1.png': [255, 0, 0],
    'train/dog/2.png': [0, 200, 9],
    'test/dog/3.png': [1, 2, 3],
  };
  colours[`train/dog/${long}.png`] = [9, 9, 200];
  for (const [name, [r, g, b]] of Object.entries(colours)) {
    mkdirSync(join(root, name, '..'), { recursive: true });
    const data = Uint8Array.from({ length: 5 * 4 * 3 }, (_, at) => [r!, g!, b!][at % 3]!);
    writeFileSync(join(root, name), await encodePng({ width: 5, height: 4, data }));
  }
  writeFileSync(join(root, 'train/notes.txt'), 'no picture');
  const tar = (name: string, ...options: string[]) => {
    execFileSync('tar', ['--sort=name', '-cf', join(folder.path, name), ...options, '-C', root, '.']);
    return join(folder.path, name);
  };
  return {
    root,
    gnu: tar('gnu.tar', '--format=gnu'),
    pax: tar('pax.tar.gz', '--format=posix', '-z'),
    ustar: tar('ustar.tar', '--format=gnu', '--exclude=*lang*'),
  };
})();

describe('pictures in folders of classes', () => {
  it('are the same out of a folder, a GNU archive with long names and a packed POSIX one', async () => {
    const { root, gnu, pax } = await made;
    const streams = [
      await readPictureFolder(root, { under: 'train' }),
      await readPictureTar(gnu, { under: 'train' }),
      await readPictureTar(pax, { under: 'train' }),
    ];
    for (const stream of streams) {
      expect(stream.classes).toEqual(['cat', 'dog']);
      const found = (await pictures(stream)).map(({ place, label, data }) => [
        place.replace(/^\.\//, ''),
        label,
        ...data.subarray(0, 3),
      ]);
      expect(found).toEqual([
        ['train/cat/1.png', 0, 255, 0, 0],
        ['train/dog/2.png', 1, 0, 200, 9],
        [`train/dog/${long}.png`, 1, 9, 9, 200],
      ]);
    }
    const set = await collectPictures(streams[0]!, { size: { width: 3, height: 3 } });
    expect(set).toMatchObject({ count: 3, width: 3, height: 3, channels: 3 });
  });

  it('refuse a class that is not named, a picture that cannot be decoded, and too much memory', async () => {
    const { root } = await made;
    const only = await readPictureFolder(root, { under: 'train', classes: ['dog'] });
    await expect(pictures(only)).rejects.toMatchObject({ kind: 'input', place: { file: root, field: 'train/cat/1.png' } });
    mkdirSync(join(folder.path, 'bad/a'), { recursive: true });
    writeFileSync(join(folder.path, 'bad/a/x.jpg'), 'no picture');
    await expect(pictures(await readPictureFolder(join(folder.path, 'bad')))).rejects.toMatchObject({ kind: 'input' });
    await expect(collectPictures(await readPictureFolder(root), { limitBytes: 100 })).rejects.toMatchObject({ kind: 'resource' });
    await expect(readPictureFolder(join(folder.path, 'bad'), { under: 'none' })).rejects.toThrow(/no pictures/);
  });
});

describe('the reader of tar', () => {
  it('gives every entry with its bytes, read or passed over', async () => {
    const { gnu, root } = await made;
    const names: string[] = [];
    for await (const entry of readTar(gnu)) {
      names.push(entry.name);
      if (names.length % 2 === 0) expect(Buffer.from(await entry.read())).toEqual(readFileSync(join(root, entry.name)));
    }
    expect(names).toContain(`./train/dog/${long}.png`);
    expect(names).toHaveLength(5);
  });

  it('names where an archive is cut, and refuses other files', async () => {
    const { gnu, pax } = await made;
    const whole = readFileSync(gnu);
    const cut = folder.put('cut.tar', whole.subarray(0, 1800));
    await expect(all(readTar(cut))).rejects.toMatchObject({ kind: 'input', place: { file: cut } });
    const packed = folder.put('cut.tar.gz', readFileSync(pax).subarray(0, 200));
    await expect(all(readTar(packed))).rejects.toMatchObject({ kind: 'input', place: { file: packed } });
    const header = folder.put('other.tar', 'x'.repeat(2048));
    await expect(all(readTar(header))).rejects.toThrow(/not a tar archive/);
  });

  it('gives entries or a typed error, whichever byte is damaged', async () => {
    const { ustar } = await made;
    const whole = readFileSync(ustar).subarray(0, 4096);
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(255), async (at, value) => {
        const bytes = Buffer.from(whole);
        bytes[at] = value;
        await all(readTar(folder.put('hurt.tar', bytes))).catch((error) => expect(error).toBeInstanceOf(SottoError));
      }),
      { numRuns: 150 },
    );
  });
});

const shared = join(process.env.SOTTO_SHARED ?? '../shared', 'data');
describe.skipIf(!existsSync(shared))('published pictures', () => {
  it('have the counts, sizes and classes that their description names', async () => {
    const mnist = (name: string) => join(shared, 'mnist', name);
    const digits = await collectPictures(readIdx(mnist('test5000-images-idx3-ubyte.gz'), mnist('test5000-labels-idx1-ubyte.gz')));
    expect(digits).toMatchObject({ count: 5000, width: 28, height: 28, channels: 1 });
    const cifar = await collectPictures(await readPictureTar(join(shared, 'cifar10', 'cifar10_test1000_jpg.tar.gz')));
    expect(cifar).toMatchObject({ count: 1000, width: 32, height: 32, channels: 3 });
    expect(cifar.classes).toEqual(['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']);
  });
});
