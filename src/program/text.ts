import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import type { Domain, Node, Program } from './types.ts';

/** The text form of a program: one line a node, constants by the hash of their values. Equal texts mean equal programs. */
export function text(program: Program): string {
  const lines = program.nodes.map((node, index) => {
    const inputs = node.inputs.map((input) => `%${input}`).join(' ');
    return `%${index} = ${node.operation}${inputs === '' ? '' : ` ${inputs}`} ${parameters(node)} : [${node.shape.join(' ')}] # ${node.scope}`;
  });
  for (const [name, index] of program.outputs) lines.push(`output ${JSON.stringify(name)} %${index}`);
  for (const [scope, domain] of Object.entries(program.domains ?? {}).sort(([one], [other]) => (one < other ? -1 : 1)))
    lines.push(`domain ${JSON.stringify(scope)} ${figures(domain)}`);
  return `${lines.join('\n')}\n`;
}

const figures = ({ argument, low, high, weight }: Domain): string => JSON.stringify({ argument, low, high, weight });

function parameters(node: Node): string {
  if (node.operation !== 'constant') return JSON.stringify(node.parameters);
  const { values, element } = node.parameters;
  return JSON.stringify({ element, values: bytesToHex(hashOfValues(values)).slice(0, 32) });
}

/** Little-endian float64 bytes, whatever the machine's byte order. */
function hashOfValues(values: Float64Array): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * 8));
  values.forEach((value, i) => {
    view.setFloat64(i * 8, value, true);
  });
  return sha256(new Uint8Array(view.buffer));
}

/** SHA-256 of the text form, in hex: what two parties compare before anything else. */
export function programHash(program: Program): string {
  return bytesToHex(sha256(new TextEncoder().encode(text(program))));
}
