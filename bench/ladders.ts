import { join } from 'node:path';

/** A list of recipes whose students are compared. */
export interface Ladder {
  readonly name: string;
  readonly title: string;
  /** What the table is about, and the command that makes it. */
  readonly about: string;
  readonly recipes: readonly string[];
  /** In the models folder. */
  readonly teacher: string;
  readonly tasks: readonly string[];
  /** The columns, by the metrics' names; shares are printed in percent. */
  readonly columns: readonly { readonly metric: string; readonly title: string; readonly percent: boolean }[];
  /** Data that no recipe reads, from the data folder and the ladder's own. */
  readonly test: (data: string, directory: string) => string;
  /** Makes that data where it must be made. */
  readonly prepare?: (data: string, directory: string) => Promise<void>;
}

const vision = (set: 'mnist' | 'cifar'): Pick<Ladder, 'recipes' | 'teacher' | 'tasks' | 'columns'> => ({
  recipes: ['v1', 'v2', 'v3', 'ultimate', 'hybrid', 'full', 'progressive'].map((rung) => `polyvit-${rung}-${set}`),
  teacher: `${set}-teacher/checkpoint`,
  tasks: ['fidelity'],
  columns: [
    { metric: 'acc', title: 'accuracy', percent: true },
    { metric: 'fidelity', title: 'fidelity', percent: true },
    { metric: 'cosine', title: 'cosine', percent: false },
    { metric: 'kl', title: 'KL', percent: false },
  ],
});

export const ladders: readonly Ladder[] = [
  {
    name: 'ladder-mnist',
    title: 'The ladder of polynomial vision transformers on MNIST',
    about: 'Every figure is of the 5,000 test pictures, which no recipe reads.',
    ...vision('mnist'),
    test: (data) => join(data, 'mnist/test5000-images-idx3-ubyte.gz'),
  },
  {
    name: 'ladder-cifar',
    title: 'The ladder of polynomial vision transformers on CIFAR-10',
    about: 'Every figure is of the 1,000 test pictures, which no recipe reads.',
    ...vision('cifar'),
    test: (data) => join(data, 'cifar10/cifar10_test1000_jpg.tar.gz'),
  },
];
