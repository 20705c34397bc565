import { randomBytes } from 'node:crypto';
import { materialLayout } from '../../src/backends/mpc/correlations/bundle.ts';
import type { RingProgram } from '../../src/backends/ring/index.ts';
import type { Channel } from '../../src/net/contract.ts';
import { connect } from '../../src/node/sockets.ts';
import type { TlsCredentials } from '../../src/node/tls.ts';
import { type Control, greet, receiveControl, sendControl } from '../../src/party/control.ts';
import { sessionOf } from '../../src/party/session.ts';
import { type BothStreams, streamOf } from './weights.ts';

/** The first words of a hostile party, and what it makes of what it hears. */

export const fresh = (bytes = 16): string => randomBytes(bytes).toString('hex');

/** A greeted connection under any role. */
export async function as(
  role: 'client' | 'server',
  address: string,
  peer: 'server' | 'dealer' | 'helper',
  credentials?: TlsCredentials,
): Promise<Channel> {
  const channel = await connect({ address, peer, timeoutMilliseconds: 4000, credentials });
  await greet(channel, role, [peer]);
  return channel;
}

/** Both streams of a session that a hostile party ordered on `asServer`, where it also joins as the client. */
export async function bothStreams(
  asServer: Channel,
  { address, credentials }: { readonly address: string; readonly credentials?: TlsCredentials | undefined },
  { agreed, ticket, program }: { readonly agreed: Control<'agreed'>; readonly ticket: string; readonly program: RingProgram },
): Promise<BothStreams> {
  const asClient = await as('client', address, 'dealer', credentials);
  await sendControl(asClient, { type: 'join', bundle: agreed.bundle, program: agreed.program, ticket });
  const layout = materialLayout(program);
  const [toClient, toServer] = await Promise.all([
    streamOf(asClient, 48 + layout.dealerToClientBytes),
    streamOf(asServer, 48 + layout.dealerToServerBytes),
  ]);
  await Promise.all([asClient.close(), asServer.close()]);
  const masters = { client: toClient.slice(0, 32), server: toServer.slice(0, 32) };
  return { session: sessionOf(program, agreed), masters, corrections: toServer.subarray(48) };
}

/** What a peer says next in place of what was hoped for: the refusal's code, or the end. */
export async function answerOf(channel: Channel): Promise<string> {
  return await receiveControl(channel, 'agreed').then(
    ({ type }) => type,
    (error: { code?: string; reason: string }) => error.code ?? error.reason,
  );
}
