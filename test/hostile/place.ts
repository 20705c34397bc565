import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type DealServiceOptions, type ServeOptions, type Service, serveDealer, serveModel } from '../../src/party/index.ts';
import { logger } from '../../src/party/log.ts';

/** An honest dealer and an honest server that stand in this process: what the hostile programs of this folder are set on. */
export interface Honest {
  readonly dealer: Service;
  readonly server: Service;
  /** What both wrote to their logs. */
  readonly lines: Record<string, unknown>[];
  readonly end: () => Promise<void>;
}

export const honestLimits = { maximumSessions: 8, maximumWaiting: 4, maximumPromptTokens: 16, maximumNewTokens: 16 };

export async function honest(
  directory: string,
  model: string,
  options: { readonly server?: Partial<ServeOptions>; readonly dealer?: Partial<DealServiceOptions> } = {},
): Promise<Honest> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const lines: Record<string, unknown>[] = [];
  const common = {
    limits: honestLimits,
    timeoutMilliseconds: 8000,
    handshakeMilliseconds: 2000,
    maximumSessionMilliseconds: 60_000,
    metrics: '127.0.0.1:0',
    log: logger(
      'json',
      (line) => void lines.push(JSON.parse(line) as Record<string, unknown>),
      () => new Date(),
    ),
  };
  const dealer = await serveDealer({
    ...common,
    ...{ listen: ['tcp:127.0.0.1:0'], setting: 'dealer', state: join(directory, 'dealer') },
    ...{ maximumMaskedBytes: 2 ** 30, maximumBundles: 100, ...options.dealer },
  });
  const server = await serveModel({
    ...common,
    ...{ model, listen: ['tcp:127.0.0.1:0'], dealer: dealer.addresses[0]!, setting: 'dealer' },
    ...{ state: join(directory, 'server'), prepare: { count: 0, shapes: [] } },
    ...{ policy: { reveal: ['logits', 'token'] }, ...options.server },
  });
  const end = async (): Promise<void> => {
    await server.drain(0);
    await dealer.drain(0);
  };
  return { dealer, server, lines, end };
}
