import { table } from './unicode.ts';

const Class = {
  other: 0,
  cr: 1,
  lf: 2,
  control: 3,
  extend: 4,
  zwj: 5,
  spacing: 6,
  prepend: 7,
  l: 8,
  v: 9,
  t: 10,
  lv: 11,
  lvt: 12,
  regional: 13,
};

function classOf(point: number): number {
  if (point < 0x300) {
    if (point === 13) return Class.cr;
    if (point === 10) return Class.lf;
    return point < 32 || (point >= 127 && point < 160) || point === 173 ? Class.control : Class.other;
  }
  if (point === 0x200d) return Class.zwj;
  if (table('graphemeExtend').has(point)) return Class.extend;
  if (table('graphemeSpacing').has(point)) return Class.spacing;
  if (table('graphemePrepend').has(point)) return Class.prepend;
  if (table('graphemeControl').has(point)) return Class.control;
  if (point >= 0x1f1e6 && point <= 0x1f1ff) return Class.regional;
  return hangulClass(point);
}

function hangulClass(point: number): number {
  if (point >= 0xac00 && point <= 0xd7a3) return (point - 0xac00) % 28 === 0 ? Class.lv : Class.lvt;
  if ((point >= 0x1100 && point <= 0x115f) || (point >= 0xa960 && point <= 0xa97c)) return Class.l;
  if ((point >= 0x1160 && point <= 0x11a7) || (point >= 0xd7b0 && point <= 0xd7c6) || point === 0x16d63) return Class.v;
  if ((point >= 0x11a8 && point <= 0x11ff) || (point >= 0xd7cb && point <= 0xd7fb)) return Class.t;
  return Class.other;
}

/**
 * Calls `take` with start and end of each grapheme of a text (UAX 29, extended), by the tables of the reference library instead of
 * the runtime's.
 */
export function eachGrapheme(text: string, take: (start: number, end: number) => void): void {
  let start = 0;
  let before = -1;
  let flags = 0;
  /** 1: a pictograph and its extensions; 2: and a joiner behind them. */
  let pictograph = 0;
  /** 1: a consonant of a conjunct; 2: and a linker behind it. */
  let conjunct = 0;
  for (let at = 0; at < text.length; ) {
    const point = text.codePointAt(at)!;
    const now = classOf(point);
    const consonant = point >= 0x900 && table('consonant').has(point);
    const pictographic = point >= 0xa9 && table('pictographic').has(point);
    const joins =
      before >= 0 &&
      (joined(before, now) ||
        (pictograph === 2 && pictographic) ||
        (conjunct === 2 && consonant) ||
        (before === Class.regional && now === Class.regional && flags % 2 === 1));
    if (before >= 0 && !joins) {
      take(start, at);
      start = at;
    }
    flags = now === Class.regional ? flags + 1 : 0;
    if (pictographic) pictograph = 1;
    else if (pictograph > 0 && now === Class.extend) pictograph = 1;
    else pictograph = pictograph === 1 && now === Class.zwj ? 2 : 0;
    if (consonant) conjunct = 1;
    else if (conjunct > 0 && point >= 0x900 && table('linker').has(point)) conjunct = 2;
    else if (!(now === Class.extend || now === Class.zwj)) conjunct = 0;
    before = now;
    at += point > 0xffff ? 2 : 1;
  }
  if (start < text.length) take(start, text.length);
}

function joined(before: number, now: number): boolean {
  if (before === Class.cr && now === Class.lf) return true;
  if (before <= Class.control && before >= Class.cr) return false;
  if (now <= Class.control && now >= Class.cr) return false;
  if (now === Class.extend || now === Class.zwj || now === Class.spacing || before === Class.prepend) return true;
  if (before === Class.l) return now === Class.l || now === Class.v || now === Class.lv || now === Class.lvt;
  if (before === Class.lv || before === Class.v) return now === Class.v || now === Class.t;
  return (before === Class.lvt || before === Class.t) && now === Class.t;
}
