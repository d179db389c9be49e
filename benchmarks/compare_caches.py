#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a teacher's cache saves: steps of `distil` from caches beside the live teacher, and how fast caches are written.

    benchmarks/compare_caches.py [--rounds 3] [--steps 8] [--threads N] [--out build/bench_caches] [--writing]

SmolLM2-135M -> int4 student with LoRA r = 16, batch 4 x 256, forward KL. Needs build/release with benchmarks
(scripts/test) and the model (scripts/demo --dry-run fetches it). Live teacher, top-k cache and hidden-state cache
take turns, one run of `distil` each a round; a figure is the median over rounds of the rate of a run's steps behind
the first two. Keep the machine quiet.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
BIN = ROOT / "build" / "release" / "bin"
LENGTH, BATCH = 256, 4


def run(*command):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def write_text(path, texts):
    """Made-up rows of 256 ids, every one of which counts but the first."""
    with open(path, "w", encoding="utf-8") as out:
        for t in range(texts):
            ids = [(t * 7919 + i * 104729 + i * i * 31 + 5) % 49152 for i in range(LENGTH)]
            out.write(json.dumps({"ids": ids, "loss_mask": [0] + [1] * (LENGTH - 1)}) + "\n")


def folder_bytes(path):
    return sum(f.stat().st_size for f in pathlib.Path(path).rglob("*") if f.is_file() and "tokenizer" not in f.parts)


def step_rate(out, skipped=2):
    """Tokens a second of a run's steps behind the first ones, from metrics.jsonl."""
    rates = []
    for line in (pathlib.Path(out) / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "train/tokens_per_s" in row:
            rates.append(row["train/tokens_per_s"])
    if len(rates) <= skipped:
        sys.exit(f"{out}: {len(rates)} steps with train/tokens_per_s in metrics.jsonl; more than {skipped} are needed")
    return statistics.median(rates[skipped:])


def compare_steps(args, out, text):
    """Steps from the caches of the first round beside the live teacher's."""
    ways = {
        "live teacher": ["--teacher", args.model],
        "top-k cache, k 64": ["--cache", out / "logprobs0"],
        "hidden-state cache": ["--cache", out / "hidden0"],
    }
    steps = {name: [] for name in ways}
    for turn in range(args.rounds):
        for name, teacher in ways.items():
            folder = out / f"run_{name.split()[0]}{turn}"
            run(BIN / "distil", *teacher, "--student", args.model, "--quantize", "int4", "--lora-init", "zero",
                "--data", text, "--validation-share", 0.1, "--steps", args.steps - 1, "--batch", BATCH,
                "--evaluate-every", 0, "--save-every", 0, "--max-length", LENGTH, "--threads", str(args.threads),
                "--seed", 1, "--out", folder)  # fmt: skip
            steps[name].append(step_rate(folder))

    live = statistics.median(steps["live teacher"])
    print("| step of 4 x 256 tokens | tokens/s (median; least, most) | over live | wanted |\n|---|---|---|---|")
    for (name, rates), wanted in zip(steps.items(), ("", "1.42", "1.28")):
        middle = statistics.median(rates)
        print(f"| {name} | {middle:.1f} ({min(rates):.1f}, {max(rates):.1f}) | {middle / live:.2f} | {wanted} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT / "build" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--out", default=str(ROOT / "build" / "bench_caches"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--writing", action="store_true", help="time the writing of caches alone")
    args = parser.parse_args()
    out, threads = pathlib.Path(args.out), str(args.threads)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    text = out / "text.jsonl"
    write_text(text, BATCH * args.steps)

    tokens = BATCH * args.steps * LENGTH
    writing, forward, sizes = {"logprobs": [], "hidden": []}, [], {}
    for turn in range(args.rounds):
        line = run(BIN / "bench_step", "--model", args.model, "--threads", threads, "--teacher-alone", "--steps", 3)
        forward.append(json.loads(line.splitlines()[-1])["tokens_per_s"])
        for kind, rates in writing.items():
            cache = out / f"{kind}{turn}"
            said = run(BIN / "cache_logits", "--teacher", args.model, "--data", text, "--out", cache, "--kind", kind,
                       "--batch", BATCH, "--threads", threads)  # fmt: skip
            found = re.search(r"([\d.]+) tokens/s", said)
            if not found:
                sys.exit(f"cache_logits says no rate:\n{said}")
            rates.append(float(found.group(1)))
            sizes[kind] = folder_bytes(cache) / tokens
    if not args.writing:
        compare_steps(args, out, text)
    base = statistics.median(forward)
    print("\nShares of the forward pass are medians over pairs of the same round.")
    print("\n| pass over the text | tokens/s (median; least, most) | of the forward pass | bytes a token |")
    print("|---|---|---|---|")
    print(f"| teacher's forward pass with all logits | {base:.1f} ({min(forward):.1f}, {max(forward):.1f}) | 1 | |")
    for kind, rates in writing.items():
        middle, share = statistics.median(rates), statistics.median(r / f for r, f in zip(rates, forward))
        print(
            f"| cache_logits --kind {kind} | {middle:.1f} ({min(rates):.1f}, {max(rates):.1f}) | {share:.2f} |"
            f" {sizes[kind]:.0f} |"
        )


if __name__ == "__main__":
    main()
