#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/reference/gguf/golden_*.gguf with the Python package gguf: one tiny model an architecture, weights from a hash (tests/model/golden.hpp).

build/peers/venv/bin/python scripts/make_gguf_reference.py [folder]
"""

import pathlib
import sys

import gguf
import numpy as np

H, I, V, LAYERS, HEADS, KV = 8, 12, 16, 2, 4, 2
MASK = (1 << 64) - 1


def weights(name, *shape):
    """FNV-1a of the name, then SplitMix64 of hash + index, in [-0.5, 0.5); norms 1 + that."""
    h = 0xCBF29CE484222325
    for c in name.encode():
        h = ((h ^ c) * 0x100000001B3) & MASK
    values = []
    for i in range(int(np.prod(shape))):
        z = (h + i + 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        z ^= z >> 31
        values.append((z >> 40) / 16777216.0 - 0.5 + (1.0 if name.endswith("norm.weight") else 0.0))
    return np.array(values, np.float32).reshape(shape)


def interleave(w, heads):
    """Rows of q and k as architecture llama has them."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def experts(path, name, count, *shape):
    return np.stack([weights(f"{path}.experts.{e}.{name}.weight", *shape) for e in range(count)])


def write(folder, arch, head, eps, theta, tied=False, bias=False, norms=False, moe=0, shared=0, split=0):
    path = folder / f"{'split' if split else 'golden'}_{arch.replace('-', '_')}.gguf"
    w = gguf.GGUFWriter(str(path), arch, split_max_tensors=split)
    w.add_block_count(LAYERS)
    w.add_embedding_length(H)
    w.add_context_length(2048)
    w.add_feed_forward_length(8 if arch == "gpt-oss" else I)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV)
    w.add_key_length(head)
    w.add_value_length(head)
    w.add_layer_norm_rms_eps(eps)
    w.add_rope_freq_base(theta)
    if moe:
        w.add_expert_count(4)
        w.add_expert_used_count(2)
        w.add_expert_feed_forward_length(moe)
    if shared:
        w.add_expert_shared_feed_forward_length(shared)
    if arch == "gpt-oss":
        w.add_sliding_window(3)
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(32.0)
        w.add_rope_scaling_orig_ctx_len(4096)
    w.add_tokenizer_model("none")
    w.add_vocab_size(V)
    add = lambda name, x: w.add_tensor(name, np.ascontiguousarray(x))
    add("token_embd.weight", weights("model.embed_tokens.weight", V, H))
    for n in range(LAYERS):
        layer, out = f"model.layers.{n}", f"blk.{n}"
        add(f"{out}.attn_norm.weight", weights(f"{layer}.input_layernorm.weight", H))
        for letter, rows, heads in (("q", HEADS * head, HEADS), ("k", KV * head, KV), ("v", KV * head, 0)):
            parts = {"weight": (rows, H)} | ({"bias": (rows,)} if bias else {})
            for kind, shape in parts.items():
                x = weights(f"{layer}.self_attn.{letter}_proj.{kind}", *shape)
                add(f"{out}.attn_{letter}.{kind}", interleave(x, heads) if arch == "llama" and heads else x)
        add(f"{out}.attn_output.weight", weights(f"{layer}.self_attn.o_proj.weight", H, HEADS * head))
        if norms:
            for letter in "qk":
                add(f"{out}.attn_{letter}_norm.weight", weights(f"{layer}.self_attn.{letter}_norm.weight", head))
        if arch == "gpt-oss":
            add(f"{out}.attn_output.bias", weights(f"{layer}.self_attn.o_proj.bias", H))
            add(f"{out}.attn_sinks.weight", weights(f"{layer}.self_attn.sinks", HEADS))
        add(
            f"{out}.{'post_attention_norm' if arch == 'gpt-oss' else 'ffn_norm'}.weight",
            weights(f"{layer}.post_attention_layernorm.weight", H),
        )
        mlp = f"{layer}.mlp"
        if arch == "gpt-oss":
            add(f"{out}.ffn_gate_inp.weight", weights(f"{mlp}.router.weight", 4, H))
            add(f"{out}.ffn_gate_inp.bias", weights(f"{mlp}.router.bias", 4))
            both, both_bias = weights(f"{mlp}.experts.gate_up_proj", 4, 2 * moe, H), weights(
                f"{mlp}.experts.gate_up_proj_bias", 4, 2 * moe
            )
            for first, name in enumerate(("gate", "up")):  # row by row
                add(f"{out}.ffn_{name}_exps.weight", both[:, first::2])
                add(f"{out}.ffn_{name}_exps.bias", both_bias[:, first::2])
            add(f"{out}.ffn_down_exps.weight", weights(f"{mlp}.experts.down_proj", 4, H, moe))
            add(f"{out}.ffn_down_exps.bias", weights(f"{mlp}.experts.down_proj_bias", 4, H))
        elif moe:
            add(f"{out}.ffn_gate_inp.weight", weights(f"{mlp}.gate.weight", 4, H))
            add(f"{out}.ffn_gate_exps.weight", experts(mlp, "gate_proj", 4, moe, H))
            add(f"{out}.ffn_up_exps.weight", experts(mlp, "up_proj", 4, moe, H))
            add(f"{out}.ffn_down_exps.weight", experts(mlp, "down_proj", 4, H, moe))
            if shared:
                add(f"{out}.ffn_gate_inp_shexp.weight", weights(f"{mlp}.shared_expert_gate.weight", H))
                for name, shape in (("gate", (shared, H)), ("up", (shared, H)), ("down", (H, shared))):
                    add(f"{out}.ffn_{name}_shexp.weight", weights(f"{mlp}.shared_expert.{name}_proj.weight", *shape))
        else:
            for name, shape in (("gate", (I, H)), ("up", (I, H)), ("down", (H, I))):
                add(f"{out}.ffn_{name}.weight", weights(f"{mlp}.{name}_proj.weight", *shape))
    add("output_norm.weight", weights("model.norm.weight", H))
    if not tied:
        add("output.weight", weights("lm_head.weight", V, H))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/reference/gguf")
write(folder, "llama", 4, 1e-5, 1e4, tied=True)
write(folder, "qwen2", 4, 1e-6, 1e6, bias=True)
write(folder, "qwen3", 6, 1e-6, 1e6, tied=True, norms=True)
write(folder, "qwen2moe", 4, 1e-6, 1e6, bias=True, moe=6, shared=10)
write(folder, "qwen3moe", 4, 1e-6, 1e6, norms=True, moe=6)
write(folder, "gpt-oss", 16, 1e-5, 150000.0, bias=True, moe=8)
write(folder, "llama", 4, 1e-5, 1e4, tied=True, split=8)
