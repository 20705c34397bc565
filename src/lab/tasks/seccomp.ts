/** What a program under evaluation is refused by the kernel itself, with its numbers on x86-64 and on 64-bit ARM. */
const refused: Readonly<Record<string, readonly [x64: number, arm64: number]>> = {
  // Other processes' memory and registers.
  ptrace: [101, 117],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  kcmp: [312, 272],
  pidfd_getfd: [438, 438],
  // Memory that no limit of a process counts, shared or kept by the kernel.
  shmget: [29, 194],
  shmat: [30, 196],
  shmctl: [31, 195],
  shmdt: [67, 197],
  semget: [64, 190],
  semop: [65, 193],
  semctl: [66, 191],
  semtimedop: [220, 192],
  msgget: [68, 186],
  msgsnd: [69, 189],
  msgrcv: [70, 188],
  msgctl: [71, 187],
  mq_open: [240, 180],
  memfd_create: [319, 279],
  memfd_secret: [447, 447],
  add_key: [248, 217],
  request_key: [249, 218],
  keyctl: [250, 219],
  // Name spaces and mounts.
  unshare: [272, 97],
  setns: [308, 268],
  mount: [165, 40],
  umount2: [166, 39],
  pivot_root: [155, 41],
  chroot: [161, 51],
  open_tree: [428, 428],
  move_mount: [429, 429],
  fsopen: [430, 430],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fspick: [433, 433],
  mount_setattr: [442, 442],
  name_to_handle_at: [303, 264],
  open_by_handle_at: [304, 265],
  // Large parts of the kernel that no such program needs.
  bpf: [321, 280],
  perf_event_open: [298, 241],
  userfaultfd: [323, 282],
  io_uring_setup: [425, 425],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  personality: [135, 92],
  init_module: [175, 105],
  finit_module: [313, 273],
  delete_module: [176, 106],
  kexec_load: [246, 104],
};

const architectures = {
  x64: { audit: 0xc000003e, column: 0, clone: 56, clone3: 435 },
  arm64: { audit: 0xc00000b7, column: 1, clone: 220, clone3: 435 },
} as const;
export type FilteredArchitecture = keyof typeof architectures;
export const isFiltered = (name: string): name is FilteredArchitecture => Object.hasOwn(architectures, name);

/** Flags of clone that ask for name spaces: mount, control group, host name, IPC, user, process, network. */
const cloneNamespaces = 0x7e020000;
const [notPermitted, noSuchCall] = [1, 38];
/** Numbers from here on are x86-64's second set of system calls. */
const x32 = 0x40000000;

// Classic BPF: load a word, jump where equal, greater or equal, or any bit is set; return.
const [load, ifEqual, ifAtLeast, ifAny, give] = [0x20, 0x15, 0x35, 0x45, 0x06];
const [allow, refuse] = [0x7fff0000, 0x00050000];

interface Instruction {
  readonly code: number;
  readonly operand: number;
  /** Instructions to leave out where it holds, and where it does not. */
  readonly whenTrue?: number;
  readonly whenFalse?: number;
}

/**
 * A filter of system calls as bubblewrap takes it: classic BPF over `struct seccomp_data`, 8 bytes an instruction. What is refused
 * fails with "not permitted"; `clone3`, whose flags a filter cannot see, does not exist, so that `clone` is used.
 */
export function systemCallFilter(name: FilteredArchitecture): Uint8Array {
  const { audit, column, clone, clone3 } = architectures[name];
  const fail = (number: number): Instruction => ({ code: give, operand: refuse | number });
  const when = (number: number, outcome: Instruction): Instruction[] => [
    { code: ifEqual, operand: number, whenFalse: 1 },
    outcome,
  ];
  const program: Instruction[] = [
    { code: load, operand: 4 },
    { code: ifEqual, operand: audit, whenTrue: 1 },
    fail(notPermitted),
    { code: load, operand: 0 },
    { code: ifAtLeast, operand: x32, whenFalse: 1 },
    fail(notPermitted),
    ...Object.values(refused).flatMap((numbers) => when(numbers[column], fail(notPermitted))),
    ...when(clone3, fail(noSuchCall)),
    { code: ifEqual, operand: clone, whenFalse: 3 },
    { code: load, operand: 16 },
    { code: ifAny, operand: cloneNamespaces, whenFalse: 1 },
    fail(notPermitted),
    { code: give, operand: allow },
  ];
  const bytes = new Uint8Array(8 * program.length);
  const view = new DataView(bytes.buffer);
  for (const [at, { code, operand, whenTrue = 0, whenFalse = 0 }] of program.entries()) {
    view.setUint16(8 * at, code, true);
    view.setUint8(8 * at + 2, whenTrue);
    view.setUint8(8 * at + 3, whenFalse);
    view.setUint32(8 * at + 4, operand >>> 0, true);
  }
  return bytes;
}
