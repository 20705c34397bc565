import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Terminal } from './terminal.ts';

/**
 * Folders of models as commander parses them: a name that is no folder here, but one of the models that come with the package
 * (`stories-polynomial`, `stories-teacher`), means that one, so that examples work wherever they are pasted.
 */
export const modelFolder =
  ({ packageFolder }: Terminal) =>
  (text: string): string => {
    if (!/^[a-z0-9-]+$/.test(text) || existsSync(text)) return text;
    const shipped = join(packageFolder, 'artefacts', text);
    return existsSync(join(shipped, 'config.json')) ? shipped : text;
  };
