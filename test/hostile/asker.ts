// A client that asks for runs, never means to run one, and says any hash.
import { connect } from '../../src/node/sockets.ts';
import {
  greet,
  heedingRefusals,
  type RunRequest,
  receiveControl,
  receiveManifest,
  sendControl,
} from '../../src/party/control.ts';

/** Asks for one run, and gives what the server said of it. */
export async function ask(address: string, run: RunRequest, timeoutMilliseconds: number): Promise<Error> {
  const channel = heedingRefusals(await connect({ address, peer: 'server', timeoutMilliseconds }));
  try {
    await greet(channel, 'client', ['server']);
    await receiveManifest(channel);
    await sendControl(channel, { type: 'request', run, program: '0'.repeat(64), nonce: '0'.repeat(32) });
    await receiveControl(channel, 'session');
    return new Error('it was served');
  } catch (error) {
    return error as Error;
  } finally {
    await channel.close();
  }
}
