import { checkRanges } from '../models/ranges.ts';
import type { Channel } from '../net/contract.ts';
import { BudgetFile } from './budgets.ts';
import { type BundleStore, openBundleStore } from './bundles.ts';
import type { RunRequest } from './control.ts';
import type { DealerLink } from './link.ts';
import { lockState } from './lock.ts';
import type { Log } from './log.ts';
import type { RunProgram } from './manifest.ts';
import type { ServedModel } from './model.ts';
import { Prepared, type PreparedOptions } from './prepared.ts';
import type { Sessions } from './sessions.ts';
import type { Tracing } from './tracing.ts';

/** What a server that stands keeps: halves of material made ahead, and budgets. Its state is this process's own until `close`. */
export interface Ahead {
  readonly prepared: Prepared;
  readonly store: BundleStore;
  readonly budgets: BudgetFile;
  readonly close: () => Promise<void>;
}

/** Locks the state, and takes up what an earlier process left there. */
export async function makingAhead({ options, model, sessions, link, toDealer, tracing }: Parts): Promise<Ahead> {
  const { state, prepare, log } = options;
  const { metrics, admission } = sessions;
  const trace = (run: RunRequest): Promise<RunProgram> => tracing.trace(model.manifest.config, run);
  for (const shape of prepare.shapes) {
    admission.check(shape);
    checkRanges(model.plan, shape.ring, model.folder);
    await trace(shape);
  }
  const store = await openBundleStore(state, 'server');
  const unlock = await lockState(state, 'server');
  const prepared = await Prepared.open({
    ...{ model, state, store, ...prepare, trace, metrics, log },
    copyFor: (run, traced) => link.copyFor(run, traced),
    connect: toDealer,
    idle: () => admission.active === 0,
  });
  metrics.registry.gauge('sotto_bundles_available', "Halves of material made ahead, the server's.", () => [[{}, prepared.count]]);
  log('info', 'state', { count: prepared.count });
  const budgets = await BudgetFile.open(state, Date.now);
  const close = async (): Promise<void> => {
    await budgets.close();
    await unlock();
  };
  return { prepared, store, budgets, close };
}

interface Parts {
  readonly options: { readonly state: string; readonly prepare: Pick<PreparedOptions, 'count' | 'shapes'>; readonly log: Log };
  readonly model: ServedModel;
  readonly sessions: Sessions;
  readonly link: DealerLink;
  readonly toDealer: () => Promise<Channel>;
  readonly tracing: Tracing;
}
