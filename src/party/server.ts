import type { Setting } from '../backends/cost/index.ts';
import type { TlsFiles } from '../node/tls.ts';
import { openPolicy } from './asking.ts';
import type { Measuring } from './calibration.ts';
import type { LinkToken } from './link-token.ts';
import { OneRun, oneRunTracing, oneSeat } from './one-run.ts';
import type { RoleReport } from './report.ts';
import { standServer } from './serve.ts';

/** A server of one run. */
export interface ServerOptions {
  readonly model: string;
  readonly listen: string;
  /** Where the dealer waits, or the helper. */
  readonly dealer: string;
  readonly setting?: Setting | undefined;
  /** Where bundles and claims are kept. */
  readonly state: string;
  readonly timeoutMilliseconds: number;
  /** For `tls:` addresses: the certificates of this party and its authority. */
  readonly tls?: TlsFiles | undefined;
  /** For a dealer on a plain address. */
  readonly linkToken?: LinkToken | undefined;
  /** Pages of which origins may come to `ws:` and `wss:` addresses; none where absent, any for `*`. */
  readonly origins?: readonly string[] | undefined;
  /** Once it listens, with the port that the system chose. */
  readonly onListening?: (address: string) => void;
  /** How a model is measured that was never calibrated. */
  readonly measuring?: Measuring | undefined;
  /** Aborted once nobody comes any more: the server then ends with the session that it is in, or with what the last visitor met. */
  readonly nobodyElse?: AbortSignal | undefined;
}

/**
 * One private run as the server: owns the weights, learns the run's shape and when a text ends, and nothing of its content. A standing server
 * with one seat, for the first client that asks for a run and gets one; it ends as that run ends. Throws a `peer` error where none has come in time.
 */
export async function runServer(options: ServerOptions): Promise<RoleReport> {
  const { timeoutMilliseconds, setting = 'dealer', nobodyElse } = options;
  const run = new OneRun(setting);
  const service = await standServer(
    {
      ...oneSeat(timeoutMilliseconds),
      ...options,
      setting,
      policy: openPolicy,
      listen: [options.listen],
      prepare: { count: 0, shapes: [] },
      tracing: oneRunTracing(timeoutMilliseconds),
    },
    run,
  );
  options.onListening?.(service.addresses.join(','));
  if (nobodyElse?.aborted) run.nobodyElse();
  nobodyElse?.addEventListener('abort', () => run.nobodyElse());
  return await run.outcome(service, timeoutMilliseconds);
}
