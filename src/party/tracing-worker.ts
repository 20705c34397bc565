import { serialize } from 'node:v8';
import { parentPort } from 'node:worker_threads';
import type { RingNode } from '../backends/ring/index.ts';
import { type ErrorKind, type Place, SottoError } from '../errors/index.ts';
import type { RunRequest } from './control.ts';
import { traceRun } from './manifest.ts';

/** What a thread is asked to trace. With `claimed`, a program of another hash is not sent. */
export interface TracingOrder {
  readonly config: Record<string, unknown>;
  readonly run: RunRequest;
  readonly claimed: string | undefined;
  readonly maximumBytes: number;
}

/** A program in pieces, so that the thread that takes it goes on with its other work between them. */
export type FromTracing =
  | { readonly type: 'begin'; readonly hash: string; readonly ring: RunRequest['ring'] }
  /** Nodes by `node:v8`, in which a table is its number among all `tables` that came until then. */
  | { readonly type: 'piece'; readonly nodes: Uint8Array; readonly tables: readonly Float64Array[] }
  | { readonly type: 'end' }
  | { readonly type: 'other'; readonly hash: string }
  | { readonly type: 'tooLong' }
  | { readonly type: 'failed'; readonly error?: { kind: ErrorKind; reason: string; place: Place; remedy: string } };

/** Some ten milliseconds of work for who takes a piece. */
const pieceNodes = 500;

/** In place of a table within a node's parameters. */
export interface TableNumber {
  readonly table: number;
}

function send(tell: (message: FromTracing, transfer?: ArrayBuffer[]) => void, order: TracingOrder): void {
  const { config, run, claimed, maximumBytes } = order;
  const { hash, ringProgram } = traceRun(config, run);
  if (claimed !== undefined && hash !== claimed) {
    tell({ type: 'other', hash });
    return;
  }
  tell({ type: 'begin', hash, ring: ringProgram.ring });
  const numbers = new Map<Float64Array, TableNumber>();
  let bytes = 0;
  for (let at = 0; at < ringProgram.nodes.length; at += pieceNodes) {
    const tables: Float64Array[] = [];
    const numbered = (table: Float64Array): TableNumber => {
      const known = numbers.get(table);
      if (known !== undefined) return known;
      const number = { table: numbers.size };
      numbers.set(table, number);
      tables.push(table.slice());
      return number;
    };
    const part = ringProgram.nodes.slice(at, at + pieceNodes).map((node) => withoutTables(node, numbered));
    const nodes = new Uint8Array(serialize(part));
    bytes += nodes.length + tables.reduce((sum, table) => sum + table.byteLength, 0);
    if (bytes > maximumBytes) {
      tell({ type: 'tooLong' });
      return;
    }
    tell({ type: 'piece', nodes, tables }, [nodes.buffer, ...tables.map((table) => table.buffer as ArrayBuffer)]);
  }
  tell({ type: 'end' });
}

function withoutTables(node: RingNode, numbered: (table: Float64Array) => TableNumber): object {
  const replaced = (value: unknown): unknown =>
    value instanceof Float64Array ? numbered(value) : Array.isArray(value) ? value.map(replaced) : value;
  const parameters = Object.entries(node.parameters).map(([name, value]) => [name, replaced(value)]);
  return { ...node, parameters: Object.fromEntries(parameters) };
}

parentPort?.on('message', (order: TracingOrder) => {
  const tell = (message: FromTracing, transfer: ArrayBuffer[] = []): void => parentPort!.postMessage(message, transfer);
  try {
    send(tell, order);
  } catch (error) {
    if (!(error instanceof SottoError)) tell({ type: 'failed' });
    else {
      const { kind, reason, place, remedy } = error;
      tell({ type: 'failed', error: { kind, reason, place, remedy } });
    }
  }
});
