import { performance } from 'node:perf_hooks';
import type { Alarm, Clock } from '../net/contract.ts';

/** The process's clock. `sleep` is exact to some microseconds: it yields to the event loop through its last two milliseconds. */
export const systemClock: Clock = {
  now: () => performance.now(),
  async sleep(milliseconds) {
    const until = performance.now() + milliseconds;
    if (milliseconds > 2) await new Promise<void>((resolve) => setTimeout(resolve, milliseconds - 2));
    while (performance.now() < until) await new Promise<void>((resolve) => setImmediate(resolve));
  },
};

/** Alarms by the process's timers. */
export const systemAlarm: Alarm = (milliseconds, expired) => {
  const timer = setTimeout(expired, milliseconds);
  return () => clearTimeout(timer);
};
