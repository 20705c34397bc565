import { rmSync } from 'node:fs';
import { SottoError } from '../errors/index.ts';
import { sampler } from '../models/index.ts';
import { streamingDecoder } from '../models/tokenizer.ts';
import { runClient } from './client-node.ts';
import { runDealer } from './dealer.ts';
import { embeddingFrom } from './embedding.ts';
import type { RoleEvent, RoleOrder } from './launch.ts';
import type { RoleReport } from './report.ts';
import { runServer } from './server.ts';

/** The main module of a role's process: one order from the launcher, events back, and an end. */
const tell = (event: RoleEvent): Promise<void> => new Promise((resolve) => process.send?.(event, () => resolve()));

async function obey(order: RoleOrder): Promise<RoleReport> {
  const onListening = (address: string): void => void tell({ type: 'listening', address });
  if (order.role === 'server') {
    const nobodyElse = new AbortController();
    // The launcher's second and last word.
    process.once('message', () => nobodyElse.abort());
    return await runServer({ ...order, onListening, nobodyElse: nobodyElse.signal });
  }
  if (order.role !== 'client') return await runDealer({ ...order, setting: order.role, onListening });
  const { task } = order;
  const onLogits = order.sendLogits ? { onLogits: (logits: Float64Array) => void tell({ type: 'logits', logits }) } : {};
  if (task.kind === 'classify') {
    if (!('image' in task)) return await runClient({ ...order, ...onLogits, task });
    // Only who reads a picture loads the decoders for it.
    const { readImage } = await import('./image.ts');
    return await runClient({ ...order, ...onLogits, task: { kind: 'classify', image: await readImage(task.image) } });
  }
  let decoder: ReturnType<typeof streamingDecoder> | undefined;
  const report = await runClient({
    ...order,
    ...onLogits,
    task: {
      kind: 'generate',
      prompt: task.prompt,
      newTokens: task.newTokens,
      reveal: task.reveal,
      earlyStop: task.earlyStop,
      ...(order.embedding === undefined ? {} : { embedding: embeddingFrom(order.embedding) }),
      ...(task.sampling === undefined ? {} : { sample: sampler(task.sampling) }),
      onPrompt: (ids, tokenizer) => {
        decoder = streamingDecoder(tokenizer);
        void tell({ type: 'text', text: ids.map((id) => decoder!.push(id)).join('') });
      },
      onToken: (id) => void tell({ type: 'text', text: decoder!.push(id) }),
    },
  });
  await tell({ type: 'text', text: decoder?.end() ?? '' });
  return report;
}

process.once('message', (order: RoleOrder) => {
  // Without its launcher nobody waits for this run, or would erase what it stored.
  process.once('disconnect', () => {
    if ('state' in order) rmSync(order.state, { recursive: true, force: true });
    process.exit(1);
  });
  obey(order)
    .then((report) => tell({ type: 'report', report }))
    .catch((error: unknown) => {
      const known = error instanceof SottoError;
      const { kind, reason, place, remedy } = known
        ? error
        : {
            kind: 'usage' as const,
            reason: String((error as Error)?.stack ?? error),
            place: {},
            remedy: 'this is a defect of sotto',
          };
      return tell({ type: 'error', error: { kind, reason, place, remedy } });
    })
    .finally(() => process.exit());
});
