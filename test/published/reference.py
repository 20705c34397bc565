"""Models of the published library (transformers on PyTorch), tiny and random, and what they compute: the oracle of this folder's tests.

    python reference.py golden FILE          two models a family, weights by formula: logits alone are written
    python reference.py folders DIR N SEED   N folders a family as save_pretrained writes them, with expected.json beside the weights

Weights: element i of a tensor is a hash of its name and i, see `numbers`. Logits are float64; rotary angles are the library's float32.
"""

import json
import os
import random
import sys

import numpy as np
import torch
import transformers as t

torch.set_grad_enabled(False)
MASK = np.uint64(0xFFFFFFFF)


def numbers(name, count):
    """count numbers in [-0.5, 0.5): FNV-1a of the name, then a finaliser of the sum with i times the golden ratio."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x01000193) & 0xFFFFFFFF
    x = (np.uint64(seed) + np.arange(count, dtype=np.uint64) * np.uint64(2654435761)) & MASK
    for shift, factor in ((16, 2246822519), (13, 3266489917)):
        x = ((x ^ (x >> np.uint64(shift))) * np.uint64(factor)) & MASK
    x ^= x >> np.uint64(16)
    return x.astype(np.float64) / 2.0**32 - 0.5


def weights(model):
    """By name, without buffers, and without a head that is the embeddings."""
    tied = {"lm_head.weight"} if getattr(model.config, "tie_word_embeddings", False) else set()
    return {name: x for name, x in model.state_dict().items() if name not in tied and x.is_floating_point()}


def fill(model):
    """Matrices keep the size of what they are given, gains are near one, biases small."""
    for name, tensor in weights(model).items():
        values = numbers(name, tensor.numel())
        if tensor.dim() == 1:
            values = values * 0.4 + (0.0 if name.endswith("bias") else 1.0)
        elif "embed" in name and "projection" not in name:
            values = values * 3.0
        else:
            values = values * np.sqrt(12.0 / (tensor.numel() / tensor.shape[0]))
        tensor.copy_(torch.from_numpy(values.astype(np.float32)).reshape(tensor.shape))


def llama(r):
    heads = r.choice([2, 4, 6])
    groups = r.choice([g for g in (1, 2, 3, heads) if heads % g == 0])
    width = r.choice([4, 8, 10])
    scaling = r.choice([
        None,
        {"rope_type": "linear", "factor": r.choice([2.0, 4.0])},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": r.choice([16, 64])},
    ])
    own = r.random() < 0.3
    config = t.LlamaConfig(
        vocab_size=r.choice([17, 32]),
        hidden_size=heads * width,
        intermediate_size=r.choice([12, 28]),
        num_hidden_layers=r.choice([1, 2, 3]),
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=r.choice([32, 64]),
        rms_norm_eps=r.choice([1e-6, 1e-5, 1e-2]),
        rope_theta=r.choice([100.0, 10000.0, 500000.0]),
        rope_scaling=scaling,
        hidden_act=r.choice(["silu", "gelu", "gelu_pytorch_tanh", "gelu_new", "relu"]),
        tie_word_embeddings=r.random() < 0.5,
        attention_bias=r.random() < 0.5,
        mlp_bias=r.random() < 0.5,
        bos_token_id=1,
        eos_token_id=r.choice([2, [2, 5]]),
        **({"head_dim": r.choice([4, 6, 12])} if own else {}),
    )
    ids = [r.randrange(config.vocab_size) for _ in range(r.choice([2, 7, 20]))]
    return t.LlamaForCausalLM(config), {"ids": ids}


def vit(r):
    heads, patch = r.choice([1, 2, 3]), r.choice([2, 4])
    config = t.ViTConfig(
        hidden_size=heads * r.choice([4, 6]),
        intermediate_size=r.choice([10, 24]),
        num_hidden_layers=r.choice([1, 2]),
        num_attention_heads=heads,
        hidden_act=r.choice(["gelu", "gelu_new", "quick_gelu", "relu", "gelu_fast"]),
        layer_norm_eps=r.choice([1e-12, 1e-6, 1e-2]),
        image_size=patch * r.choice([1, 2, 3]),
        patch_size=patch,
        num_channels=r.choice([1, 3]),
        qkv_bias=r.random() < 0.5,
        num_labels=r.choice([2, 5]),
        problem_type=r.choice([None, "single_label_classification"]),
    )
    count = config.num_channels * config.image_size**2
    return t.ViTForImageClassification(config), {"pixels": [round(r.uniform(-1, 1), 3) for _ in range(count)]}


def encoder(r, config_class, model_class, first):
    heads = r.choice([1, 2, 4])
    positions = r.choice([16, 40])
    config = config_class(
        vocab_size=r.choice([13, 30]),
        hidden_size=heads * r.choice([3, 8]),
        intermediate_size=r.choice([10, 24]),
        num_hidden_layers=r.choice([1, 2]),
        num_attention_heads=heads,
        hidden_act=r.choice(["gelu", "gelu_new", "relu", "silu"]),
        layer_norm_eps=r.choice([1e-12, 1e-5, 1e-2]),
        max_position_embeddings=positions + first,
        type_vocab_size=1 if first else r.choice([1, 2]),
        num_labels=r.choice([2, 3]),
        **({"pad_token_id": first - 1} if first else {}),
    )
    tokens = r.choice([1, 5, positions])
    # RoBERTa counts positions past its padding, so that no id may be the padding's.
    ids = [r.randrange(first, config.vocab_size) for _ in range(tokens)]
    return model_class(config), {"ids": ids, "types": [r.randrange(config.type_vocab_size) for _ in range(tokens)]}


FAMILIES = {
    "llama": llama,
    "vit": vit,
    "bert": lambda r: encoder(r, t.BertConfig, t.BertForSequenceClassification, 0),
    "roberta": lambda r: encoder(r, t.RobertaConfig, t.RobertaForSequenceClassification, 2),
}


def logits(model, asked):
    model = model.double().eval()
    if "pixels" in asked:
        c = model.config
        shape = (1, c.num_channels, c.image_size, c.image_size)
        return model(pixel_values=torch.tensor(asked["pixels"], dtype=torch.float64).reshape(shape)).logits
    ids = torch.tensor([asked["ids"]])
    more = {"token_type_ids": torch.tensor([asked["types"]])} if "types" in asked else {}
    return model(input_ids=ids, attention_mask=torch.ones_like(ids), **more).logits


def rounded(values):
    return [float(f"{value:.9g}") for value in values.flatten().tolist()]


def golden(path):
    made = []
    for family, make in FAMILIES.items():
        for number in (1, 2):
            model, asked = make(random.Random(f"{family} {number}"))
            fill(model)
            config = {**json.loads(model.config.to_json_string()), "architectures": [type(model).__name__]}
            shapes = {name: list(x.shape) for name, x in weights(model).items()}
            made.append({"config": config, "shapes": shapes, **asked, "logits": rounded(logits(model, asked))})
    with open(path, "w") as file:
        json.dump({"transformers": t.__version__, "torch": torch.__version__, "models": made}, file, separators=(",", ":"))


def folders(directory, count, seed):
    for family, make in FAMILIES.items():
        for number in range(count):
            r = random.Random(f"{family} {seed} {number}")
            model, asked = make(r)
            fill(model)
            stored = r.choice([torch.float32, torch.float32, torch.bfloat16, torch.float16, torch.float64])
            model = model.to(stored)
            place = os.path.join(directory, f"{family}-{number}")
            model.save_pretrained(place, max_shard_size=r.choice(["5GB", "4KB"]))
            again = type(model).from_pretrained(place, dtype=torch.float32)
            with open(os.path.join(place, "expected.json"), "w") as file:
                json.dump({**asked, "logits": rounded(logits(again, asked))}, file)


if __name__ == "__main__":
    t.logging.set_verbosity_error()
    if sys.argv[1] == "golden":
        golden(sys.argv[2])
    else:
        folders(sys.argv[2], int(sys.argv[3]), sys.argv[4])
