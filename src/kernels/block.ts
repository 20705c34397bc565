/** `offset` in bytes from the start of the kernels' memory, `length` in words. Every operation but `free` also takes a part that a caller cut from a block. */
export interface Block {
  readonly offset: number;
  readonly length: number;
}
