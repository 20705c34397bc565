// The server and the dealer of a timed run, in a process of their own: what a message between two parties costs is measured with this.
import process from 'node:process';
import { dealerOffline, dealerSetup, memoryBundle, serverOffline, serverOnline, serverSetup } from '../backends/mpc/index.ts';
import { quantise } from '../backends/ring/index.ts';
import { memoryPair } from '../net/memory.ts';
import { connect } from '../node/sockets.ts';
import { nodePlatform } from '../party/platform.ts';
import { barrier, calibrationPrograms, inputsOf, type PeerOrder } from './machine-programs.ts';

const { number, ring, addresses, runs } = JSON.parse(process.argv[2]!) as PeerOrder;
const { program } = calibrationPrograms()[number]!;
const session = { program: quantise(program, ring), context: [] };
const platforms = { server: nodePlatform(ring.bits), dealer: nodePlatform(ring.bits) };
const timeoutMilliseconds = 60_000;
const client = await connect({ address: addresses.server, peer: 'client', timeoutMilliseconds });
const dealerClient = await connect({ address: addresses.dealer, peer: 'client', timeoutMilliseconds });
const [serverDealer, dealerServer] = memoryPair({ names: ['server', 'dealer'] });
const { weight } = inputsOf(program);
const [masked] = await Promise.all([
  dealerSetup(platforms.dealer, session, { server: dealerServer }),
  serverSetup(platforms.server, session, { client, dealer: serverDealer }, weight),
]);
for (let run = 0; run < runs; run++) {
  const bundle = memoryBundle();
  await Promise.all([
    dealerOffline(platforms.dealer, session, { client: dealerClient, server: dealerServer }, masked),
    serverOffline(platforms.server, session, { client, dealer: serverDealer }, bundle.sink),
  ]);
  await barrier(client);
  await serverOnline(platforms.server, session, { channel: client, bundle: bundle.source, weight });
}
await Promise.all([client.close(), dealerClient.close()]);
