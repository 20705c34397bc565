import { MessageChannel } from 'node:worker_threads';

/** A closed port: what is moved to it is dropped. */
const nowhere = new MessageChannel().port1;
nowhere.close();

/**
 * Gives the memory of a buffer back at once; every view of it is empty afterwards. The engine counts the bytes of buffers and collects all
 * garbage whenever 32 MB of them have come and gone, which takes longer than the AES that filled them.
 */
export function discard(bytes: Uint8Array): void {
  nowhere.postMessage(null, [bytes.buffer as ArrayBuffer]);
}
