# SPDX-License-Identifier: Apache-2.0
"""What the peer scripts share: the model, the token ids that both sides use, memory and JSON lines."""

import ctypes
import json
import os
import resource
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DEFAULT_MODEL = os.path.join(ROOT, "build", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")


def token_ids(rows, length, vocabulary, seed=1):
    """Ids that any program can make: splitmix64 of (seed << 32) + index, modulo the vocabulary less its first 3 ids.

    index runs over rows, then positions: z = (seed << 32) + row * length + position + 1, times 0x9E3779B97F4A7C15; then
    the usual splitmix64 finaliser; id = 3 + z % (vocabulary - 3).
    """
    mask = (1 << 64) - 1
    out = []
    for row in range(rows):
        line = []
        for position in range(length):
            z = ((seed << 32) + row * length + position + 1) * 0x9E3779B97F4A7C15 & mask
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
            z ^= z >> 31
            line.append(3 + z % (vocabulary - 3))
        out.append(line)
    return out


def load_or_make_ids(path, rows, length, vocabulary, seed=1):
    """Reads lines {"ids": [...]} from path; if it does not exist (or is not given), makes them and writes them there."""
    if path and os.path.exists(path):
        with open(path, encoding="utf-8") as lines:
            ids = [json.loads(line)["ids"] for line in lines if line.strip()]
        if len(ids) < rows or any(len(line) != length for line in ids[:rows]):
            sys.exit(f"{path} does not hold {rows} rows of {length} ids")
        return ids[:rows]
    ids = token_ids(rows, length, vocabulary, seed)
    if path:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, "w", encoding="utf-8") as out:
            for line in ids:
                out.write(json.dumps({"ids": line}) + "\n")
    return ids


DTYPES = ("float32", "bfloat16")


def load_model(path, dtype="float32"):
    """A Hugging Face directory or a GGUF file, in one of DTYPES, transformers' default (SDPA) attention."""
    import torch
    from transformers import AutoModelForCausalLM

    scalar = getattr(torch, dtype)
    if os.path.isdir(path):
        return AutoModelForCausalLM.from_pretrained(path, dtype=scalar).eval()
    if not os.path.exists(path):
        sys.exit(f"no model at {path}: run scripts/demo once, or give --model")
    folder, name = os.path.split(os.path.abspath(path))
    return AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=scalar).eval()


def round_int4(weight, group=64):
    """The main job's rule `symmetric`: scale = amax / 7.5 per group of a row, q = clamp(round-half-even(w * (1 / scale)), -8, 7)."""
    import torch

    rows, columns = weight.shape
    grouped = weight.float().reshape(rows, columns // group, group)
    scale = grouped.abs().amax(-1, keepdim=True) / 7.5
    inverse = torch.where(scale > 0, 1 / scale, torch.zeros_like(scale))
    return ((grouped * inverse).round().clamp(-8, 7) * scale).reshape(rows, columns)


LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def round_linear_weights(model, group=64):
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".weight") and name.split(".")[-2] in LINEAR:
                parameter.copy_(round_int4(parameter, group))


def peak_rss_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rss_bytes():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def trim():
    """Gives freed pages back, so that what loading needed does not count as what training needs."""
    import gc

    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except OSError:
        pass


def emit(**fields):
    print(json.dumps(fields), flush=True)


class Clock:
    def __enter__(self):
        self.start = time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self.start


def versions():
    import importlib.metadata as metadata

    return {name: metadata.version(name) for name in ("torch", "transformers", "trl", "peft")}
