import { expect, it } from 'vitest';
import { lastWords } from '../../src/cli/browser-demo.ts';

it('a party of the demo that ends is explained by its own last words, and by no session, connection or link that failed before', () => {
  const line = (entry: object): string => JSON.stringify({ time: '2026-01-01T00:00:00.000Z', ...entry });
  for (const passing of [
    line({ level: 'warn', event: 'session-failed', session: '00aa', reason: 'the client closed the connection' }),
    line({ level: 'error', event: 'session-failed', session: '00aa', reason: 'Error: a defect of sotto' }),
    line({ level: 'warn', event: 'connection-failed', reason: 'is a dealer' }),
    line({ level: 'warn', event: 'link-failed', reason: 'the dealer cannot be reached' }),
    line({ level: 'info', event: 'listening', address: 'ws:127.0.0.1:1' }),
    '',
    '5',
  ])
    expect(lastWords(passing)).toBeUndefined();
  expect(lastWords(line({ level: 'error', event: 'unhandled', reason: 'RangeError: a defect of sotto' }))).toBe(
    'RangeError: a defect of sotto',
  );
  expect(lastWords('null')).toBe('null');
  expect(lastWords('sotto: file model: cannot be read — name a folder')).toBe(
    'sotto: file model: cannot be read — name a folder',
  );
});
