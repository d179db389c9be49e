#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Greedy decoding of B sequences with llama.cpp (llama-cpp-python), all in one batch a step: the peer of bench_generate.

Prints one JSON line: prompt and decoding speed in tokens/s. Prompts are lines of {"prompt_ids": [...]}."""

import argparse
import ctypes
import json
import time

import llama_cpp
from llama_cpp import llama_cpp as api


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def silent(level, text, data):
    pass


def fill(batch, items):
    """items: (token, position, sequence, whether its logits are wanted)."""
    batch.n_tokens = len(items)
    for i, (token, position, sequence, wanted) in enumerate(items):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
        batch.seq_id[i][0] = sequence
        batch.logits[i] = int(wanted)


def argmax(context, index, size):
    import numpy

    return int(numpy.ctypeslib.as_array(api.llama_get_logits_ith(context, index), (size,)).argmax())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--new-tokens", type=int, default=64)
    args = parser.parse_args()
    with open(args.prompts, encoding="utf-8") as lines:
        given = [json.loads(line)["prompt_ids"] for line in lines]
    prompts = [given[i % len(given)] for i in range(args.batch)]
    total = sum(map(len, prompts))

    api.llama_log_set(silent, None)
    api.llama_backend_init()
    begin = time.perf_counter()
    model = api.llama_model_load_from_file(args.model.encode(), api.llama_model_default_params())
    settings = api.llama_context_default_params()
    settings.n_ctx = args.batch * (max(map(len, prompts)) + args.new_tokens + 8)
    settings.n_batch = settings.n_ubatch = max(512, total)
    settings.n_seq_max = args.batch
    settings.kv_unified = False
    settings.n_threads = settings.n_threads_batch = args.threads
    context = api.llama_init_from_model(model, settings)
    load = time.perf_counter() - begin
    size = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
    batch = api.llama_batch_init(max(total, args.batch), 0, 1)

    def run():
        api.llama_memory_clear(api.llama_get_memory(context), True)
        items, last = [], []
        for s, prompt in enumerate(prompts):
            items += [(token, i, s, i + 1 == len(prompt)) for i, token in enumerate(prompt)]
            last.append(len(items) - 1)
        start = time.perf_counter()
        fill(batch, items)
        assert api.llama_decode(context, batch) == 0
        ids = [argmax(context, i, size) for i in last]
        middle = time.perf_counter()
        written = [[i] for i in ids]
        for step in range(args.new_tokens - 1):
            fill(batch, [(ids[s], len(prompts[s]) + step, s, True) for s in range(args.batch)])
            assert api.llama_decode(context, batch) == 0
            ids = [argmax(context, s, size) for s in range(args.batch)]
            for s, token in enumerate(ids):
                written[s].append(token)
        return middle - start, time.perf_counter() - middle, written

    run()  # first use of every page and buffer
    prefill, decode, written = run()
    print(
        json.dumps(
            {
                "name": "llama.cpp",
                "version": llama_cpp.__version__,
                "batch": args.batch,
                "load_seconds": load,
                "prompt_tokens": total,
                "prefill_tokens_per_s": total / prefill,
                "decode_tokens_per_s": args.batch * (args.new_tokens - 1) / decode,
                "ids": written[0][:16],
            }
        )
    )


if __name__ == "__main__":
    main()
