import { SottoError } from '../errors/index.ts';
import { startThread } from '../node/thread.ts';
import type { Metrics } from './metrics.ts';
import type { FromMonitor, MonitorOrder, Report } from './monitor-worker.ts';

export interface MonitorOptions {
  /** `host:port`; port 0 lets the system choose. */
  readonly address: string;
  readonly metrics: Metrics;
  /** Why the party cannot take a session now; null where it can. */
  readonly unready: () => string | null;
}

/** How often the party's thread says that it lives, where nobody asks. */
const heartbeatMilliseconds = 1000;
/** Longer than any piece of work that a party does in one go: who says nothing for so long hangs. */
const busyMilliseconds = 60_000;
/** A monitor holds one report and a few requests. */
const resourceLimits = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 8 };

/**
 * Health and metrics over HTTP, on an address and in a thread of their own: `/healthz` (the party's thread has said something in the last minute),
 * `/readyz` (it would take a session), `/metrics`. They answer while the party computes, with what its thread said last.
 */
export async function openMonitor(options: MonitorOptions): Promise<{ address: string; close: () => Promise<void> }> {
  const parts = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(options.address);
  const port = Number(parts?.[3]);
  if (!parts || port > 65535)
    throw new SottoError('usage', `${options.address} is no address for metrics`, {
      place: { field: '--metrics' },
      remedy: 'write host:port, such as 127.0.0.1:9100',
    });
  const report = (): Report => ({ metrics: options.metrics.render(), unready: options.unready() });
  const names = { address: options.address, place: { field: '--metrics' } };
  const order: MonitorOrder = { host: (parts[1] ?? parts[2])!, port, names, busyMilliseconds, report: report() };
  const thread = startThread(import.meta.url, 'monitor-worker', { workerData: order, resourceLimits });
  const beat = setInterval(() => thread.postMessage(report()), heartbeatMilliseconds);
  const close = async (): Promise<void> => {
    clearInterval(beat);
    await thread.terminate();
  };
  try {
    const address = await new Promise<string>((resolve, reject) => {
      thread.on('message', (message: FromMonitor) => {
        if (message.type === 'wanted') thread.postMessage(report());
        else if (message.type === 'listening') resolve(message.address);
        else {
          const cause = Object.assign(new Error(message.code), { code: message.code });
          reject(new SottoError('resource', message.reason, { place: names.place, remedy: message.remedy, cause }));
        }
      });
      thread.on('error', reject);
    });
    return { address, close };
  } catch (error) {
    await close();
    throw error;
  }
}
