#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes examples/data/toy_harmony: a tokenizer of a few hundred tokens with Harmony's special ones.

    scripts/make_toy_tokenizer.py [--merges N]

Byte-level BPE with the splitting rule of gpt-oss (tests/reference/text), trained on examples/data/synth_rows.jsonl and
on the words of Harmony's frame, which count often enough to be one token each. For toy models: a vocabulary of 201088
makes even the smallest of them slow. Needs the package `regex`.
"""
import argparse
import collections
import json
import pathlib

import regex

ROOT = pathlib.Path(__file__).resolve().parents[1]
FRAME = ("system developer user assistant analysis commentary final You are ChatGPT, a large language model trained by "
         "OpenAI.\nKnowledge cutoff: 2024-06\n\nReasoning: low Reasoning: medium Reasoning: high\n\n# Valid channels: "
         "analysis, commentary, final. Channel must be included for every message.")
SPECIAL = ["<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>",
           "<|message|>", "<|call|>"]


def byte_letters():
    """The letter that stands for each byte in byte-level BPE (GPT-2)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {b: chr(b) for b in shown}
    for b in range(256):
        if b not in letters:
            letters[b] = chr(256 + sum(1 for known in letters if known not in shown))
    return letters


def words_of(split):
    """How often each piece of the split occurs, as tuples of letters."""
    letters = byte_letters()
    texts = [(FRAME, 1000)] + [(word, 1000) for word in FRAME.split()]
    for line in (ROOT / "examples/data/synth_rows.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # broken on purpose
        texts += [(row.get(key), 1) for key in ("query", "synthetic_reasoning", "synthetic_answer")]
    count = collections.Counter()
    for text, times in texts:
        for piece in regex.findall(split, text) if isinstance(text, str) else []:
            count[tuple(letters[b] for b in piece.encode("utf-8"))] += times
    return count


def train(words, merges):
    """The most frequent pair, the first by its letters among equals, again and again."""
    out = []
    for _ in range(merges):
        pairs = collections.Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < 3:
            break
        out.append(best)
        merged = collections.Counter()
        for word, times in words.items():
            letters = []
            for letter in word:
                if letters and (letters[-1], letter) == best:
                    letters[-1] += letter
                else:
                    letters.append(letter)
            merged[tuple(letters)] += times
        words = merged
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--merges", type=int, default=360)
    options = parser.parse_args()
    form = json.loads((ROOT / "tests/reference/text/gpt-oss.tokenizer.json").read_text(encoding="utf-8"))
    split = form["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    merges = train(words_of(split), options.merges)
    tokens = [letter for _, letter in sorted(byte_letters().items())]
    tokens += [a + b for a, b in merges]
    form["model"]["vocab"] = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    form["model"]["merges"] = [list(pair) for pair in merges]
    first = len(form["model"]["vocab"])
    like = form["added_tokens"][0]
    form["added_tokens"] = [{**like, "id": first + i, "content": text} for i, text in enumerate(SPECIAL)]
    folder = ROOT / "examples/data/toy_harmony"
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(form, ensure_ascii=False, separators=(",", ":")) + "\n",
                                           encoding="utf-8")
    print(f"{first + len(SPECIAL)} tokens")


if __name__ == "__main__":
    main()
