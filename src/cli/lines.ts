import type { Writable } from 'node:stream';

/** Text that waits for its reader; more is dropped. */
const backlogBytes = 2 ** 16;

/** Writes to a reader who may go, or read nothing: neither ends the process, holds it up, or makes it grow. */
export interface PatientWriter {
  write(text: string): void;
  /** Lines that nobody will read. */
  readonly lost: () => number;
}

/**
 * Takes over the errors of a stream of lines, such as the process's standard error. Once the reader has gone nothing more is written; while
 * it is slow up to 64 KiB waits, and what comes then is dropped and counted.
 */
export function patientWriter(stream: Writable): PatientWriter {
  let gone = false;
  let lost = 0;
  stream.on('error', () => {
    gone = true;
  });
  return {
    write(text) {
      if (gone || stream.writableLength > backlogBytes) lost++;
      else stream.write(text);
    },
    lost: () => lost,
  };
}
