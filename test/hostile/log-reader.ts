// A reader of a party's log that goes away, or stops reading.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createConnection } from 'node:net';

/** Closes the reading end: every further line is a broken pipe. */
export function leave({ stderr }: ChildProcess): void {
  stderr!.removeAllListeners('data');
  stderr!.destroy();
}

/** Keeps the reading end and reads nothing. */
export function stall({ stderr }: ChildProcess): void {
  stderr!.removeAllListeners('data');
  stderr!.pause();
}

/** Strangers that come and go, each worth a line of the log. */
export async function provoke(address: string, strangers: number): Promise<void> {
  const [host, port] = address.replace(/^[a-z]+:/, '').split(':') as [string, string];
  for (let at = 0; at < strangers; at++) {
    const socket = createConnection({ host, port: Number(port) });
    socket.on('error', () => {});
    socket.resume();
    await once(socket, 'connect');
    socket.end('GET / HTTP/1.1\r\n\r\n');
    await once(socket, 'close');
  }
}

/** Seconds of the processor that a process has used (Linux). */
export function processorSeconds({ pid }: ChildProcess): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
