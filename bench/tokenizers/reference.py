"""The reference library behind a pipe: a line of JSON in, a line of JSON out. See bench/tokenizers.ts.

    {"train": kind, "text": path, "size": tokens} -> {"definition": text of tokenizer.json}
    {"rules": [[from, to]], "text": path}         -> {"definition": a charsmap of these rules}
    {"definition": text, "encode": [[first, second or null, special]], "decode": [ids]}
        -> {"encoded": [[ids, types] or null], "decoded": [text or null]} or {"refused": why}

Needs PyPI `tokenizers` and, for charsmaps, `sentencepiece`.
"""

import io
import json
import os
import sys
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def charsmap(text, **rule):
    """The map that SentencePiece writes into a model for a rule, base64."""
    import base64

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text[:20000].split("\n")),
        model_writer=model,
        vocab_size=200,
        hard_vocab_limit=False,
        minloglevel=2,
        **rule,
    )

    def fields(data):
        at = 0

        def varint():
            nonlocal at
            value = shift = 0
            while True:
                byte = data[at]
                at += 1
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return value

        while at < len(data):
            key = varint()
            if key & 7 == 2:
                length = varint()
                yield key >> 3, data[at : at + length]
                at += length
            elif key & 7 == 0:
                yield key >> 3, varint()
            elif key & 7 == 5:
                at += 4
            else:
                at += 8

    for number, value in fields(model.getvalue()):
        if number == 3:
            for inner, bytes_ in fields(value):
                if inner == 2:
                    return base64.b64encode(bytes_).decode()
    raise ValueError("no charsmap")


def with_charsmap(tokenizer, rule, text, then=()):
    definition = json.loads(tokenizer.to_str())
    steps = [{"type": "Precompiled", "precompiled_charsmap": charsmap(text, normalization_rule_name=rule)}, *then]
    definition["normalizer"] = {"type": "Sequence", "normalizers": steps}
    return json.dumps(definition)


def byte_fallback(definition):
    """256 byte tokens behind the vocabulary."""
    vocab = definition["model"]["vocab"]
    for byte in range(256):
        token = "<0x%02X>" % byte
        if isinstance(vocab, dict):
            vocab.setdefault(token, len(vocab))
        else:
            vocab.append([token, -20.0])
    definition["model"]["byte_fallback"] = True
    return definition


