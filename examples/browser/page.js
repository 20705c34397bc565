// The example page: one private text continued or classified, what it cost, and what each party saw. Everything private is in sotto-client.js.
import { connectClient } from './sotto-client.js';

const at = (id) => document.getElementById(id);
const show = (id, text) => {
  at(id).textContent = text;
};
const bytes = (count) =>
  count < 1000 ? `${count} B` : count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(1)} MB`;
const words = (hex) => (hex === '' ? '–' : hex.match(/.{1,16}/g).join(' '));

// `sotto demo --browser` says where its parties wait.
const settings = await fetch('settings.json').then(
  (answer) => (answer.ok ? answer.json() : {}),
  () => ({}),
);
for (const field of ['server', 'dealer', 'task']) if (settings[field]) at(field).value = settings[field];

function showTask() {
  const classifies = at('task').value === 'classify';
  at('length').hidden = classifies;
  at('second').hidden = !classifies;
  show('start', classifies ? 'Classify privately' : 'Continue privately');
}
at('task').addEventListener('change', showTask);
showTask();

const phases = ['connect', 'material', 'run', 'done'];
function enter(phase) {
  for (const item of at('phases').children) {
    const place = phases.indexOf(item.dataset.phase) - phases.indexOf(phase);
    item.className = place < 0 || phase === 'done' ? 'past' : place === 0 ? 'now' : '';
  }
}

function showTraffic({ server, dealer, serverSaw, clientSaw }) {
  show('bytes', bytes(server.sentBytes + server.receivedBytes));
  show('material', bytes(dealer.receivedBytes));
  show('server-saw', words(serverSaw));
  show('client-saw', words(clientSaw));
  show('client-bytes', `${bytes(server.sentBytes + dealer.sentBytes)} / ${bytes(server.receivedBytes + dealer.receivedBytes)}`);
  show('server-bytes', `${bytes(server.receivedBytes)} / ${bytes(server.sentBytes)}`);
  show('dealer-bytes', `${bytes(dealer.receivedBytes)} / ${bytes(dealer.sentBytes)}`);
}

function append(text, kind) {
  const span = document.createElement('span');
  span.className = kind;
  span.textContent = text;
  at('text').append(span);
}

async function start() {
  const [server, dealer] = [at('server').value, at('dealer').value];
  show('server-place', server);
  show('dealer-place', dealer);
  at('text').replaceChildren();
  at('problem').hidden = true;
  for (const id of ['pace', 'online']) show(id, '–');
  for (const id of ['done', 'hops']) show(id, '0');
  let began = 0;
  let tokens = 0;
  let phase = 'connect';
  enter(phase);
  // Of the model at the server that the page was set up for. At another one the first manifest is remembered.
  const pinned = server === settings.server && settings.manifestHash ? { manifestHash: settings.manifestHash } : {};
  const client = connectClient({ server, dealer, ...pinned });
  const onTraffic = (traffic) => {
    const next = traffic.serverSaw !== '' ? 'run' : traffic.dealer.receivedFrames > 0 ? 'material' : 'connect';
    if (next !== phase && next === 'run') began = performance.now();
    if (next !== phase) enter((phase = next));
    // Both directions; what is left open at the end is the last answer.
    showTraffic(traffic);
  };
  const words = at('prompt').value;
  const generate = () =>
    client.generate({
      prompt: words,
      newTokens: Number(at('tokens').value),
      onPrompt: (text) => append(text, 'asked'),
      onToken: (text) => {
        tokens++;
        append(text, 'token');
        show('done', tokens);
        show('pace', `${((performance.now() - began) / 1000 / tokens).toFixed(2)} s`);
      },
      onTraffic,
    });
  const classify = async () => {
    const pair = at('pair').value;
    for (const text of [words, pair]) if (text !== '') append(`${text} `, 'asked');
    const found = await client.classify({ text: words, ...(pair === '' ? {} : { pair }), onTraffic });
    append(found.name, 'token');
    return found;
  };
  const result = await (at('task').value === 'classify' ? classify() : generate());
  const { forecast, hops } = result.report;
  showTraffic(result.traffic);
  show('hops', hops);
  show('online', bytes(forecast.online.clientToServerBytes + forecast.online.serverToClientBytes));
  enter('done');
  return result;
}

at('request').addEventListener('submit', (event) => {
  event.preventDefault();
  at('start').disabled = true;
  // For who drives this page from outside.
  window.outcome = start()
    .then(({ text, promptIds, newIds, name, logits, report }) => ({ text, promptIds, newIds, name, logits, seconds: report.seconds }))
    .catch((error) => {
      // By the run's name the parties' logs say what they saw of it.
      const { place = {}, reason = String(error), remedy = '', run } = error;
      show('problem', `${place.party ? `${place.party}: ` : ''}${reason}${remedy ? `. ${remedy}` : ''}${run ? ` (run ${run})` : ''}`);
      at('problem').hidden = false;
      enter('');
      return { party: place.party, reason };
    })
    .finally(() => {
      at('start').disabled = false;
    });
});
