import { BlockList, isIP } from 'node:net';
import { Agent, type Dispatcher, fetch, ProxyAgent, type Response } from 'undici';
import { SottoError } from '../errors/index.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** A variable by its usual name in lower case, which wins, or in upper case. */
const variable = (environment: Environment, name: string): string =>
  (environment[name] ?? environment[name.toUpperCase()] ?? '').trim();

/**
 * The proxy that an address is asked through, as curl and the hub's own tools read the environment: `https_proxy` or `http_proxy` by
 * the address's scheme, else `all_proxy`; none where `no_proxy` names the host. Throws a `usage` error for a proxy that is no address.
 */
export function proxyOf(url: URL, environment: Environment): URL | null {
  const name = url.protocol === 'https:' ? 'https_proxy' : 'http_proxy';
  const given = variable(environment, name) || variable(environment, 'all_proxy');
  if (given === '' || isExempt(url, variable(environment, 'no_proxy'))) return null;
  const address = /^[a-z][a-z0-9+.-]*:\/\//i.test(given) ? given : `http://${given}`;
  const proxy = URL.canParse(address) ? new URL(address) : null;
  if (proxy !== null && /^(https?|socks5):$/.test(proxy.protocol)) return proxy;
  // A proxy's address may hold a password: it is not repeated.
  throw new SottoError('usage', 'the proxy is no http, https or socks5 address', {
    place: { field: name.toUpperCase() },
    remedy: 'give an address such as http://proxy.example:3128',
  });
}

/** Whether a list such as `localhost,.corp.example,10.0.0.0/8,hub:8080` names the host. A name stands for its subdomains too. */
function isExempt(url: URL, list: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return list
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .some((entry) => {
      if (entry === '*') return true;
      const [, bracketed, plain, wantedPort] = /^(?:\[([^\]]*)\]|([^:]*|.*:.*:.*?))(?::(\d+))?$/.exec(entry.toLowerCase()) ?? [];
      if (wantedPort !== undefined && wantedPort !== port) return false;
      const wanted = (bracketed ?? plain ?? '').replace(/^\*?\./, '');
      if (isIP(host) !== 0) return wanted === host || isWithin(host, wanted);
      return wanted !== '' && (host === wanted || host.endsWith(`.${wanted}`));
    });
}

/** Whether an address lies in a range such as 10.0.0.0/8. */
function isWithin(host: string, range: string): boolean {
  const [base, bits, ...rest] = range.split('/');
  const kind = isIP(base ?? '');
  if (rest.length > 0 || bits === undefined || !/^\d{1,3}$/.test(bits) || kind === 0 || kind !== isIP(host)) return false;
  if (Number(bits) > (kind === 4 ? 32 : 128)) return false;
  const family = kind === 4 ? 'ipv4' : 'ipv6';
  const list = new BlockList();
  list.addSubnet(base!, Number(bits), family);
  return list.check(host, family);
}

export interface Asked {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** The way to servers, directly or through the environment's proxies. */
export class Routes {
  readonly #environment: Environment;
  readonly #dispatchers = new Map<string, Dispatcher>();

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** One request, whose redirects are the caller's. */
  async fetch(url: URL, { method, headers, signal }: Asked): Promise<Response> {
    return await fetch(url.href, { method, headers, signal, redirect: 'manual', dispatcher: this.#dispatcher(url) });
  }

  /** The proxy for an address as errors may print it, without user and password. */
  through(url: URL): string | null {
    return proxyOf(url, this.#environment)?.host ?? null;
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    await Promise.all([...this.#dispatchers.values()].map((dispatcher) => dispatcher.destroy()));
    this.#dispatchers.clear();
  }

  #dispatcher(url: URL): Dispatcher {
    const proxy = proxyOf(url, this.#environment);
    const key = proxy?.href ?? '';
    const kept = this.#dispatchers.get(key);
    if (kept !== undefined) return kept;
    // Plain addresses are asked of the proxy itself, as other tools do; a tunnel is for those with TLS.
    const made = proxy === null ? new Agent() : new ProxyAgent({ uri: proxy.href, proxyTunnel: false });
    this.#dispatchers.set(key, made);
    return made;
  }
}

/** Why a connection failed, and whether another try is of use at once. */
export interface Cause {
  readonly reason: string;
  readonly remedy: string;
  readonly lasting: boolean;
}

/** Codes of certificates that Node and OpenSSL do not take. */
const certificate = /^(CERT_|ERR_TLS_CERT|UNABLE_TO_(VERIFY|GET)|DEPTH_ZERO|SELF_SIGNED|HOSTNAME_MISMATCH|INVALID_CA)/;
const usualRemedy = 'check the network and start again: what has arrived is kept';

/** What a failed request says of its connection: its host, the proxy it went through, and the system's own word for it. */
export function causeOf(failure: unknown, url: URL, proxy: string | null): Cause {
  const error = deepest(failure);
  const code = String(error.code ?? '');
  const through = proxy === null ? '' : ` through the proxy ${proxy}`;
  const host = error.hostname ?? url.hostname;
  const lasting = (reason: string, remedy: string): Cause => ({ reason: `${reason} (${code})${through}`, remedy, lasting: true });
  const passing = (reason: string): Cause => ({ reason: `${reason} (${code})${through}`, remedy: usualRemedy, lasting: false });
  if (code === 'ENOTFOUND')
    return lasting(`the name ${host} is not known`, 'check the name, the network, and HTTPS_PROXY where a proxy leads outside');
  if (code === 'EAI_AGAIN') return passing(`the name ${host} cannot be looked up`);
  if (certificate.test(code))
    return lasting(
      `the certificate of ${url.hostname} is not trusted`,
      'check the address and the clock; name an authority of your own by NODE_EXTRA_CA_CERTS',
    );
  if (code === 'ECONNREFUSED') {
    const where = error.port === undefined ? url.host : `${error.address}:${error.port}`;
    return lasting(`${where} refuses connections`, 'check the address and port, and that the server or proxy runs');
  }
  if (/^(EPROTO|ERR_SSL_)/.test(code))
    return lasting(`${url.host} does not speak TLS as it should`, 'check the endpoint: http or https');
  if (code === 'ENETUNREACH' || code === 'EHOSTUNREACH') return passing(`there is no way to ${host}`);
  if (code === 'ETIMEDOUT' || code === 'UND_ERR_CONNECT_TIMEOUT') return passing(`${host} does not answer`);
  const refused = /^Proxy response \((\d+)\)/.exec(error.message)?.[1];
  if (refused !== undefined)
    return {
      reason: `the proxy ${proxy} refuses the way to ${url.host} with status ${refused}`,
      remedy: refused === '407' ? 'give user and password in the address of HTTPS_PROXY' : 'check HTTPS_PROXY and NO_PROXY',
      lasting: true,
    };
  return { reason: `the connection broke${code === '' ? '' : ` (${code})`}${through}`, remedy: usualRemedy, lasting: false };
}

interface SystemError {
  readonly message: string;
  readonly code?: string | undefined;
  readonly hostname?: string | undefined;
  readonly address?: string | undefined;
  readonly port?: number | undefined;
}

/** The innermost cause: of several addresses tried, the first one's. */
function deepest(failure: unknown): SystemError {
  let error = failure as Error & { errors?: unknown[] };
  for (let depth = 0; depth < 8; depth++) {
    const next = error.cause ?? error.errors?.[0];
    if (!(next instanceof Error)) break;
    error = next;
  }
  return error as SystemError;
}
