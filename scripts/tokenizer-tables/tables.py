"""Writes src/models/tokenizer/character-tables.ts: the character tables that the reference tokenizer library carries.

The library (PyPI `tokenizers`) mixes six tables of five Unicode versions: those of Oniguruma, of Rust, of the crate `regex`, of
`unicode_categories`, of `unicode-normalization-alignments`, and of SentencePiece's scripts. Each is read off the library itself, by
running every code point through the component that uses it. Grapheme classes come from PyPI `regex`, the age of characters from Perl.

    pip install tokenizers==0.23.3 regex && python scripts/tokenizer-tables/tables.py
"""

import json
import pathlib
import subprocess
import sys

import regex
import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
ALL = "".join(map(chr, POINTS))
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def base36(n):
    out = ""
    while True:
        out = DIGITS[n % 36] + out
        n //= 36
        if n == 0:
            return out


def oniguruma(pattern):
    """Code points that match a pattern of one character."""
    found = set()
    for _, (start, end) in pre_tokenizers.Split(Regex(pattern), "removed", invert=True).pre_tokenize_str(ALL):
        found.update(POINTS[start:end])
    return found


def chosen(split):
    """Code points that stand alone where each is set between two letters."""
    found = set()
    for first in range(0, len(POINTS), 4096):
        for piece, _ in split.pre_tokenize_str("".join("a" + chr(c) for c in POINTS[first : first + 4096])):
            if len(piece) == 1 and piece != "a":
                found.add(ord(piece))
    return found


def kept(normalizer, around="ab"):
    """Code points that a normalizer leaves between two letters."""
    text = normalizer.normalize_str("".join(around[0] + chr(c) + around[1] for c in POINTS))
    at, left = 0, set()
    for c in POINTS:
        assert text[at] == around[0], hex(c)
        end = text.index(around[1], at + 1) if chr(c) != around[1] else at + 2
        if end > at + 1:
            left.add(c)
        at = end + 1
    return left


CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn".split()


def runs(of):
    out, previous, start = [], of(0), 0
    for c in range(1, 0x110001):
        value = of(c) if c < 0x110000 else None
        if value != previous:
            out.append((c - start, previous))
            previous, start = value, c
    return out


def letters(index):
    out = ""
    while True:
        out = chr(65 + index % 26) + out
        index = index // 26 - 1
        if index < 0:
            return out


def set_runs(points):
    """Gaps and lengths in turns."""
    out, at = [], 0
    inside = runs(lambda c: c in points)
    for length, value in inside:
        out.append(base36(length))
    if inside and not inside[0][1]:
        pass
    else:
        out.insert(0, "0")
    return ",".join(out[:-1] if len(out) % 2 else out)


