/** Measured quantities in Prometheus's text format 0.0.4. Labels and values say how much and how long, never what. */

export type Labels = Readonly<Record<string, string>>;

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly samples: () => Iterable<readonly [suffix: string, labels: Labels, value: number]>;
}

export interface Counter {
  add(labels: Labels, amount?: number): void;
}

export interface Histogram {
  observe(labels: Labels, value: number): void;
}

/** Seconds of phases and sessions, from a hundredth to ten minutes. */
const secondBuckets = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 180, 600] as const;

export const textFormat = 'text/plain; version=0.0.4; charset=utf-8';

export class Metrics {
  readonly #families: Family[] = [];

  counter(name: string, help: string): Counter {
    const values = new Map<string, { labels: Labels; value: number }>();
    this.#families.push({
      ...{ name, help, type: 'counter' },
      samples: () => [...values.values()].map(({ labels, value }) => ['', labels, value] as const),
    });
    return {
      add(labels, amount = 1) {
        const key = JSON.stringify(labels);
        const found = values.get(key);
        if (found) found.value += amount;
        else values.set(key, { labels, value: amount });
      },
    };
  }

  /** A count that is kept elsewhere, read whenever somebody asks. */
  count(name: string, help: string, read: () => number): void {
    this.#families.push({ ...{ name, help, type: 'counter' }, samples: () => [['', {}, read()] as const] });
  }

  /** Read whenever somebody asks. */
  gauge(name: string, help: string, read: () => Iterable<readonly [Labels, number]>): void {
    this.#families.push({
      ...{ name, help, type: 'gauge' },
      samples: () => [...read()].map(([labels, value]) => ['', labels, value] as const),
    });
  }

  histogram(name: string, help: string): Histogram {
    const values = new Map<string, { labels: Labels; counts: number[]; sum: number }>();
    this.#families.push({
      ...{ name, help, type: 'histogram' },
      *samples() {
        for (const { labels, counts, sum } of values.values()) {
          let below = 0;
          for (const [at, bound] of secondBuckets.entries()) {
            below += counts[at]!;
            yield ['_bucket', { ...labels, le: String(bound) }, below] as const;
          }
          const all = below + counts.at(-1)!;
          yield ['_bucket', { ...labels, le: '+Inf' }, all] as const;
          yield ['_sum', labels, sum] as const;
          yield ['_count', labels, all] as const;
        }
      },
    });
    return {
      observe(labels, value) {
        const key = JSON.stringify(labels);
        const found = values.get(key) ?? { labels, counts: new Array<number>(secondBuckets.length + 1).fill(0), sum: 0 };
        values.set(key, found);
        const at = secondBuckets.findIndex((bound) => value <= bound);
        found.counts[at < 0 ? secondBuckets.length : at]!++;
        found.sum += value;
      },
    };
  }

  render(): string {
    const lines: string[] = [];
    for (const { name, help, type, samples } of this.#families) {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
      for (const [suffix, labels, value] of samples()) lines.push(`${name}${suffix}${labelText(labels)} ${value}`);
    }
    return `${lines.join('\n')}\n`;
  }
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(
    ([name, value]) => `${name}="${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`,
  );
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

/** What every standing party measures. */
export interface ServiceMetrics {
  readonly registry: Metrics;
  /** By task or purpose, and outcome: `done`, or the kind of the error that ended it. */
  readonly sessions: Counter;
  readonly sessionSeconds: Histogram;
  readonly phaseSeconds: Histogram;
  /** By phase, peer and direction, frame headers included. */
  readonly bytes: Counter;
  readonly refusals: Counter;
  /** Connections by what became of their handshake. */
  readonly connections: Counter;
  readonly bundles: Counter;
}

export function serviceMetrics(
  role: string,
  state: { active(): number; waiting(): number; draining(): boolean; lostLines(): number },
): ServiceMetrics {
  const registry = new Metrics();
  registry.gauge('sotto_role', 'Which party this is.', () => [[{ role }, 1]]);
  registry.gauge('sotto_sessions_active', 'Sessions that are served now.', () => [[{}, state.active()]]);
  registry.gauge('sotto_sessions_waiting', 'Peers that wait for a session.', () => [[{}, state.waiting()]]);
  registry.gauge('sotto_draining', '1 while the party is shutting down.', () => [[{}, Number(state.draining())]]);
  registry.gauge('sotto_resident_bytes', 'Memory of this process.', () => [[{}, process.memoryUsage.rss()]]);
  registry.count('sotto_log_lines_lost_total', 'Lines of the log that nobody reads.', state.lostLines);
  return {
    registry,
    sessions: registry.counter('sotto_sessions_total', 'Sessions that ended, by kind and outcome.'),
    sessionSeconds: registry.histogram('sotto_session_seconds', 'Seconds of whole sessions, by kind.'),
    phaseSeconds: registry.histogram('sotto_phase_seconds', 'Seconds of phases that ended well.'),
    bytes: registry.counter('sotto_bytes_total', 'Bytes of frames by phase, peer and direction.'),
    refusals: registry.counter('sotto_refusals_total', 'Peers that were turned away, by reason.'),
    connections: registry.counter('sotto_connections_total', 'Connections by what became of them.'),
    bundles: registry.counter('sotto_bundles_total', 'Bundles made ahead, by what happened to them.'),
  };
}
