import { describe, expect, it } from 'vitest';
import { memoryPair } from '../../src/net/memory.ts';
import { attending } from '../../src/party/attend.ts';
import { heedingRefusals, refuse } from '../../src/party/control.ts';

const never = (): Promise<never> => new Promise(() => {});
const pairs = () => {
  const [client, serverClient] = memoryPair({ names: ['client', 'server'] });
  const [dealer, serverDealer] = memoryPair({ names: ['dealer', 'server'] });
  return { client, dealer, own: { client: heedingRefusals(serverClient), dealer: heedingRefusals(serverDealer) } };
};

describe('who waits for one party while another one may go', () => {
  it('ends as soon as that one goes, with its name, though the first is there and silent', async () => {
    const { client, own } = pairs();
    const waiting = attending(own.client, (attention) => attention.guarded(own.dealer).receive());
    await client.close();
    await expect(waiting).rejects.toMatchObject({ kind: 'peer', place: { party: 'client' } });
  });

  it('says the reason that it gave before it went', async () => {
    const { client, own } = pairs();
    const waiting = attending(own.client, (attention) => attention.guard(never()));
    await refuse(client, { code: 'failed', party: 'dealer' });
    await client.close();
    await expect(waiting).rejects.toMatchObject({ kind: 'peer', reason: 'refused: it was let down by party dealer' });
  });

  it('gets what it waited for, and afterwards everything that the other one said before it went', async () => {
    const { client, dealer, own } = pairs();
    const waiting = attending(own.client, (attention) => attention.guarded(own.dealer).receive());
    await client.send(7, Uint8Array.of(1, 2));
    await dealer.send(3, Uint8Array.of(9));
    expect(await waiting).toEqual({ kind: 3, payload: Uint8Array.of(9) });
    await client.close();
    await own.client.gone;
    await new Promise((resolve) => setImmediate(resolve));
    expect(await own.client.receive()).toEqual({ kind: 7, payload: Uint8Array.of(1, 2) });
  });
});