def main():
    out = {}
    category = {}
    for name in CATEGORIES[:-1]:
        for c in oniguruma("\\p{%s}" % name):
            category[c] = name
    gc = lambda c: category.get(c, "Cn") if not 0xD800 <= c <= 0xDFFF else "Cn"
    out["categories"] = "".join(base36(n) + letters(CATEGORIES.index(v)) for n, v in runs(gc))
    members = lambda *names: {c for c in POINTS if any(gc(c).startswith(n) for n in names)}
    L, M, N, P, C = (members(n) for n in "LMNPC")

    differences = {}

    def difference(name, actual, formula, text):
        delta = actual ^ formula
        print(f"{name}: {len(actual)} code points, {len(runs(lambda c: c in delta)) // 2} ranges beside {text}", file=sys.stderr)
        differences[name] = set_runs(delta)

    difference("word", oniguruma(r"\w"), L | M | members("Nd", "Pc"), "L M Nd Pc")
    difference("space", oniguruma(r"\s"), members("Z"), "Z")
    difference("alphabetic", oniguruma(r"[[:alpha:]]"), L | M, "L M")
    difference("upper", oniguruma(r"[[:upper:]]"), members("Lu"), "Lu")
    difference("lower", oniguruma(r"[[:lower:]]"), members("Ll"), "Ll")
    difference("punctuation", oniguruma(r"[[:punct:]]"), P | members("S"), "P S")
    for name, formula in [
        ("digit", members("Nd")),
        ("cntrl", members("Cc")),
        ("blank", members("Zs") | {9}),
    ]:
        actual = oniguruma("[[:%s:]]" % name)
        print(name, "equals its formula" if actual == formula else sorted(map(hex, actual ^ formula))[:20], file=sys.stderr)
    for a, b in [(r"\d", r"\p{Nd}"), (r"\h", r"[0-9a-fA-F]"), (r"[[:xdigit:]]", r"[0-9a-fA-F]"), (r"[[:alnum:]]", r"[[:alpha:]\p{Nd}]"), (r"\p{Alpha}", r"[[:alpha:]]"), (r"\p{Space}", r"\s"), (r"\p{Word}", r"\w"), (r"\p{Punct}", r"[[:punct:]]"), (r"\p{Punctuation}", r"\p{P}"), (r"[[:word:]]", r"\w"), (r"[[:graph:]]",r"[^\s\p{Cc}\p{Cn}\p{Cs}]"), (r"[[:print:]]",r"[[:graph:]\p{Zs}]"),(r"\p{LC}",r"[\p{Lu}\p{Ll}\p{Lt}]"),(r"\p{Any}",r"[\x{0}-\x{10ffff}]"),(r"\p{Assigned}",r"\P{Cn}"),(r"\p{ASCII}",r"[\x00-\x7f]"),(r"\p{XPosixPunct}",r"[[:punct:]]"),(r"\p{Emoji}",r"\p{Emoji}")]:
        try:
            x, y = oniguruma(a), oniguruma(b)
            print(a, b, "equal" if x == y else ("differ", sorted(map(hex, x ^ y))[:10]), file=sys.stderr)
        except Exception as error:
            print(a, b, error, file=sys.stderr)

    # Rust's own, of another version.
    difference("numeric", chosen(pre_tokenizers.Digits(individual_digits=True)), N, "N")
    spaces = {c for c in POINTS if len(pre_tokenizers.WhitespaceSplit().pre_tokenize_str("a" + chr(c) + "b")) == 2}
    difference("whitespace", spaces, members("Z"), "Z")
    lowered = normalizers.Lowercase().normalize_str("\0".join(map(chr, POINTS))).split("\0")[1:]
    lowered = ["\0"] + lowered[1:]
    assert len(lowered) == len(POINTS)
    out["lower"] = {chr(c): l for c, l in zip(POINTS, lowered) if l != chr(c)}
    words = {c for c in POINTS if len(pre_tokenizers.Whitespace().pre_tokenize_str("a" + chr(c) + "b")) == 1 and c not in spaces}
    difference("regexWord", words, L | M | members("Nd", "Pc"), "L M Nd Pc")
    regex_spaces = {c for c in POINTS if [p for p, _ in pre_tokenizers.Whitespace().pre_tokenize_str("a" + chr(c) + "b")] == ["a", "b"]}
    assert regex_spaces == spaces
    # The crate unicode_categories.
    ascii_punctuation = {c for c in range(128) if chr(c).isprintable() and not chr(c).isalnum() and c != 32}
    difference("bertPunctuation", chosen(pre_tokenizers.Punctuation("isolated")) , P | ascii_punctuation, "P and ASCII's")
    bert = dict(handle_chinese_chars=False, strip_accents=False, lowercase=False)
    dropped = set(POINTS) - kept(normalizers.BertNormalizer(clean_text=True, **bert))
    difference("bertControl", dropped, members("Cc", "Cf", "Co"), "Cc Cf Co")
    bert.update(strip_accents=True)
    # Characters that decompose first keep their base, so that only marks themselves vanish.
    difference("nonspacing", set(POINTS) - kept(normalizers.BertNormalizer(clean_text=False, **bert), "\x01\x02"), members("Mn"), "Mn")
    difference("combining", set(POINTS) - kept(normalizers.StripAccents(), "\x01\x02"), M, "M")


    # The library normalises by Unicode 9: later characters pass through as starters. Perl knows the age of characters.
    script = "for (0..0x10ffff) { next if $_ >= 0xd800 && $_ < 0xe000; print qq($_\\n) if chr($_) !~ /\\p{Present_In: 9.0}/ }"
    later = {int(line) for line in subprocess.run(["perl", "-e", script], capture_output=True, check=True).stdout.split()}
    difference("notNormalised", later, members("Cn"), "Cn")
    difference("chinese", {c for c in POINTS if normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False).normalize_str(chr(c)) != chr(c)}, set(), "nothing")

    # Grapheme classes.
    grapheme = {}
    for name, pattern in [
        ("Control", r"\p{GCB=Control}"),
        ("Extend", r"\p{GCB=Extend}"),
        ("SpacingMark", r"\p{GCB=SpacingMark}"),
        ("Prepend", r"\p{GCB=Prepend}"),
        ("Pictographic", r"\p{Extended_Pictographic}"),
        ("Consonant", r"\p{InCB=Consonant}"),
        ("Linker", r"\p{InCB=Linker}"),
    ]:
        grapheme[name] = {ord(m) for m in regex.findall(pattern, ALL)}
    difference("graphemeControl", grapheme["Control"], members("Cc", "Cf", "Zl", "Zp"), "Cc Cf Zl Zp")
    difference("graphemeExtend", grapheme["Extend"], members("Mn", "Me"), "Mn Me")
    difference("graphemeSpacing", grapheme["SpacingMark"], members("Mc"), "Mc")
    difference("graphemePrepend", grapheme["Prepend"], set(), "nothing")
    difference("pictographic", grapheme["Pictographic"], set(), "nothing")
    difference("consonant", grapheme["Consonant"], set(), "nothing")
    difference("linker", grapheme["Linker"], set(), "nothing")
    out["differences"] = differences

    names = sorted(set(SCRIPTS))
    script = {}
    known = []
    for name in names:
        try:
            points = oniguruma("\\p{%s}" % name)
        except Exception as error:
            print("no script", name, error, file=sys.stderr)
            continue
        known.append(name)
        for c in points:
            script[c] = name
    order = ["Unknown"] + known
    out["scriptNames"] = order
    out["scripts"] = "".join(base36(n) + letters(order.index(v)) for n, v in runs(lambda c: script.get(c, "Unknown")))
    write(out)


