"""What AutoTokenizer of the installed transformers makes of folders whose tokenizer_config.json says something about tokenizer.json.

    python classes.py TEXT > cases.json    (needs transformers, tokenizers and sentencepiece)

Writes [{"note", "definition", "config", "encoded": [ids] or null, "pair": ids or null}]; see bench/tokenizer-classes.ts.
"""

import json
import os
import sys
import tempfile
import warnings

import reference

warnings.filterwarnings("ignore")
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_OFFLINE"] = "1"

TEXTS = [
    "The design",
    "  Hello  wOrld é",
    "a zebra design <s>x</s> <|endoftext|> y [MASK]<mask> <unk> z",
    "<new> and<img><fresh> it\nnew",
    "中文 ok",
    "",
]
ROBERTA = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
BERT = {"unk_token": "[UNK]", "sep_token": "[SEP]", "cls_token": "[CLS]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
TOKENS = {
    "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"},
    "llama3": {"bos_token": "<|begin|>", "eos_token": "<|endoftext|>"},
    "roberta": ROBERTA,
    "llama": LLAMA,
    "mistral": LLAMA,
    "gemma": LLAMA,
    "t5": {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "extra_ids": 0},
    "xlm-r": {**ROBERTA, "unk_token": "<unk>", "pad_token": "<pad>"},
    "bert-uncased": BERT,
    "bert-cased": {**BERT, "do_lower_case": False},
}
CLASSES = {
    "gpt2": "PreTrainedTokenizerFast GPT2Tokenizer GPT2TokenizerFast Qwen2Tokenizer GPTNeoXTokenizerFast CodeGenTokenizer BloomTokenizerFast",
    "llama3": "PreTrainedTokenizerFast TokenizersBackend LlamaTokenizerFast",
    "roberta": "PreTrainedTokenizerFast RobertaTokenizer RobertaTokenizerFast BartTokenizer LongformerTokenizer",
    "llama": "PreTrainedTokenizerFast LlamaTokenizer CodeLlamaTokenizer T5Tokenizer",
    "mistral": "PreTrainedTokenizerFast LlamaTokenizer LlamaTokenizerFast",
    "gemma": "GemmaTokenizer GemmaTokenizerFast",
    "t5": "PreTrainedTokenizerFast T5Tokenizer T5TokenizerFast",
    "xlm-r": "PreTrainedTokenizerFast XLMRobertaTokenizer XLMRobertaTokenizerFast CamembertTokenizer",
    "bert-uncased": "PreTrainedTokenizerFast BertTokenizer DistilBertTokenizer ElectraTokenizer MobileBertTokenizer MPNetTokenizer",
    "bert-cased": "BertTokenizer MPNetTokenizer",
}
FLAGS = ["add_bos_token", "add_eos_token", "add_prefix_space", "legacy", "do_lower_case", "strip_accents", "tokenize_chinese_chars"]


def changes(first):
    """What is written into tokenizer_config.json, one thing at a time."""
    yield "as it is", {}
    for flag in FLAGS:
        for value in (True, False):
            yield "%s %s" % (flag, value), {flag: value}
    plain = {key: value for key, value in first.items() if key != "id"}
    yield "added_tokens_decoder: another token by the number of one", {"added_tokens_decoder": {"0": {"content": "design"}}}
    yield "added_tokens_decoder: a token by a number far off", {"added_tokens_decoder": {"5000": {"content": "zebra", "normalized": False}}}
    yield "added_tokens_decoder: another flag", {"added_tokens_decoder": {str(first["id"]): {**plain, "lstrip": True}}}
    yield "added_tokens_decoder: the same", {"added_tokens_decoder": {str(first["id"]): plain}}
    yield "additional_special_tokens", {"additional_special_tokens": ["<new>"]}
    yield "extra_special_tokens", {"extra_special_tokens": {"image_token": "<img>"}}
    yield "a new end token", {"eos_token": "<fresh>"}
    yield "split_special_tokens", {"split_special_tokens": True}


def load(definition, config):
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("tokenizer.json", definition), ("tokenizer_config.json", config)):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                json.dump(content, file)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    return [tokenizer(text)["input_ids"] for text in TEXTS], tokenizer("The design", "a zebra")["input_ids"]


def main():
    rows = []
    for kind, names in CLASSES.items():
        definition = json.loads(reference.train(kind, sys.argv[1], 900))
        for name in names.split():
            for note, change in changes(definition["added_tokens"][0]):
                config = {**TOKENS[kind], "tokenizer_class": name, **change}
                try:
                    encoded, pair = load(definition, config)
                except Exception:  # what this version refuses, whatever it says
                    encoded = pair = None
                rows.append({"note": "%s, %s: %s" % (kind, name, note), "definition": definition, "config": config, "encoded": encoded, "pair": pair})
    json.dump({"texts": TEXTS, "rows": rows}, sys.stdout)


if __name__ == "__main__":
    main()
