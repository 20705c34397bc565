import { type Command, Option } from 'commander';
import { makeCertificates, writeCertificates } from '../node/certificates.ts';
import { jsonOption, whole } from './options.ts';
import { printJson, type Terminal } from './terminal.ts';

const help = `
Writes NAME.pem and NAME-key.pem for an authority of its own, server, dealer, helper and client: EC P-256, each with its role as DNS name
(server.sotto, …). Keys are readable by this user alone. Give each host its own two files and authority.pem, and nobody else's key.
Who holds authority-key.pem can be any party: delete it once the set is complete. No file is replaced.

Example:
  $ sotto certificates certificates --days 30
`;

export function registerCertificates(program: Command, terminal: Terminal): void {
  program
    .command('certificates')
    .summary('make a test set of TLS certificates')
    .description('Makes an authority and a certificate for each party, for tls: addresses.')
    .argument('<out>', 'the folder')
    .addOption(new Option('--days <n>', 'how long they are valid').argParser(whole(1, 3650)).default(30))
    .addOption(jsonOption())
    .addHelpText('after', help)
    .action(async (folder: string, { days, json }: { days: number; json?: true }) => {
      const now = new Date();
      const files = writeCertificates(folder, await makeCertificates({ now, days }));
      const validUntil = new Date(now.getTime() + days * 86_400_000).toISOString();
      if (json) printJson(terminal, { files, validUntil });
      else terminal.out(`${files.join('\n')}\nvalid until ${validUntil}\n`);
    });
}