def quoted(text):
    return json.dumps(text)


def write(out):
    # Node's and the browsers' own mapping serves for what Unicode 15 had; later letters are listed.
    later = {c: l for c, l in out["lower"].items() if c.lower() != l and not (len(c.lower()) > 1 or c in "\u0130")}
    lines = ["// Written by scripts/tokenizer-tables/tables.py from the tables of the reference library (tokenizers %s)." % tokenizers.__version__]
    lines.append("/** Runs of general categories: a length in base 36, then the category's index as letters. */")
    lines.append("export const categories =\n  %s;" % quoted(out["categories"]))
    lines.append("/** Where a set departs from the formula in unicode.ts: gaps and lengths by turns, in base 36. */")
    lines.append("export const differences = {")
    for name, value in out["differences"].items():
        lines.append("  %s: %s," % (name, quoted(value)))
    lines.append("};")
    lines.append("export const scriptNames =\n  %s;" % quoted(" ".join(out["scriptNames"])))
    lines.append("/** Runs of scripts, as those of categories. */")
    lines.append("export const scripts =\n  %s;" % quoted(out["scripts"]))
    lines.append("/** Capital letters that the runtime may not know yet, each with its small one. */")
    lines.append("export const laterLetters =\n  %s;" % json.dumps("".join(c + l for c, l in sorted(later.items()))))
    target = pathlib.Path(__file__).parents[2] / "src/models/tokenizer/character-tables.ts"
    target.write_text("\n".join(lines) + "\n")


SCRIPTS = """Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki Bopomofo Brahmi
Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Chorasmian Common Coptic Cuneiform Cypriot
Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Garay Georgian
Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi Gurmukhi Gurung_Khema Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana
Imperial_Aramaic Inherited Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi
Khitan_Small_Script Khmer Khojki Khudawadi Kirat_Rai Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar
Malayalam Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao
Modi Mongolian Mro Multani Myanmar Nabataean Nag_Mundari Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki
Ol_Onal Old_Hungarian Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya
Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada Shavian
Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Sunuwar Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham
Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Todhri Toto Tulu_Tigalari Ugaritic Vai Vithkuqi Wancho
Warang_Citi Yezidi Yi Zanabazar_Square""".split()

if __name__ == "__main__":
    main()
