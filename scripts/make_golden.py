#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Computes the numbers of tests/model/golden_test.cpp: logits, losses and gradients of tiny models made from a hash.

    python3 scripts/make_golden.py                                     prints them
    python3 scripts/make_golden.py --check tests/model/golden_test.cpp  refuses where the file says something else

Plain Python in double precision, written from the published formulas and apart from the library's code. A gradient is a
central difference of the loss. Numbers have nine decimals; gradients agree to about 1e-9.
"""
import math
import re
import sys

IDS = [1, 5, 3, 7, 2, 11]
V, H, LAYERS, HEADS, KV_HEADS = 16, 8, 2, 4, 2
FAMILIES = {
    "llama": dict(d=4, inner=12, eps=1e-5, theta=1e4, tied=True),
    "qwen2": dict(d=4, inner=12, eps=1e-6, theta=1e6, bias=True),
    "qwen3": dict(d=6, inner=12, eps=1e-6, theta=1e6, tied=True, qk_norm=True),
    "qwen3_moe": dict(d=4, inner=6, eps=1e-6, theta=1e6, qk_norm=True, moe=True),
    "qwen2_moe": dict(d=4, inner=6, eps=1e-6, theta=1e6, bias=True, moe=True, shared=10),
    "gpt_oss": dict(d=16, inner=8, eps=1e-5, theta=150000.0, bias=True, moe=True, oss=True, windows=(3, 0)),
    "mistral": dict(d=6, inner=12, eps=1e-5, theta=1e4, windows=(3, 3)),
    "gemma2": dict(d=4, inner=12, eps=1e-6, theta=1e4, tied=True, gemma=True, scalar=7, windows=(3, 0), score_cap=0.8,
                   logit_cap=1.5),
    "gemma3": dict(d=6, inner=12, eps=1e-6, theta=1e6, tied=True, gemma=True, scalar=10, windows=(3, 0), qk_norm=True,
                   factor=8, sliding_theta=1e4),
}
MASK = (1 << 64) - 1


def hash_value(name, i):
    h = 0xcbf29ce484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001b3 & MASK
    z = (h + i + 0x9E3779B97F4A7C15) & MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    z ^= z >> 31
    return (z >> 40) / 2.0**24 - 0.5


class Weights:
    """Tensors by name, made when first asked for; `moved` adds to one entry. Norms are 1 + the hash's value; Gemma adds
    1 to its weights itself, which are the value alone."""

    def __init__(self, gemma=False):
        self.made, self.moved, self.norm = {}, (None, 0, 0.0), 0.0 if gemma else 1.0

    def __call__(self, name, *shape):
        count = math.prod(shape)
        if name not in self.made:
            one = self.norm if name.endswith("norm.weight") else 0.0
            self.made[name] = [hash_value(name, i) + one for i in range(count)]
        values = self.made[name]
        if self.moved[0] == name:
            values = list(values)
            values[self.moved[1]] += self.moved[2]
        return values


def linear(x, weight, bias=None):
    n = len(x)
    rows = [sum(weight[r * n + i] * x[i] for i in range(n)) for r in range(len(weight) // n)]
    return rows if bias is None else [a + b for a, b in zip(rows, bias)]


def rms_norm(x, weight, family):
    scale = 1 / math.sqrt(sum(a * a for a in x) / len(x) + family["eps"])
    one = 1 if family.get("gemma") else 0
    return [a * scale * (one + w) for a, w in zip(x, weight)]


def capped(x, cap):
    return cap * math.tanh(x / cap) if cap else x


def softmax(z, sink=None):
    top = max(z if sink is None else z + [sink])
    e = [math.exp(a - top) for a in z]
    total = sum(e) + (0 if sink is None else math.exp(sink - top))
    return [a / total for a in e]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def rope(family, window):
    """Angles of one position step and the factor of cosine and sine; YaRN for gpt_oss. Gemma 3's layers that slide have
    a base of their own, and only the others divide by a factor."""
    d, theta = family["d"], family["theta"]
    if window and family.get("sliding_theta"):
        return [family["sliding_theta"] ** (-2 * j / d) for j in range(d // 2)], 1.0
    f = [theta ** (-2 * j / d) / family.get("factor", 1) for j in range(d // 2)]
    if not family.get("oss"):
        return f, 1.0
    low, high = (d * math.log(4096 / (beta * 2 * math.pi)) / (2 * math.log(theta)) for beta in (32, 1))
    ramp = [min(1.0, max(0.0, (j - low) / (high - low))) for j in range(d // 2)]
    return [a / 32 * r + a * (1 - r) for a, r in zip(f, ramp)], 0.1 * math.log(32) + 1


def rotate(x, position, angles, scale):
    half = len(x) // 2
    out = [0.0] * len(x)
    for j in range(half):
        c, s = math.cos(position * angles[j]) * scale, math.sin(position * angles[j]) * scale
        out[j], out[j + half] = x[j] * c - x[j + half] * s, x[j + half] * c + x[j] * s
    return out


def attention(w, family, layer, x):
    d, name = family["d"], f"model.layers.{layer}.self_attn."
    window = family.get("windows", (0, 0))[layer]
    angles, scale = rope(family, window)

    def heads(kind, count, norm):
        bias = w(f"{name}{kind}_proj.bias", count * d) if family.get("bias") else None
        rows = []
        for position, row in enumerate(x):
            flat = linear(row, w(f"{name}{kind}_proj.weight", count * d, H), bias)
            parts = [flat[i * d:(i + 1) * d] for i in range(count)]
            if norm and family.get("qk_norm"):
                parts = [rms_norm(p, w(f"{name}{kind}_norm.weight", d), family) for p in parts]
            rows.append([rotate(p, position, angles, scale) for p in parts] if norm else parts)
        return rows

    q, k, v = heads("q", HEADS, True), heads("k", KV_HEADS, True), heads("v", KV_HEADS, False)
    out, root, cap = [], math.sqrt(family.get("scalar", d)), family.get("score_cap")
    for t in range(len(x)):
        row = []
        keys = range(max(0, t - (window or len(x)) + 1), t + 1)
        for head in range(HEADS):
            group = head // (HEADS // KV_HEADS)
            scores = [capped(sum(a * b for a, b in zip(q[t][head], k[u][group])) / root, cap) for u in keys]
            sink = w(name + "sinks", HEADS)[head] if family.get("oss") else None
            p = softmax(scores, sink)
            row += [sum(p[i] * v[u][group][j] for i, u in enumerate(keys)) for j in range(d)]
        bias = w(name + "o_proj.bias", H) if family.get("oss") else None
        out.append(linear(row, w(name + "o_proj.weight", H, HEADS * d), bias))
    return out


def silu(x):
    return x * sigmoid(x)


def gelu(x):
    """GELU by tanh."""
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def gated(w, name, x, inner, act=silu):
    gate, up = (linear(x, w(f"{name}.{kind}_proj.weight", inner, H)) for kind in ("gate", "up"))
    return linear([act(g) * u for g, u in zip(gate, up)], w(name + ".down_proj.weight", H, inner))


def clamped_expert(w, name, x, expert, inner):
    """Expert of gpt_oss: rows of gate and up alternate; limit 0.75, alpha 1.702."""
    n = 2 * inner * H
    both = linear(x, w(name + "gate_up_proj", 4, 2 * inner, H)[expert * n:(expert + 1) * n],
                  w(name + "gate_up_proj_bias", 4, 2 * inner)[expert * 2 * inner:(expert + 1) * 2 * inner])
    gate = [min(g, 0.75) for g in both[0::2]]
    up = [min(max(u, -0.75), 0.75) for u in both[1::2]]
    y = [(u + 1) * g * sigmoid(1.702 * g) for g, u in zip(gate, up)]
    return linear(y, w(name + "down_proj", 4, H, inner)[expert * H * inner:(expert + 1) * H * inner],
                  w(name + "down_proj_bias", 4, H)[expert * H:(expert + 1) * H])


def feed_forward(w, family, layer, x, routed):
    name, inner = f"model.layers.{layer}.mlp.", family["inner"]
    if not family.get("moe"):
        return gated(w, name[:-1], x, inner, gelu if family.get("gemma") else silu)
    oss = family.get("oss")
    router = name + ("router" if oss else "gate")
    logits = linear(x, w(router + ".weight", 4, H), w(router + ".bias", 4) if oss else None)
    p = softmax(logits)
    chosen = sorted(range(4), key=lambda e: -logits[e])[:2]
    routed.append((p, chosen))
    whole = 1.0 if family.get("shared") else sum(p[e] for e in chosen)
    y = [0.0] * H
    for e in chosen:
        part = clamped_expert(w, name + "experts.", x, e, inner) if oss else gated(w, f"{name}experts.{e}", x, inner)
        y = [a + p[e] / whole * b for a, b in zip(y, part)]
    if family.get("shared"):
        g = sigmoid(linear(x, w(name + "shared_expert_gate.weight", 1, H))[0])
        y = [a + g * b for a, b in zip(y, gated(w, name + "shared_expert", x, family["shared"]))]
    return y


def forward(w, family):
    """Logits of the six positions, and each layer's and token's router probabilities and chosen experts."""
    routed, gemma = [], family.get("gemma")
    embedding = w("model.embed_tokens.weight", V, H)
    x = [[a * (math.sqrt(H) if gemma else 1) for a in embedding[i * H:(i + 1) * H]] for i in IDS]
    for layer in range(LAYERS):
        def norm(name, rows):
            return [rms_norm(row, w(f"model.layers.{layer}.{name}_layernorm.weight", H), family) for row in rows]

        y = attention(w, family, layer, norm("input", x))
        x = [[a + b for a, b in zip(r, s)] for r, s in zip(x, norm("post_attention", y) if gemma else y)]
        seen = norm("pre_feedforward" if gemma else "post_attention", x)
        y = [feed_forward(w, family, layer, s, routed) for s in seen]
        x = [[a + b for a, b in zip(r, s)] for r, s in zip(x, norm("post_feedforward", y) if gemma else y)]
    head = embedding if family.get("tied") else w("lm_head.weight", V, H)
    logits = [linear(rms_norm(row, w("model.norm.weight", H), family), head) for row in x]
    return [[capped(z, family.get("logit_cap")) for z in row] for row in logits], routed


def loss_of(logits):
    return -sum(math.log(softmax(row)[label]) for row, label in zip(logits, IDS[1:])) / (len(IDS) - 1)


def balance(routed):
    """Load balance of both layers together: E sum over e of (share of choices of e) * (mean probability of e)."""
    n = len(routed)
    share = [sum(e in chosen for _, chosen in routed) / n for e in range(4)]
    mean = [sum(p[e] for p, _ in routed) / n for e in range(4)]
    return 4 * sum(a * b for a, b in zip(share, mean))


def gradient(w, family, tensor, index):
    values = []
    for step in (1e-4, -1e-4, 2e-4, -2e-4):
        w.moved = (tensor, index, step)
        values.append(loss_of(forward(w, family)[0]))
    w.moved = (None, 0, 0.0)
    return (8 * (values[0] - values[1]) - (values[2] - values[3])) / 12e-4


def expected(path):
    """By family: the numbers before the gradients, the gradients, and what follows them."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    out = {}
    for part in text.split("{Family::")[1:]:
        name = part[:part.index(",")]
        entries = re.findall(r'\{"([^"]+)",\s*(\d+),\s*(-?[\d.]+)\}', part)
        first = part.index('{{"')
        last = part.index("}}", first)
        tail = re.match(r"\}\},?\s*(-?\d+\.\d+)?", part[last:]).group(1)
        out[name] = (re.findall(r"-?\d+\.\d{9}", part[:first]), entries, tail)
    return out


