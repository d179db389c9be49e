# SPDX-License-Identifier: Apache-2.0
"""Greedy generation with transformers on the CPU (--dtype float32, bfloat16), the peer of benchmarks/bench_generate.

    build/peers/venv/bin/python benchmarks/peers/hf_generate.py --threads 2 --batch 1 16 --max-new-tokens 128

Prompts: the first rows of examples/data/validation.jsonl (or --prompts), rendered as ChatML without a system turn; a batch is left padded.
End tokens do not stop a row, so every row writes exactly --max-new-tokens. Prefill is the time of a call that writes one token; decoding is the
time of the whole call less that, over the remaining tokens. With --write-prompts F.jsonl the prompts' ids are written as {"prompt_ids": [...]}, and
with --write-ids F.jsonl what was generated as {"ids": [...]}, so that another program can be given the same and compared.
Prints per batch {"name", "batch", "prompt_tokens", "new_tokens", "prefill_tokens_per_s", "decode_tokens_per_s", "tokens_per_s", "seconds",
"peak_rss_bytes"}, medians of --repeats interleaved calls.
"""

import argparse
import json
import os
import statistics
import sys

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import common


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--model", default=common.DEFAULT_MODEL, help="GGUF file or Hugging Face directory")
    a.add_argument(
        "--prompts",
        default=os.path.join(common.ROOT, "examples", "data", "validation.jsonl"),
        help="lines {\"prompt\"} or {\"prompt_ids\"}",
    )
    a.add_argument("--dtype", choices=common.DTYPES, default="float32", help="scalars of the model")
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    a.add_argument("--max-new-tokens", type=int, default=128)
    a.add_argument("--repeats", type=int, default=1)
    a.add_argument("--write-prompts")
    a.add_argument("--write-ids")
    return a.parse_args()


def prompt_ids(a, count):
    """Ids of `count` prompts; the tokenizer is loaded only if a line holds text."""
    from transformers import AutoTokenizer

    tokenizer, rows = None, []
    with open(a.prompts, encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line) if line.strip() else {}
            if "prompt_ids" in record:
                rows.append(record["prompt_ids"])
            elif "prompt" in record:
                if tokenizer is None:
                    folder, name = os.path.split(os.path.abspath(a.model))
                    tokenizer = (
                        AutoTokenizer.from_pretrained(a.model)
                        if os.path.isdir(a.model)
                        else AutoTokenizer.from_pretrained(folder, gguf_file=name)
                    )
                text = f"<|im_start|>user\n{record['prompt']}<|im_end|>\n<|im_start|>assistant\n"
                rows.append(tokenizer(text, add_special_tokens=False).input_ids)
            if len(rows) == count:
                return rows
    sys.exit(f"{a.prompts} holds {len(rows)} prompts, {count} are needed")


def padded(rows, pad):
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def main():
    a = arguments()
    import torch

    torch.set_num_threads(a.threads)
    model = common.load_model(a.model, a.dtype)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    common.trim()
    rows = prompt_ids(a, max(a.batch))
    if a.write_prompts:
        with open(a.write_prompts, "w", encoding="utf-8") as out:
            out.writelines(json.dumps({"prompt_ids": row}) + "\n" for row in rows)

    def write(batch, tokens):
        ids, mask = padded(rows[:batch], 0)
        with torch.no_grad(), common.Clock() as clock:
            result = model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
            )
        return clock.seconds, result[:, ids.shape[1] :]

    write(1, 4)
    prefill, whole, written = {b: [] for b in a.batch}, {b: [] for b in a.batch}, {}
    for _ in range(a.repeats):
        for batch in a.batch:
            prefill[batch].append(write(batch, 1)[0])
            seconds, written[batch] = write(batch, a.max_new_tokens)
            whole[batch].append(seconds)
    for batch in a.batch:
        first, total = statistics.median(prefill[batch]), statistics.median(whole[batch])
        real = sum(map(len, rows[:batch]))
        common.emit(
            name="hf_generate",
            batch=batch,
            threads=a.threads,
            dtype=a.dtype,
            prompt_tokens=real,
            new_tokens=written[batch].numel(),
            prefill_tokens_per_s=round(real / first, 2),
            decode_tokens_per_s=round(batch * (a.max_new_tokens - 1) / (total - first), 2),
            tokens_per_s=round(written[batch].numel() / total, 2),
            seconds=round(total, 3),
            peak_rss_bytes=common.peak_rss_bytes(),
            repeats=a.repeats,
            versions=common.versions(),
        )
    if a.write_ids:
        with open(a.write_ids, "w", encoding="utf-8") as out:
            out.writelines(json.dumps({"ids": row}) + "\n" for row in written[max(a.batch)].tolist())


if __name__ == "__main__":
    main()
