import type { Setting } from '../backends/cost/index.ts';
import type { TlsFiles } from '../node/tls.ts';
import { standDealer } from './deal-service.ts';
import type { LinkToken } from './link-token.ts';
import { OneRun, oneRunTracing, oneSeat } from './one-run.ts';
import type { RoleReport } from './report.ts';

/** A dealer, or helper, of one run. */
export interface DealerOptions {
  readonly listen: string;
  /** `helper`: makes the correlations while the run goes on; `dealer` where absent. */
  readonly setting?: Setting | undefined;
  readonly timeoutMilliseconds: number;
  /** For `tls:` addresses: the certificates of this party and its authority. */
  readonly tls?: TlsFiles | undefined;
  /** For servers at a plain address: what both know; the usual file where absent. */
  readonly linkToken?: LinkToken | undefined;
  /** How long the server may take to come, which loads its weights first; the timeout where it is not given. */
  readonly startMilliseconds?: number;
  /** Pages of which origins may come to `ws:` and `wss:` addresses; none where absent, any for `*`. */
  readonly origins?: readonly string[] | undefined;
  /** Once it listens, with the port that the system chose. */
  readonly onListening?: (address: string) => void;
}

/**
 * One private run as the dealer: learns the public configuration and the lengths, holds masked weights and all pads, and leaves before
 * the run: it has no channel between client and server and closes its own before either sends a byte of the run. As the helper it does
 * the same while the run goes on, and leaves when its last message is sent or the text has ended. A standing dealer with one seat, for the
 * server that first shows that it is one, and the client of its order.
 */
export async function runDealer(options: DealerOptions): Promise<RoleReport> {
  const { timeoutMilliseconds, setting = 'dealer', startMilliseconds = timeoutMilliseconds } = options;
  const run = new OneRun();
  const service = await standDealer(
    {
      ...oneSeat(timeoutMilliseconds),
      ...options,
      setting,
      listen: [options.listen],
      maximumMaskedBytes: Number.MAX_SAFE_INTEGER,
      tracing: oneRunTracing(timeoutMilliseconds),
    },
    run,
  );
  options.onListening?.(service.addresses.join(','));
  run.expect('server', startMilliseconds);
  return await run.outcome(service, timeoutMilliseconds);
}
