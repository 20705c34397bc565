import { InvalidArgumentError, Option } from 'commander';
import type { RingParameters } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import type { SamplingOptions } from '../models/index.ts';
import { ringFor } from '../models/ranges.ts';
import { usualFloat } from '../node/float.ts';
import { type Device, devices } from '../node/onnx.ts';
import { anyOrigin } from '../node/websocket.ts';

/** A whole number within bounds, as commander parses options. */
export const whole =
  (low: number, high: number) =>
  (text: string): number => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= low && value <= high) return value;
    throw new InvalidArgumentError(`Expected a whole number from ${low} to ${high}.`);
  };

export const number =
  (low: number, high: number) =>
  (text: string): number => {
    const value = Number(text);
    if (text.trim() !== '' && value >= low && value <= high) return value;
    throw new InvalidArgumentError(`Expected a number from ${low} to ${high}.`);
  };

export function tokenIds(text: string): number[] {
  const ids = text.split(',').map((part) => part.trim());
  if (ids.every((id) => /^\d{1,9}$/.test(id))) return ids.map(Number);
  throw new InvalidArgumentError('Expected token numbers separated by commas, such as 1,403,407.');
}

export const jsonOption = () => new Option('--json', 'print one JSON object on stdout and nothing else');
export const progressOption = () => new Option('--progress', 'show progress on stderr even where it is no terminal');
export const settingOption = () =>
  new Option('--setting <name>', 'who makes the correlated randomness: a dealer before the run, or a helper during it')
    .choices(['dealer', 'helper'])
    .default('dealer');
export const ringOption = () =>
  new Option('--ring <bits>', 'width of the ring (default: what the plan is calibrated for, else 64)').argParser(whole(4, 64));
export const fractionOption = () =>
  new Option(
    '--fraction <bits>',
    'fraction bits (default: what the plan is calibrated for, else 16 of 64, 14 of 48, 9 of 32)',
  ).argParser(whole(1, 40));
/** Whether a private run notices values out of range. */
export const rangeFlagsOptions = () => [
  new Option('--range-flags', 'notice values out of range in a private run: one bit with every output, exit code 5').default(
    true,
    'on',
  ),
  new Option('--no-range-flags', 'do without: values out of range then give a wrong answer without a sign of it'),
];
export const transportOption = () =>
  new Option('--transport <kind>', 'what the processes of a private run talk over').choices(['unix', 'tcp']).default('unix');
export const originOption = () =>
  new Option(
    '--origin <origin>',
    "pages of this origin may come to ws: and wss: addresses, or '*' for any; may be given again (default: none)",
  ).argParser((text: string, all: string[] | undefined) => [...(all ?? []), originOf(text)]);

/** As browsers write it, or no page would ever match. */
function originOf(text: string): string {
  if (text === anyOrigin || (URL.canParse(text) && new URL(text).origin === text)) return text;
  throw new InvalidArgumentError("Expected an origin, such as https://example.org, or '*'.");
}

export const revealOption = () =>
  new Option('--reveal <what>', 'of each step to the client: all logits, or the likeliest token alone')
    .choices(['logits', 'token'])
    .default('logits');
/** Whether the server may see where a text ends. */
export const earlyStopOptions = () => [
  new Option('--early-stop', 'end the run where the text ends: saves time, and shows the number of tokens to the server').default(
    false,
    'off',
  ),
  new Option('--no-early-stop', 'go to the whole length whatever is written'),
];
/** Who learns a token alone cannot draw another one. */
export function checkReveal({
  reveal,
  temperature,
}: {
  readonly reveal: 'logits' | 'token';
  readonly temperature: number;
}): void {
  if (reveal === 'logits' || temperature === 0) return;
  throw new SottoError('usage', 'a token is drawn from logits, and none are revealed', {
    place: { field: '--reveal' },
    remedy: 'leave --temperature out, or reveal logits',
  });
}
export const timeoutOption = () =>
  new Option('--timeout <seconds>', 'how long a party waits for a silent one').argParser(number(0.1, 86_400)).default(120);
