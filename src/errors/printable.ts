/**
 * Text that a peer or a file wrote, as it may be shown. Controls but newline and tab start terminal sequences or move the cursor; what
 * overrides the direction of text, hides in it (tags, invisible operators) or is no character shows something else than is there.
 * Joiners and marks that scripts need stay.
 */
const unprintable =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufdd0-\ufdef\ufff9-\ufffb\ufffe\uffff]|[\u{e0000}-\u{e0fff}]|\p{Cs}/gu;

/** Every character that is not shown becomes U+FFFD, one for each UTF-16 unit, so that pieces of a text may be made printable one by one. */
export const printable = (text: string): string => text.replace(unprintable, (found) => '\uFFFD'.repeat(found.length));

/** JSON in which such characters are escaped: it parses to the same value, and prints nothing of them. */
export const printableJson = (value: unknown): string =>
  JSON.stringify(value).replace(unprintable, (found) =>
    [...Array(found.length).keys()].map((at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, '0')}`).join(''),
  );
