import { createHash } from 'node:crypto';
import { SottoError } from '../errors/index.ts';
import type { ModelConfig } from '../models/config.ts';
import { foldWeights, openModelFolder, type Plan } from '../models/index.ts';
import { folderFiles } from '../node/files.ts';
import type { Tensor } from '../program/index.ts';
import { type Measuring, measuredPlan } from './calibration.ts';
import type { Control } from './control.ts';
import { manifestHash, readManifest } from './manifest.ts';

/** What a server has of its model: the public half for clients, and its weights, folded. */
export interface ServedModel {
  readonly folder: string;
  readonly config: ModelConfig;
  readonly plan: Plan;
  readonly manifest: Control<'manifest'>;
  /** By which clients know the manifest. */
  readonly manifestHash: string;
  /** A tensor by its name. Throws a `model` error where the folded checkpoint has none. */
  readonly weight: (name: string) => Promise<Tensor>;
  /** SHA-256 of all weights. It stays with the server: whoever knows a checkpoint could tell by it that it is served. */
  readonly hash: () => string;
}

/** A folder's public half. A model that was never calibrated is measured first: see `measuredPlan`. */
export async function openServed(folder: string, measuring: Measuring = {}) {
  const opened = await openModelFolder(folderFiles(folder));
  const { checkpoint, config } = opened;
  const plan = await measuredPlan(opened, measuring);
  const raw = plan === opened.plan ? checkpoint.config : { ...checkpoint.config, sotto: plan };
  return { checkpoint, config, plan, manifest: await readManifest(checkpoint.files, raw) };
}

/** The hash of the manifest that a server of this folder shows. */
export async function modelManifestHash(folder: string, measuring: Measuring = {}): Promise<string> {
  return manifestHash((await openServed(folder, measuring)).manifest);
}

/** Opens what a server serves. */
export async function loadModel(folder: string, measuring: Measuring = {}): Promise<ServedModel> {
  const { checkpoint, config, plan, manifest } = await openServed(folder, measuring);
  const weights = new Map<string, Tensor>();
  for await (const [name, tensor] of foldWeights(config, plan, (tensor) => checkpoint.read(tensor))) weights.set(name, tensor);
  return {
    folder,
    config,
    plan,
    manifest,
    manifestHash: manifestHash(manifest),
    async weight(name) {
      const tensor = weights.get(name);
      if (tensor !== undefined) return tensor;
      throw new SottoError('model', 'the folded checkpoint has no such tensor', {
        place: { tensor: name },
        remedy: 'check that config.json fits the weights',
      });
    },
    hash() {
      const hash = createHash('sha256').update(JSON.stringify(manifest.config));
      for (const name of [...weights.keys()].sort()) {
        const { shape, values } = weights.get(name)!;
        hash.update(`${name} ${shape.join('x')}\n`);
        hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      }
      return hash.digest('hex');
    },
  };
}
