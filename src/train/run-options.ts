import type { Files } from '../models/files.ts';
import type { OnnxBackend } from '../node/onnx.ts';
import type { Progress, Timer } from './loop.ts';
import type { Recipe } from './recipe.ts';

/** Documents for training, and those held back from it. */
export interface Texts {
  readonly train: readonly string[];
  readonly heldOut: readonly string[];
}

/** A recipe, and everything around it that a training needs: folders, a backend, a clock. */
export interface RunOptions {
  readonly recipe: Recipe;
  /** Where the run lives; made where missing. The result is its folder `checkpoint`. */
  readonly directory: string;
  /** Continues a run that stopped. Without it, a folder that holds a run is refused. */
  readonly resume?: boolean;
  /** Where the recipe's texts are looked up. */
  readonly data: Files;
  /** The folder on disk where its pictures, or the data sets of its mixture, are; they are streamed. */
  readonly pictures?: string | undefined;
  /** Opens the folder of a checkpoint that the recipe names. */
  readonly models: (name: string) => Files;
  readonly backend: OnnxBackend;
  readonly clock: Timer;
  /** After every step. */
  readonly progress?: ((progress: Progress) => void) | undefined;
  /** Asked after every step: true saves the state and ends the call early. */
  readonly stop?: ((step: number) => boolean) | undefined;
}
