"""The training step of bench/training.ts in PyTorch: what sotto's is measured beside.

Usage: training_step.py FOLDER, with OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1.
FOLDER holds step.json (model, optimiser, parameter names and shapes, tokens, labels) and weights.bin (float32, in that order).
Prints one line when it is ready; then every line on standard input is answered by one step: its loss and its CPU milliseconds.
The output matrix is the embedding (tied), as in bench/training.ts.
"""
import json
import os
import sys
import time

import torch
import torch.nn.functional as F

folder = sys.argv[1]
with open(os.path.join(folder, "step.json")) as file:
    given = json.load(file)
model, adam = given["model"], given["optimiser"]
D, H, B, T = model["width"], model["heads"], model["sequences"], model["tokens"]
d = D // H
torch.set_num_threads(1)

with open(os.path.join(folder, "weights.bin"), "rb") as file:
    flat = torch.frombuffer(bytearray(file.read()), dtype=torch.float32)
weights, start = {}, 0
for name, shape in given["parameters"]:
    size = torch.Size(shape).numel()
    weights[name] = flat[start : start + size].clone().reshape(shape).requires_grad_(True)
    start += size
tokens = torch.tensor(given["tokens"]).reshape(B, T)
labels = torch.tensor(given["labels"]).reshape(B * T)

angle = torch.arange(T).double()[:, None] / 10000 ** (2 * (torch.arange(d) % (d // 2)).double() / d)
cos, sin = angle.cos().float(), angle.sin().float()
hidden = torch.full((T, T), float("-inf")).triu(1)


def norm(x, gain):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * gain


def rotary(x):  # (B, H, T, d)
    turned = torch.cat([-x[..., d // 2 :], x[..., : d // 2]], -1)
    return x * cos + turned * sin


def forward():
    x = F.embedding(tokens, weights["embedding"])
    for layer in range(model["layers"]):
        w = {part: weights[f"layers.{layer}.{part}"] for part in ("norm1", "q", "k", "v", "o", "norm2", "gate", "up", "down")}
        h = norm(x, w["norm1"])
        q, k, v = (F.linear(h, w[part]).view(B, T, H, d).transpose(1, 2) for part in "qkv")
        scores = rotary(q) @ rotary(k).transpose(2, 3) / d**0.5 + hidden
        mixed = (F.softmax(scores, -1) @ v).transpose(1, 2).reshape(B, T, D)
        x = x + F.linear(mixed, w["o"])
        g = norm(x, w["norm2"])
        x = x + F.linear(F.silu(F.linear(g, w["gate"])) * F.linear(g, w["up"]), w["down"])
    logits = F.linear(norm(x, weights["norm"]), weights["embedding"])
    return F.cross_entropy(logits.view(B * T, -1), labels)


matrices = [weight for weight in weights.values() if weight.dim() > 1]
gains = [weight for weight in weights.values() if weight.dim() == 1]
optimiser = torch.optim.AdamW(
    [{"params": matrices, "weight_decay": adam["decay"]}, {"params": gains, "weight_decay": 0.0}],
    lr=given["rate"],
    betas=(adam["beta1"], adam["beta2"]),
    eps=adam["epsilon"],
)
print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
for _ in sys.stdin:
    before = time.process_time()
    optimiser.zero_grad(set_to_none=True)
    loss = forward()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(list(weights.values()), given["clip"])
    optimiser.step()
    value = loss.item()
    print(json.dumps({"loss": value, "cpuMilliseconds": 1000 * (time.process_time() - before)}), flush=True)
