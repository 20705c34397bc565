// The three parties of a private run, each with connections of its own. They are in one process here, and nothing but the addresses is shared:
// on three hosts each part stands in a program of its own, with `tls:` addresses and certificates (`sotto certificates` makes a set to try).
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { modelManifestHash, runClient, runDealer, runServer } from 'sotto/mpc';

const newTokens = Number(process.argv[2] ?? 8);
const model = new URL('../../artefacts/stories-polynomial', import.meta.url).pathname;
const timeoutMilliseconds = 60_000;
// Where parties keep which correlations they have used, for ever; here for as long as the example runs.
const state = mkdtempSync(join(tmpdir(), 'sotto-example-'));
const listening = (start) => new Promise((resolve) => start(resolve));

let dealerDone;
const dealer = await listening((onListening) => {
  dealerDone = runDealer({ listen: 'tcp:127.0.0.1:0', timeoutMilliseconds, onListening });
});
let serverDone;
const server = await listening((onListening) => {
  const own = { model, listen: 'tcp:127.0.0.1:0', dealer, state: join(state, 'server') };
  serverDone = runServer({ ...own, timeoutMilliseconds, onListening });
});
let tokenizer;
const onPrompt = (_, ofModel) => {
  tokenizer = ofModel;
};
try {
  const client = await runClient({
    ...{ server, dealer, state: join(state, 'client'), timeoutMilliseconds },
    // From whoever vouches for the model: a server that shows another one is refused.
    manifestHash: await modelManifestHash(model),
    task: { kind: 'generate', prompt: { text: 'Once upon a time' }, newTokens, onPrompt },
  });
  const [serverReport] = await Promise.all([serverDone, dealerDone]);
  console.log('the client reads', tokenizer.decode([...client.promptIds, ...client.newIds]));
  console.log('the server saw', serverReport.saw);
} finally {
  rmSync(state, { recursive: true });
}
