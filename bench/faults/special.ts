import { cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CertificateSet, makeCertificates, writeCertificates } from '../../src/node/certificates.ts';
import type { TlsFiles } from '../../src/node/tls.ts';
import { openBundleStore } from '../../src/party/bundles.ts';
import { controlFrame } from '../../src/party/control.ts';
import { type Role, runClient, runDealer, runServer } from '../../src/party/index.ts';
import { type Outcome, runParties } from '../../test/party/relay.ts';
import type { Fault } from './plan.ts';
import { type Bed, partiesOf, stateOf } from './strike.ts';
import type { Seen } from './verdict.ts';

/** Faults that are no frame's and no process's: certificates that are not right, and material that comes back. */

export interface Certificates {
  readonly good: string;
  readonly foreign: string;
  readonly expired: string;
  readonly early: string;
}

const day = 86_400_000;
export async function certificatesIn(root: string, now: Date): Promise<Certificates> {
  const written = async (name: string, at: Date): Promise<string> => {
    const set: CertificateSet = await makeCertificates({ now: at, days: 2 });
    const folder = join(root, name);
    writeCertificates(folder, set);
    return folder;
  };
  return {
    good: await written('good', now),
    foreign: await written('foreign', now),
    expired: await written('expired', new Date(now.getTime() - 10 * day)),
    early: await written('early', new Date(now.getTime() + 10 * day)),
  };
}

function filesOf(certificates: Certificates, role: Role, fault: Extract<Fault, { kind: 'certificate' }>): TlsFiles {
  const authority = join(certificates.good, 'authority.pem');
  const files = (folder: string, name: string): TlsFiles => ({
    authority,
    certificate: join(folder, `${name}.pem`),
    key: join(folder, `${name}-key.pem`),
  });
  if (role !== fault.victim) return files(certificates.good, role);
  switch (fault.wrong) {
    case 'authority':
      return files(certificates.foreign, role);
    case 'role':
      return files(certificates.good, role === 'client' ? 'server' : 'client');
    case 'none':
      return { authority };
    default:
      return files(certificates[fault.wrong], role);
  }
}

const ended = <T>(work: Promise<T>): Promise<Outcome<T>> =>
  work.then(
    (report) => ({ report, at: performance.now() }),
    (error) => ({ error, at: performance.now() }),
  );

/** A run over TLS in which one party's certificate is wrong. */
export async function certificateFault(
  bed: Bed,
  fault: Extract<Fault, { kind: 'certificate' }>,
  certificates: Certificates,
): Promise<Seen> {
  const { variant, number } = fault;
  const directory = bed.directory(number);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const { setting, ring } = variant;
  const { timeoutMilliseconds } = bed;
  const common = { setting, timeoutMilliseconds };
  const tls = (role: Role): TlsFiles => filesOf(certificates, role, fault);
  const tokens: number[] = [];
  const logits: Float64Array[] = [];
  /** The address, and how it ended: the address is one that nobody serves where the role does not get so far. */
  const waiting = (start: (onListening: (address: string) => void) => Promise<object>) =>
    new Promise<{ address: string; end: Promise<Outcome<object>> }>((resolve) => {
      const end: Promise<Outcome<object>> = ended(start((address) => resolve({ address, end })));
      void end.then(() => resolve({ address: nobody, end }));
    });
  const listen = 'tls:127.0.0.1:0';
  const dealer = await waiting((onListening) =>
    runDealer({ ...common, listen, tls: tls(setting), startMilliseconds: 5 * timeoutMilliseconds, onListening }),
  );
  const state = (role: 'client' | 'server'): string => stateOf(directory, role);
  const model = variant.ending ? bed.models.ending : bed.models.whole;
  const nobodyElse = new AbortController();
  const server = await waiting((onListening) =>
    runServer({
      ...{ ...common, listen, dealer: dealer.address, model, state: state('server'), tls: tls('server'), onListening },
      nobodyElse: nobodyElse.signal,
    }),
  );
  // From here on all three are there, or have ended.
  const struckAt = performance.now();
  const client = ended(
    runClient({
      rangeFlags: false,
      ...common,
      server: server.address,
      dealer: dealer.address,
      state: state('client'),
      ring,
      tls: tls('client'),
      task: {
        kind: 'generate',
        prompt: { ids: bed.promptIds },
        newTokens: bed.newTokens,
        onToken: (id) => void tokens.push(id),
      },
      onLogits: (values) => void logits.push(values),
    }),
  );
  const ends = [
    { role: 'client' as const, outcome: await client.finally(() => nobodyElse.abort()) },
    { role: 'server' as const, outcome: await server.end },
    { role: setting, outcome: await dealer.end },
  ];
  return { ends, tokens, logits, stored: [], culprits: [fault.victim], struckAt };
}
const nobody = 'tls:127.0.0.1:9';

/**
 * A run whose state is copied away while it goes on and put back when it is over: there is nothing in it but the names of claims. Then
 * another run, in which the dealer names the old bundle again, or a fresh one beside it.
 */
export async function replayFault(bed: Bed, fault: Extract<Fault, { kind: 'replay' }>): Promise<Seen> {
  const directory = bed.directory(fault.number);
  const options = { ...partiesOf(bed, fault.variant, directory), timeoutMilliseconds: 4 * bed.timeoutMilliseconds };
  const roles = ['client', 'server'] as const;
  const kept = (role: string): string => join(directory, `kept-${role}`);
  let copied = false;
  const first = await runParties({
    ...options,
    onFrame: ({ kind }) => {
      if (copied || kind !== 1) return;
      copied = true;
      for (const role of roles) cpSync(stateOf(directory, role), kept(role), { recursive: true });
    },
  });
  if (first.client.error !== undefined) throw first.client.error;
  const [old = ''] = readdirSync(join(kept('client'), 'claims'));
  for (const role of roles) {
    for (const folder of ['bundles', 'spill'])
      if (readdirSync(join(kept(role), folder)).length > 0) throw new Error(`the ${role} had material on its disk`);
    cpSync(kept(role), stateOf(directory, role), { recursive: true });
    // A claim by hand, as by a party that was started again.
    const store = await openBundleStore(stateOf(directory, role), role);
    const refused = await store.claim(old, { program: '0'.repeat(64), ring: fault.variant.ring }).then(
      () => false,
      (error: Error) => /was claimed already/.test(error.message),
    );
    if (!refused) throw new Error('a used bundle was claimed again');
  }
  let fresh = '';
  const struckAt = performance.now();
  const again = await runParties({
    ...options,
    onFrame: ({ from, to, kind, payload }) => {
      if (!fault.named || kind !== controlFrame) return undefined;
      const message = JSON.parse(new TextDecoder().decode(payload));
      const encode = (changed: object) => ({
        kind,
        payload: new TextEncoder().encode(JSON.stringify({ ...message, ...changed })),
      });
      if (from === 'dealer' && message.type === 'agreed') {
        fresh = message.bundle;
        return encode({ bundle: old });
      }
      return to === 'dealer' && message.type === 'join' ? encode({ bundle: fresh }) : undefined;
    },
  });
  if (fault.named && again.client.error?.kind !== 'material')
    writeFileSync(join(directory, 'surprise'), String(again.client.error));
  return {
    ends: [
      { role: 'client', outcome: again.client },
      { role: 'server', outcome: again.server },
      { role: 'dealer', outcome: again.dealer },
    ],
    tokens: again.tokens,
    logits: again.logits,
    stored: roles.flatMap((role) => again.stored[role].map(({ state }) => ({ role, state }))),
    // The bundle's id is at fault, and no party's name.
    culprits: [],
    struckAt,
  };
}
