import { bytesToHex } from '@noble/hashes/utils.js';
import type { Setting } from '../backends/cost/index.ts';
import { onlineFrame } from '../backends/mpc/runner.ts';
import { SottoError } from '../errors/index.ts';
import { type SamplingOptions, type StreamingDecoder, sampler, streamingDecoder } from '../models/index.ts';
import type { Channel, ChannelCounters } from '../net/contract.ts';
import { runClientOn } from '../party/client.ts';
import type { ClientTask } from '../party/client-task.ts';
import { parseManifestHash } from '../party/known-manifests.ts';
import type { ClientReport } from '../party/report.ts';
import { pageStorage, storedManifests } from './manifests.ts';
import { type Picture, pageImage } from './picture.ts';
import { pagePlatform } from './platform.ts';
import { memoryStore } from './store.ts';
import { pageChannel } from './websocket.ts';

export { SottoError } from '../errors/index.ts';
export { loadImage, type RgbImage } from '../pictures/index.ts';
export type { Picture } from './picture.ts';

/** Where the other parties wait (`wss://host[:port][/path]`, or `ws://` on one machine), and how this one computes. */
export interface ClientSettings {
  readonly server: string;
  /** Or the helper. It must belong to somebody else than the server. */
  readonly dealer: string;
  /** `dealer` where absent: material comes before the run. `helper`: while it goes on. */
  readonly setting?: Setting;
  /** 64 bits with 16 of fraction where absent. */
  readonly ring?: { readonly bits: number; readonly fraction: number };
  /** How long each wait may take; 120 where absent. */
  readonly timeoutSeconds?: number;
  /** How long the server may serve others first; 600 where absent, or twice `timeoutSeconds` where that is more. */
  readonly waitSeconds?: number;
  /**
   * SHA-256 of the model's public manifest (`sotto inspect` prints it): another one is refused. Without it the first one that a server shows is
   * remembered in the page's storage, a later change is refused, and prompts are padded to steps of their bytes.
   */
  readonly manifestHash?: string;
  /**
   * Whether a run notices values out of range, and then rejects with an error of kind `range` (one bit with every output, more bytes). It does unless
   * this is false; a wrong answer then comes without a sign of it.
   */
  readonly rangeFlags?: boolean;
}

/** A text that is to be continued privately. */
export interface GenerateRequest extends Watching {
  /** A text, or token ids of the model's tokenizer. */
  readonly prompt: string | readonly number[];
  readonly newTokens: number;
  /** Ends the run where the text ends, which shows to the server. Absent or false, the run goes to its whole length. */
  readonly earlyStop?: boolean;
  /** What shows of the prompt's length: `steps` of its bytes, or with `none` the number of its tokens. Absent: `none` where the manifest's hash is given. */
  readonly padding?: 'steps' | 'none';
  /** The likeliest token each time where absent. */
  readonly sampling?: SamplingOptions;
  /** Once, before the run: the prompt as the model reads it. */
  readonly onPrompt?: (text: string, ids: readonly number[]) => void;
  /** For each new token. The text may be empty while a character of several bytes is incomplete. */
  readonly onToken?: (text: string, id: number) => void;
}

/** A picture that is to be named, or a text that is to be classified, privately. */
export type ClassifyRequest = Watching &
  (
    | {
        /** Decoded pixels, or what the page decodes them from; prepared in the page as the manifest says. */
        readonly image: Picture;
      }
    | {
        readonly text: string;
        /** The second text, of a model that is asked about two. */
        readonly pair?: string | undefined;
        /** What shows of the texts' length, as of a prompt's. */
        readonly padding?: 'steps' | 'none' | undefined;
      }
  );

/** What a page may look at while a run goes on. */
export interface Watching {
  /** After each frame. */
  readonly onTraffic?: (traffic: Traffic) => void;
}

/** What went over this page's connections, frame headers included. */
export interface Traffic {
  readonly server: ChannelCounters;
  readonly dealer: ChannelCounters;
  /** The first words that the server got of the run, and the first it sent, in hexadecimal; empty before. Both are masked. */
  readonly serverSaw: string;
  readonly clientSaw: string;
}

/** What a private text run opened, and what it cost. */
export interface GenerateResult {
  /** The prompt and what the model wrote. */
  readonly text: string;
  readonly promptIds: readonly number[];
  readonly newIds: readonly number[];
  readonly report: ClientReport;
  readonly traffic: Traffic;
}

/** What a private classification opened, and what it cost. */
export interface ClassifyResult {
  readonly logits: readonly number[];
  /** The largest logit's place, and the name that the model gives it. */
  readonly label: number;
  readonly name: string;
  readonly report: ClientReport;
  readonly traffic: Traffic;
}

/** A page's side of private runs; each run has connections of its own. */
export interface BrowserClient {
  /** Continues a text. Rejects with a `SottoError` whose `place.party` names who failed. */
  generate(request: GenerateRequest): Promise<GenerateResult>;
  /** Names a picture, or classifies a text. */
  classify(request: ClassifyRequest): Promise<ClassifyResult>;
}

/** Of all clients of this page, so that no id is used twice. */
const store = memoryStore();
const manifests = storedManifests(pageStorage());

