import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { SottoError } from '../errors/index.ts';
import { pull } from '../node/hub.ts';
import { jsonOption, progressOption } from './options.ts';
import { progress } from './progress.ts';
import { bytes, table } from './table.ts';
import { printJson, type Terminal } from './terminal.ts';

interface PullFlags {
  readonly revision: string;
  readonly out?: string;
  readonly endpoint?: string;
  readonly tokenFile?: string;
  readonly json?: true;
  readonly progress?: true;
}

const help = `
Fetches configuration, tokenizer and safetensors weights, nothing that runs. A broken transfer goes on where it stopped; files
take their names only after their checksum was verified. The environment is read as by other tools of the hub:
  HF_ENDPOINT    the server, for users of mirrors (--endpoint wins)
  HF_TOKEN       the access token (--token-file wins; a token is never an argument, since other users can see those)
  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY    the proxy to go through (http, https or socks5; also in lower case)
  NO_PROXY       hosts, domains and address ranges that are asked directly

Examples:
  $ sotto pull OWNER/NAME
  $ sotto pull OWNER/NAME --revision v1.0 --out models/name
  $ HF_ENDPOINT=https://mirror.example sotto pull OWNER/NAME --json
`;

export function registerPull(program: Command, terminal: Terminal): void {
  program
    .command('pull')
    .summary('fetch a checkpoint from the hub')
    .description('Fetches a checkpoint from a server with the file interface of the Hugging Face hub.')
    .argument('<owner/name>', 'the repository')
    .option('--revision <name>', 'branch, tag or commit', 'main')
    .option('--out <folder>', "where the files go (default: the repository's name)")
    .option('--endpoint <address>', 'the server')
    .option('--token-file <file>', 'a file that holds the access token')
    .addOption(jsonOption())
    .addOption(progressOption())
    .addHelpText('after', help)
    .action((repository: string, flags: PullFlags) => fetch(repository, flags, terminal));
}

async function fetch(repository: string, flags: PullFlags, terminal: Terminal): Promise<void> {
  const { environment } = terminal;
  const endpoint = flags.endpoint ?? environment.HF_ENDPOINT;
  const token = flags.tokenFile === undefined ? environment.HF_TOKEN : await readToken(flags.tokenFile);
  const bar = progress(terminal, flags.progress === true);
  try {
    const pulled = await pull({
      repository,
      revision: flags.revision,
      destination: flags.out ?? repository.split('/').at(-1)!,
      ...(endpoint === undefined || endpoint === '' ? {} : { endpoint }),
      environment,
      token: token === undefined || token === '' ? undefined : token,
      progress: ({ path, bytes: done, totalBytes }) =>
        bar.show(`${bytes(done)} of ${bytes(totalBytes)}  ${path}`, done, totalBytes),
    });
    bar.end();
    if (flags.json) return printJson(terminal, pulled);
    const rows = pulled.files.map(({ path, bytes: count, checksum }) => [path, bytes(count), checksum.slice(0, 16)]);
    terminal.out(
      `${pulled.repository} at ${pulled.commit} → ${pulled.destination}\n${table(['file', 'size', 'checksum'], rows)}`,
    );
  } finally {
    bar.end();
  }
}

async function readToken(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new SottoError('input', 'the token file cannot be read', { place: { file }, remedy: 'name a readable file', cause });
  });
  return text.trim();
}
