// A client that asks for runs, never means to run one, and says any hash.
import type { Channel } from '../../src/net/contract.ts';
import { connect } from '../../src/node/sockets.ts';
import { greet, heedingRefusals, type RunRequest, receiveControl, receiveSession, sendControl } from '../../src/party/control.ts';
import { traceRun } from '../../src/party/manifest.ts';
import { freshTicket } from '../../src/party/session.ts';

/** Asks for a run of one token of the prompt, as a client should, on a greeted channel; what follows is not said. */
export async function sit(channel: Channel, newTokens = 2): Promise<{ ticket: string; program: string }> {
  const { config } = await receiveControl(channel, 'manifest');
  const run = { task: 'generate', promptTokens: 1, newTokens, ring: { bits: 64, fraction: 16 } } as const;
  const { ticket, nonce } = freshTicket();
  const program = traceRun(config, run).hash;
  await sendControl(channel, { type: 'request', run, program, nonce });
  return { ticket, program };
}

/** Asks for one run, and gives what the server said of it. */
export async function ask(address: string, run: RunRequest, timeoutMilliseconds: number): Promise<Error> {
  const channel = heedingRefusals(await connect({ address, peer: 'server', timeoutMilliseconds }));
  try {
    await greet(channel, 'client', ['server']);
    await receiveControl(channel, 'manifest');
    await sendControl(channel, { type: 'request', run, program: '0'.repeat(64), nonce: '0'.repeat(32) });
    await receiveSession(channel);
    return new Error('it was served');
  } catch (error) {
    return error as Error;
  } finally {
    await channel.close();
  }
}
