// What a private run of a BERT-base would send, and how long it would take: from the program alone, without weights, in a second.
import { readFileSync } from 'node:fs';
import { forecastShape, networks, parseMachine } from 'sotto/cost';
import { parsePlan, parseShape } from 'sotto/models';

const packaged = (path) => JSON.parse(readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8'));
const shape = parseShape(packaged('shapes/bert-base.json'), 'bert-base');
const wan = networks.find(({ name }) => name === 'wan');
const { total, seconds } = forecastShape(shape, {
  plan: parsePlan('full-p8', shape),
  ring: { bits: 64, fraction: 16 },
  run: { promptTokens: 128, newTokens: 1 },
  timing: { network: wan, machine: parseMachine(packaged('artefacts/machine.json'), 'artefacts/machine.json') },
});
const megabytes = (total.online.clientToServerBytes + total.online.serverToClientBytes) / 1e6;
console.log(`online ${megabytes.toFixed(1)} MB, ${total.online.hops} hops, ${seconds.online.seconds.toFixed(1)} s on ${wan.name}`);