def main():
    path = sys.argv[2] if len(sys.argv) == 3 and sys.argv[1] == "--check" else "tests/model/golden_test.cpp"
    wrong = compared = 0
    for name, (numbers, entries, tail) in expected(path).items():
        family = FAMILIES[name]
        w = Weights(family.get("gemma"))
        logits, routed = forward(w, family)
        pairs = list(zip(["logits[5]"] * 8 + ["logits[0]"] * 3 + ["sum", "loss"],
                         logits[5][:8] + logits[0][:3] + [sum(map(sum, logits)), loss_of(logits)], numbers))
        assert len(numbers) == 13, f"{name}: {len(numbers)} numbers before the gradients; 13 needed"
        pairs += [(f"{t} {i}", gradient(w, family, t, int(i)), value) for t, i, value in entries]
        if family.get("moe"):
            pairs.append(("balance", balance(routed), tail))
        for what, value, text in pairs:
            compared += 1
            if len(sys.argv) == 1:
                print(f"{name} {what} {value:.9f}")
            if abs(value - float(text)) > 2e-9:
                wrong += 1
                print(f"{name} {what}: the file has {text}, computed {value:.9f}")
    print(f"{compared} numbers, {wrong} differ")
    sys.exit(1 if wrong or compared == 0 else 0)


if __name__ == "__main__":
    main()
