/**
 * The alphabet of byte-level tokenizers: each byte as one visible character. Printable bytes stand for themselves, the others for the
 * characters from U+0100 on.
 */
const characters: string[] = [];
const bytes = new Int16Array(0x180).fill(-1);
for (let byte = 0, next = 0x100; byte < 256; byte++) {
  const printable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  const point = printable ? byte : next++;
  characters.push(String.fromCharCode(point));
  bytes[point] = byte;
}

const encoder = new TextEncoder();
/** Text in which every byte stands for itself. */
const visible = /^[!-~]*$/;
const visibleAfterSpaces = /^[ -~]*$/;

export const alphabet = {
  /** Text → its UTF-8 bytes in this alphabet. */
  write(text: string): string {
    if (visible.test(text)) return text;
    if (visibleAfterSpaces.test(text)) return text.replaceAll(' ', characters[32]!);
    let out = '';
    for (const byte of encoder.encode(text)) out += characters[byte]!;
    return out;
  },
  /** The byte that a UTF-16 unit stands for, or −1. */
  byteOf: (unit: number): number => (unit < bytes.length ? bytes[unit]! : -1),
};
