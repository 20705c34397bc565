import { describe, expect, it } from 'vitest';
import { Strangers, sourceOf } from '../../src/node/strangers.ts';

describe('strangers', () => {
  function crowd(total: number, perSource: number) {
    let now = 0;
    const strangers = new Strangers({ total, perSource }, () => now);
    const wait = (milliseconds: number): void => {
      now += milliseconds;
    };
    const gone: string[] = [];
    const come = (name: string, source: string | null, silent = true): (() => void) =>
      strangers.admit({ source, silent: () => silent, evict: () => void gone.push(name) });
    return { strangers, gone, come, wait };
  }

  it('have a place each, until there are too many of one source: its oldest goes, and no other source is touched', () => {
    const { strangers, gone, come } = crowd(10, 3);
    come('other', 'b');
    for (const name of ['1', '2', '3', '4', '5']) come(name, 'a');
    expect(gone).toEqual(['1', '2']);
    expect(strangers.count).toBe(4);
  });

  it('of the source that has the most go first where all places are taken', () => {
    const { gone, come } = crowd(5, 4);
    come('b1', 'b');
    for (const name of ['a1', 'a2', 'a3']) come(name, 'a');
    come('b2', 'b');
    come('c1', 'c');
    come('c2', 'c');
    expect(gone).toEqual(['a1', 'b1']);
  });

  it('that said something stay before those that said nothing for a second, and go where nobody else is left', () => {
    const { gone, come, wait } = crowd(3, 3);
    come('speaks', 'a', false);
    come('silent', 'a');
    wait(1000);
    come('came just now', 'a');
    come('4', 'a', false);
    come('5', 'a', false);
    expect(gone).toEqual(['silent', 'speaks']);
  });

  it('of this user alone know no source, and are bounded together', () => {
    const { gone, come } = crowd(3, 1);
    for (const name of ['1', '2', '3', '4']) come(name, null);
    expect(gone).toEqual(['1']);
  });

  it('give their places back once they are known or gone, once', () => {
    const { strangers, gone, come } = crowd(2, 2);
    const known = come('1', 'a');
    known();
    known();
    come('2', 'a');
    come('3', 'a');
    expect(strangers.count).toBe(2);
    expect(gone).toEqual([]);
  });
});

it.each([
  ['127.0.0.1', '127.0.0.1'],
  ['::ffff:10.1.2.3', '10.1.2.3'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:db8:1:2::9', '2001:db8:1:2::/64'],
  ['2001:db8::9', '2001:db8:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  [undefined, null],
])('%s is counted as %s', (address, source) => expect(sourceOf(address)).toBe(source));
