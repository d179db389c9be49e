#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/reference/models/{mistral,gemma2,gemma2_scale,gemma3}: tiny random models and what transformers computes.

    build/peers/venv/bin/python scripts/make_family_reference.py            writes them
    build/peers/venv/bin/python scripts/make_family_reference.py --check    computes again and compares with the files

The folders hold what the others there hold (tests/reference/models/README.md): config.json, model.safetensors and
expected.safetensors with logits, loss, every gradient, the left-padded form and greedy text. float32, CPU, eager.
"""
import os
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, MistralConfig

ROOT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests", "reference", "models")
VOCABULARY, LENGTHS = 96, (23, 14, 2)
torch.set_num_threads(1)


def families():
    common = dict(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
                  num_attention_heads=4, num_key_value_heads=2, head_dim=12, max_position_embeddings=256,
                  attention_dropout=0.0, bos_token_id=1, eos_token_id=2, pad_token_id=0, sliding_window=5)
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    return {
        "mistral": MistralConfig(**common, rms_norm_eps=1e-5, tie_word_embeddings=False,
                                 rope_parameters=dict(rope_type="default", rope_theta=1e4)),
        "gemma2": Gemma2Config(**common, query_pre_attn_scalar=12, attn_logit_softcapping=2.0,
                               final_logit_softcapping=3.0,
                               rope_parameters=dict(rope_type="default", rope_theta=1e4)),
        "gemma2_scale": Gemma2Config(**common, query_pre_attn_scalar=5, attn_logit_softcapping=None,
                                     final_logit_softcapping=None,
                                     rope_parameters=dict(rope_type="default", rope_theta=1e4)),
        "gemma3": Gemma3TextConfig(**common, query_pre_attn_scalar=12, layer_types=kinds, rope_parameters=dict(
            full_attention=dict(rope_type="linear", rope_theta=1e6, factor=4.0),
            sliding_attention=dict(rope_type="default", rope_theta=1e4))),
    }


def randomise(model, generator, gemma):
    """Weights large enough that every part matters: the factors of norms near 1, all else about 1/sqrt(fan in)."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim == 1:
                p.copy_((0 if gemma else 1) + 0.2 * noise)
            elif "embed_tokens" in name or "lm_head" in name:
                p.copy_(0.25 * noise)
            else:
                p.copy_(1.3 * noise / p.shape[-1] ** 0.5)


def loss_of(logits, ids, mask):
    valid = (mask[:, 1:] * mask[:, :-1]).bool()
    log_p = torch.log_softmax(logits[:, :-1].double(), -1).gather(-1, ids[:, 1:, None])[..., 0]
    return -(log_p * valid).sum() / valid.sum()


def padded(rows, left):
    ids, mask = (torch.zeros(len(rows), max(LENGTHS), dtype=torch.long) for _ in range(2))
    for i, row in enumerate(rows):
        place = slice(max(LENGTHS) - len(row), None) if left else slice(0, len(row))
        ids[i, place], mask[i, place] = row, 1
    return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)


def compute(model, rows):
    ids, mask, positions = padded(rows, False)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    loss = loss_of(logits, ids, mask)
    model.zero_grad()
    loss.backward()
    out = dict(ids=ids, mask=mask, logits=logits.detach() * mask[..., None], loss=loss.detach().float().reshape(1))
    out.update({"grad." + name: p.grad.detach().clone() for name, p in model.named_parameters()})
    ids, mask, positions = padded(rows, True)
    with torch.no_grad():
        left = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
        out.update(left_ids=ids, left_mask=mask, left_logits=left * mask[..., None], prompt=rows[0][None, :6])
        row = out["prompt"]
        for _ in range(12):  # without a cache: the definition
            row = torch.cat([row, model(input_ids=row, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)], 1)
    out["generated"] = row[:, 6:]
    return {name: t.contiguous().clone() for name, t in out.items()}


def check(folder):
    """The largest difference of what is computed now from what the file holds, relative to each tensor's largest."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    held = load_file(os.path.join(folder, "expected.safetensors"))
    now = compute(model, [held["ids"][i, :n] for i, n in enumerate(LENGTHS)])
    assert held.keys() == now.keys()
    return max(((now[k] - held[k]).abs().max() / held[k].abs().max().clamp(min=1e-30)).item() for k in held)


def main():
    wrong = 0
    for number, (name, config) in enumerate(families().items()):
        folder = os.path.join(ROOT, name)
        if sys.argv[1:] == ["--check"]:
            difference = check(folder)
            wrong += difference > 1e-4
            print(f"{name}: differs by {difference:.1e}")
            continue
        generator = torch.Generator().manual_seed(100 + number)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
        randomise(model, generator, name.startswith("gemma"))
        model.tie_weights()
        model.eval()
        model.save_pretrained(folder)
        rows = [torch.randint(3, VOCABULARY, (n,), generator=generator) for n in LENGTHS]
        out = compute(model, rows)
        save_file(out, os.path.join(folder, "expected.safetensors"))
        print(f"{name}: loss {out['loss'].item():.6f}, logits' deviation {out['logits'].std().item():.3f}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
