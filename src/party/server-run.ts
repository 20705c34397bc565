import type { ServerRun } from '../backends/mpc/index.ts';
import { SottoError } from '../errors/index.ts';
import type { Channel, Frame } from '../net/contract.ts';
import { controlFrame, parseControl } from './control.ts';
import type { ServedModel } from './model.ts';
import { firstWords, watchFirst } from './report.ts';

/** The client ended the text before the run's length: no failure. */
export class TextEnded extends Error {
  readonly tokens: number;
  constructor(tokens: number) {
    super(`the text ended after ${tokens} tokens`);
    this.tokens = tokens;
  }
}

/** The server's side of one run with a client: what it reads, and how the client may end a text. `saw` tells the first words that came. */
export function serverRun(client: Channel, { weight }: ServedModel): { run: Omit<ServerRun, 'bundle'>; saw: () => string } {
  let saw = '';
  let revealed = 0;
  const run = {
    channel: watchFirst(client, (payload) => {
      saw = firstWords(payload);
    }),
    weight,
    interrupt: (frame) => interruption(frame, revealed),
    observe: (protocol) => ({
      ...protocol,
      reveal: (node, x) => {
        revealed++;
        return protocol.reveal(node, x);
      },
    }),
  } satisfies Omit<ServerRun, 'bundle'>;
  return { run, saw: () => saw };
}

/** A client may stop after any token that it got, and must say which. */
function interruption(frame: Frame, revealed: number): Error {
  const fault = (reason: string): SottoError =>
    new SottoError('peer', reason, { place: { party: 'client' }, remedy: 'run the same version on both sides' });
  if (frame.kind !== controlFrame) return fault(`a frame of kind ${frame.kind} in the middle of a run`);
  const { tokens } = parseControl(frame.payload, 'client', 'stop');
  if (tokens !== revealed) return fault(`stopped after ${tokens} tokens where ${revealed} were opened`);
  return new TextEnded(tokens);
}
