#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes toy models with a byte tokenizer, for tests of programs: random weights, Llama's architecture, 2 layers.

    toy_model.py FOLDER [SEED] [WIDTH]
"""
import json
import pathlib
import random
import struct
import sys


def byte_letters():
    """The printable letter of each byte in byte-level BPE (GPT-2)."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, extra = {}, 0
    for byte in range(256):
        if byte in kept:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(256 + extra)
            extra += 1
    return letters


def tokenizer():
    letters = byte_letters()
    end = "<|end|>"
    vocabulary = {letters[b]: b for b in range(256)}
    vocabulary[end] = 256
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": 256, "content": end, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary,
                  "merges": []},
    }


def write_safetensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 4 * len(values)]}
        at += 4 * len(values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, values in tensors.values():
            out.write(struct.pack(f"<{len(values)}f", *values))


def write_model(folder, seed=1, width=32):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    vocabulary, layers, inner = 257, 2, 2 * width

    def matrix(rows, columns):
        return [rows, columns], [rng.gauss(0, columns ** -0.5) for _ in range(rows * columns)]

    tensors = {"model.embed_tokens.weight": matrix(vocabulary, width)}
    for i in range(layers):
        at = f"model.layers.{i}."
        for name in ("q", "k", "v", "o"):
            tensors[f"{at}self_attn.{name}_proj.weight"] = matrix(width, width)
        tensors[at + "mlp.gate_proj.weight"] = matrix(inner, width)
        tensors[at + "mlp.up_proj.weight"] = matrix(inner, width)
        tensors[at + "mlp.down_proj.weight"] = matrix(width, inner)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}{name}.weight"] = [width], [1.0] * width
    tensors["model.norm.weight"] = [width], [1.0] * width
    tensors["lm_head.weight"] = matrix(vocabulary, width)
    write_safetensors(folder / "model.safetensors", tensors)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": width,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": 4,
        "num_key_value_heads": 4, "vocab_size": vocabulary, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False, "bos_token_id": None,
        "eos_token_id": 256, "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "add_bos_token": False,
        "chat_template": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
                         "{% if add_generation_prompt %}assistant: {% endif %}"}))


def write_texts(folder, count=24, data=80):
    folder = pathlib.Path(folder)
    with open(folder / "prompts.jsonl", "w") as out:
        for i in range(count):
            out.write(json.dumps({"prompt": f"Tell me about the number {i}."}) + "\n")
    with open(folder / "data.jsonl", "w") as out:
        for i in range(data):
            out.write(json.dumps({"text": f"The number {i} is followed by {i + 1}, and then by {i + 2}."}) + "\n")


if __name__ == "__main__":
    write_model(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1,
                int(sys.argv[3]) if len(sys.argv) > 3 else 32)