export const backendOption = () =>
  new Option('--backend <name>', 'onnx and reference compute in the clear, fixed simulates the ring, mpc runs privately')
    .choices(['onnx', 'reference', 'fixed', 'mpc'])
    .default(usualFloat(), 'onnx where ONNX Runtime is installed, else reference');
export const deviceOption = () =>
  new Option('--device <name>', 'where the onnx backend computes').choices([...devices]).default('cpu');

/** The device of a run: only onnx has others than the processor. */
export function deviceOf({
  device,
  backend = usualFloat(),
}: {
  readonly device: Device;
  readonly backend?: BackendName;
}): Device {
  if (backend === 'onnx' || device === 'cpu') return device;
  throw new SottoError('usage', `the ${backend} backend does not compute on ${device}`, {
    place: { field: '--device' },
    remedy: 'leave --device out, or use --backend onnx',
  });
}
export type BackendName = 'onnx' | 'reference' | 'fixed' | 'mpc';

export interface RingFlags {
  readonly ring?: number;
  readonly fraction?: number;
}

/** A ring whose products still have room for an integer part: what the flags say, else the one that the plan was calibrated for. */
export function ringOf(flags: RingFlags, plan?: { readonly ring?: RingParameters | undefined }): RingParameters {
  const { bits, fraction } = ringFor({ bits: flags.ring, fraction: flags.fraction }, plan);
  if (2 * fraction + 2 <= bits || bits < 8) return { bits, fraction };
  throw new SottoError('usage', `a ring of ${bits} bits has no room for products with ${fraction} fraction bits`, {
    place: { field: '--fraction' },
    remedy: `use at most ${Math.floor((bits - 2) / 2)} fraction bits, or a wider ring`,
  });
}

/** The ring that a model is calibrated for where it was not before: as the flags say, with as many fraction bits as fit. */
export const wantedRing = ({ ring = 64, fraction }: RingFlags): { bits: number; fraction?: number } => ({
  bits: ring,
  ...(fraction === undefined ? {} : { fraction }),
});

export interface SamplingFlags {
  readonly temperature: number;
  readonly topP: number;
  readonly seed: number;
}
export const temperatureOption = () =>
  new Option('--temperature <t>', '0 takes the most likely token').argParser(number(0, 1000)).default(0);
export const topPOption = () =>
  new Option('--top-p <p>', 'draw from the most likely tokens of this probability').argParser(number(1e-6, 1)).default(1);
export const seedOption = () => new Option('--seed <n>', 'of the draws').argParser(whole(0, Number.MAX_SAFE_INTEGER)).default(0);
export const samplingOf = ({ temperature, topP, seed }: SamplingFlags): SamplingOptions => ({ temperature, topP, seed });

/** Certificates of a party, for `tls:` and `wss:` addresses. */
export interface TlsFlags {
  readonly authority?: string;
  readonly certificate?: string;
  readonly key?: string;
}
export const tlsOptions = (): Option[] => [
  new Option('--authority <file>', 'the certificate of the authority that signed those of all parties, for encrypted addresses'),
  new Option('--certificate <file>', "this party's certificate; a client may do without"),
  new Option('--key <file>', "the certificate's private key"),
];
/** For plain addresses between dealer and server. */
export const linkTokenOption = () =>
  new Option(
    '--link-token <file>',
    'what server and dealer know each other by at plain addresses (default: ~/.sotto/link-token, made where it is missing)',
  );
export function tlsOf({ authority, certificate, key }: TlsFlags) {
  if (authority !== undefined) return { tls: { authority, certificate, key } };
  if (certificate === undefined && key === undefined) return {};
  throw new SottoError('usage', 'a certificate or key is given without the authority', {
    place: { field: '--authority' },
    remedy: "name the authority's certificate, by which peers are known",
  });
}