def train(kind, path, size):
    text = open(path, encoding="utf-8").read()[:400_000]
    lines = text.split("\n")
    if kind in ("gpt2", "llama3", "roberta", "nfc-qwen"):
        t = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
        if kind in ("llama3", "nfc-qwen"):
            t.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
            )
        else:
            t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=kind == "roberta")
        if kind == "nfc-qwen":
            t.normalizer = normalizers.NFC()
        t.decoder = decoders.ByteLevel()
        special = ["<s>", "</s>", "<mask>"] if kind == "roberta" else ["<|endoftext|>", "<|begin|>"]
        t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
        if kind == "roberta":
            t.add_special_tokens([AddedToken("<mask>", lstrip=True)])
            t.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=True, add_prefix_space=True)
        elif kind == "llama3":
            t.post_processor = processors.Sequence(
                [processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(single="<|begin|> $A", pair="<|begin|> $A <|begin|>:1 $B:1", special_tokens=[("<|begin|>", 1)])]
            )
        else:
            t.post_processor = processors.ByteLevel(trim_offsets=False)
        return t.to_str()
    if kind in ("llama", "mistral", "gemma"):
        t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
        if kind == "mistral":
            t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        elif kind == "gemma":
            t.normalizer = normalizers.Replace(" ", "▁")
            t.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        else:
            t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        # A whole line is one word; trained on words, so that merges stay within them as SentencePiece has it.
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
        saved = t.pre_tokenizer
        t.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next") if kind != "mistral" else pre_tokenizers.Metaspace()
        t.train_from_iterator(lines, trainer)
        definition = byte_fallback(json.loads(t.to_str()))
        t = Tokenizer.from_str(json.dumps(definition))
        if saved is not None:
            t.pre_tokenizer = saved
        definition = json.loads(t.to_str())
        if saved is None:
            definition["pre_tokenizer"] = None
        strip = [] if kind == "gemma" else [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]
        definition["decoder"] = {
            "type": "Sequence",
            "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip],
        }
        return json.dumps(definition)
    if kind in ("t5", "xlm-r", "albert", "unigram-bytes"):
        t = Tokenizer(models.Unigram())
        t.pre_tokenizer = (
            pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]) if kind == "xlm-r" else pre_tokenizers.Metaspace()
        )
        t.decoder = decoders.Metaspace()
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        t.train_from_iterator(lines, trainers.UnigramTrainer(vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False))
        if kind == "xlm-r":
            t.add_special_tokens([AddedToken("<mask>", lstrip=True)])
            t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
        else:
            t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 2)])
        if kind == "unigram-bytes":
            t = Tokenizer.from_str(json.dumps(byte_fallback(json.loads(t.to_str()))))
        rule = {"t5": "nmt_nfkc", "xlm-r": "nmt_nfkc", "albert": "nmt_nfkc_cf", "unigram-bytes": "nfkc"}[kind]
        then = [{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]
        if kind == "albert":
            then = [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, *then]
        return with_charsmap(t, rule, text, then)
    if kind in ("bert-uncased", "bert-cased", "bert-plain"):
        t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        t.normalizer = normalizers.BertNormalizer(lowercase=kind == "bert-uncased", strip_accents=None if kind != "bert-plain" else True)
        t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        t.decoder = decoders.WordPiece()
        t.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=size, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
        t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)) if kind == "bert-plain" else processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        return t.to_str()
    if kind == "clip":
        t = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
        t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
        pattern = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
        t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
        t.decoder = decoders.ByteLevel()
        t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=size, special_tokens=["<|startoftext|>", "<|endoftext|>"], end_of_word_suffix="</w>", initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
        t.post_processor = processors.RobertaProcessing(("<|endoftext|>", 1), ("<|startoftext|>", 0), trim_offsets=False, add_prefix_space=False)
        return t.to_str()
    if kind == "wordlevel":
        t = Tokenizer(models.WordLevel(unk_token="<unk>"))
        t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        t.pre_tokenizer = pre_tokenizers.Whitespace()
        t.train_from_iterator(lines, trainers.WordLevelTrainer(vocab_size=size, special_tokens=["<unk>"], show_progress=False))
        return t.to_str()
    raise ValueError(kind)


def hexes(text):
    return " ".join("%04X" % ord(c) for c in text)


def attempt(work):
    try:
        return work()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # the library's panics are not Exceptions
        return None


def answer(request):
    if "rules" in request:
        with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
            file.write("".join("%s\t%s\n" % (hexes(a), hexes(b)) for a, b in request["rules"]))
            file.flush()
            return {"definition": charsmap(open(request["text"], encoding="utf-8").read(), normalization_rule_tsv=file.name)}
    if "train" in request:
        return {"definition": train(request["train"], request["text"], request["size"])}
    try:
        tokenizer = Tokenizer.from_str(request["definition"])
    except BaseException as error:
        return {"refused": str(error)[:200]}
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(case):
        first, second, special = case
        encoding = tokenizer.encode(first, second, add_special_tokens=special)
        return [encoding.ids, encoding.type_ids]

    encoded = [attempt(lambda: encode(case)) for case in request["encode"]]
    if request.get("decode") == "own":
        ids = [own[0] if own else [] for own in encoded]
    else:
        ids = request.get("decode", [])
    return {"encoded": encoded, "decoded": [attempt(lambda: tokenizer.decode(one, skip_special_tokens=True)) for one in ids]}


def main():
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the library's panics print their traces
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