/** A client in this page. Each call is one private run with connections of its own. */
export function connectClient(settings: ClientSettings): BrowserClient {
  return {
    async generate({ prompt, newTokens, earlyStop, padding, sampling, onPrompt, onToken, onTraffic }) {
      const pieces: string[] = [];
      let decoder: StreamingDecoder | undefined;
      const task: ClientTask = {
        kind: 'generate',
        prompt: typeof prompt === 'string' ? { text: prompt } : { ids: prompt },
        newTokens,
        earlyStop,
        padding,
        ...(sampling === undefined ? {} : { sample: sampler(sampling) }),
        onPrompt: (ids, tokenizer) => {
          decoder = streamingDecoder(tokenizer);
          pieces.push(ids.map((id) => decoder!.push(id)).join(''));
          onPrompt?.(pieces[0]!, ids);
        },
        onToken: (id) => {
          const text = decoder!.push(id);
          pieces.push(text);
          onToken?.(text, id);
        },
      };
      const { report, traffic } = await run(settings, task, onTraffic);
      const text = pieces.join('') + (decoder?.end() ?? '');
      return { text, promptIds: report.promptIds, newIds: report.newIds, report, traffic };
    },
    async classify({ onTraffic, ...given }) {
      let logits: number[] = [];
      // A picture that cannot be decoded is an error of this page alone: nobody was asked yet.
      const task: ClientTask = { kind: 'classify', ...('image' in given ? { image: await pageImage(given.image) } : given) };
      const made = await run(settings, task, onTraffic, (opened) => {
        logits = [...opened];
      });
      const { id, label } = made.report.class!;
      return { logits, label: id, name: label, ...made };
    },
  };
}

async function run(
  { server, dealer, setting, ring, timeoutSeconds = 120, waitSeconds, manifestHash, rangeFlags }: ClientSettings,
  task: ClientTask,
  onTraffic?: (traffic: Traffic) => void,
  onLogits?: (logits: Float64Array) => void,
): Promise<{ report: ClientReport; traffic: Traffic }> {
  const watch = new Watch(onTraffic);
  const host = {
    platform: (bits: number) => pagePlatform(bits, breathe),
    patienceMilliseconds: 1000 * timeoutSeconds,
    connect: async (address: string, peer: string) => {
      const url = webUrl(address, peer);
      return watch.over(await pageChannel(new WebSocket(url), url.href, { peer, timeoutMilliseconds: 1000 * timeoutSeconds }));
    },
    store: async () => store,
    manifests,
  };
  const given = manifestHash === undefined ? {} : { manifestHash: parseManifestHash(manifestHash, 'manifestHash') };
  const waitMilliseconds = waitSeconds === undefined ? undefined : 1000 * waitSeconds;
  const options = {
    server,
    dealer,
    setting,
    ring,
    rangeFlags,
    waitMilliseconds,
    task,
    ...given,
    ...(onLogits ? { onLogits } : {}),
  };
  const report = await runClientOn(host, options);
  return { report, traffic: watch.traffic() };
}

/** Also takes the addresses that the other parties are given, such as `ws:127.0.0.1:7002`. */
function webUrl(address: string, party: string): URL {
  const url = URL.parse(address.replace(/^(wss?):(?!\/\/)/, '$1://'));
  if (url !== null && /^wss?:$/.test(url.protocol)) return url;
  throw new SottoError('usage', `${address} is no address of a WebSocket`, {
    place: { party },
    remedy: 'write wss://host[:port][/path]',
  });
}

const nothingYet: ChannelCounters = { sentBytes: 0, sentFrames: 0, receivedBytes: 0, receivedFrames: 0 };

/** Looks at what goes over a run's channels. */
class Watch {
  readonly #channels: Channel[] = [];
  readonly #onTraffic: ((traffic: Traffic) => void) | undefined;
  #serverSaw = '';
  #clientSaw = '';

  constructor(onTraffic: ((traffic: Traffic) => void) | undefined) {
    this.#onTraffic = onTraffic;
  }

  over(channel: Channel): Channel {
    this.#channels.push(channel);
    return {
      peer: channel.peer,
      counters: channel.counters,
      gone: channel.gone,
      security: channel.security,
      send: async (kind, payload) => {
        if (kind === onlineFrame && this.#serverSaw === '') this.#serverSaw = firstWords(payload);
        await channel.send(kind, payload);
        this.#onTraffic?.(this.traffic());
      },
      receive: async () => {
        const frame = await channel.receive();
        if (frame.kind === onlineFrame && this.#clientSaw === '') this.#clientSaw = firstWords(frame.payload);
        this.#onTraffic?.(this.traffic());
        return frame;
      },
      close: (reason) => channel.close(reason),
      allow: (bytes) => channel.allow?.(bytes),
    };
  }

  traffic(): Traffic {
    const sum = (isServer: boolean): ChannelCounters =>
      this.#channels
        .filter(({ peer }) => (peer === 'server') === isServer)
        .map(({ counters }) => counters)
        .reduce<ChannelCounters>(
          (a, b) => ({
            sentBytes: a.sentBytes + b.sentBytes,
            sentFrames: a.sentFrames + b.sentFrames,
            receivedBytes: a.receivedBytes + b.receivedBytes,
            receivedFrames: a.receivedFrames + b.receivedFrames,
          }),
          nothingYet,
        );
    return { server: sum(true), dealer: sum(false), serverSaw: this.#serverSaw, clientSaw: this.#clientSaw };
  }
}

const firstWords = (bytes: Uint8Array): string => bytesToHex(bytes.subarray(0, 24));

/** One turn of the page's events. Timers would wait for milliseconds. */
const breathe = (): Promise<void> =>
  new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
