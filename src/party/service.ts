import type { Channel } from '../net/contract.ts';
import { plainBeyondThisMachine } from '../node/sockets.ts';
import type { TlsCredentials, TlsFiles } from '../node/tls.ts';
import type { Limits } from './admission.ts';
import type { Control } from './control.ts';
import { type Doors, openDoors } from './doors.ts';
import type { Log } from './log.ts';
import { openMonitor } from './monitor.ts';
import type { Sessions } from './sessions.ts';

/** What standing parties are told alike. */
export interface ServiceOptions {
  readonly listen: readonly string[];
  readonly limits: Limits;
  /** How long one receive or one send waits for a peer that is known. */
  readonly timeoutMilliseconds: number;
  /** How long a stranger has to become known. */
  readonly handshakeMilliseconds: number;
  readonly maximumSessionMilliseconds: number;
  readonly tls?: TlsFiles | undefined;
  /** Pages of which origins may come to `ws:` and `wss:` addresses; none where absent, any for `*`. */
  readonly origins?: readonly string[] | undefined;
  /** `host:port` for health and metrics; none without it. */
  readonly metrics?: string | undefined;
  readonly log: Log;
  /** How many lines of the log nobody will read. */
  readonly lostLines?: (() => number) | undefined;
}

export const plainWarning = 'neither encrypted nor authenticated, and not of this machine alone: use tls: or wss:';

/** A party that stands. */
export interface Service {
  readonly addresses: readonly string[];
  readonly metricsAddress: string | undefined;
  /** Admits nobody more, gives sessions so long to end, ends the rest with a reason, and closes. Bundles of ended sessions are burned. */
  drain(milliseconds: number): Promise<void>;
}

export interface Standing {
  readonly role: Control<'hello'>['role'];
  readonly peers: readonly ('client' | 'server')[];
  readonly credentials: TlsCredentials | undefined;
  readonly sessions: Sessions;
  /** How long one receive or one send waits for a peer that comes; as for any other where absent. */
  readonly patienceMilliseconds?: number | undefined;
  readonly arrived: (channel: Channel, hello: Control<'hello'>) => Promise<void>;
  readonly unready: () => string | null;
  /** Where it goes itself. */
  readonly connects?: readonly string[];
  /** After the last session. */
  readonly close: () => Promise<void>;
}

/** Opens the doors and the monitor of a party, which then stands until it is drained. */
export async function stand(options: ServiceOptions, standing: Standing): Promise<Service> {
  const { log, listen, handshakeMilliseconds } = options;
  const {
    sessions,
    credentials,
    role,
    peers,
    patienceMilliseconds: timeoutMilliseconds = options.timeoutMilliseconds,
  } = standing;
  let monitor: Awaited<ReturnType<typeof openMonitor>> | undefined;
  let doors: Doors | undefined;
  try {
    const unready = (): string | null => sessions.admission.refusal()?.reason ?? standing.unready();
    if (options.metrics !== undefined)
      monitor = await openMonitor({ address: options.metrics, metrics: sessions.metrics.registry, unready });
    doors = await openDoors({
      ...{ addresses: listen, role, peers, credentials, handshakeMilliseconds, timeoutMilliseconds, origins: options.origins },
      arrived: async (channel, hello) => {
        sessions.metrics.connections.add({ outcome: `${hello.role} known` });
        await standing.arrived(channel, hello);
      },
      failed: (error) => sessions.strange(error),
    });
  } catch (error) {
    await monitor?.close();
    await standing.close();
    throw error;
  }
  for (const address of doors.addresses) log('info', 'listening', { address });
  for (const address of [...doors.addresses, ...(standing.connects ?? [])])
    if (plainBeyondThisMachine(address)) log('warn', 'plain-address', { address, reason: plainWarning });
  if (monitor !== undefined) log('info', 'metrics', { address: monitor.address });
  let drained: Promise<void> | undefined;
  return {
    addresses: doors.addresses,
    metricsAddress: monitor?.address,
    drain(milliseconds) {
      drained ??= (async () => {
        log('info', 'draining', { count: sessions.admission.active, seconds: milliseconds / 1000 });
        // The doors stay open meanwhile, so that who comes is told why it must go.
        await sessions.drain(milliseconds);
        await doors.close();
        await standing.close();
        await monitor?.close();
        log('info', 'ended');
      })();
      return drained;
    },
  };
}
