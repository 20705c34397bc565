/** One row of a text data set. */
export interface Row {
  /** How errors name its place: `line 17`, `row 4`. */
  readonly place: string;
  readonly value: Readonly<Record<string, unknown>>;
}
