#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts the texts to which kdlib's byte-level tokenizers and the tokenizers library give different ids.

    python scripts/compare_byte_level.py --program build/release/bin/tokenize --text README.md docs/*.md --texts 100000

One tokenizer for each pre-tokenizer that kdlib knows is trained on the files; --tokenizers are further tokenizer.json
files. The texts are random: words of many scripts, numbers, white space of all kinds, contractions, marks, emoji and
parts of the files. Prints up to three differences of a family. Needs tokenizers (written with 0.23.3).
"""

import argparse
import json
import os
import random
import subprocess
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
FRONT = r"[^\r\n\p{L}\p{N}]?"
QWEN = rf"{SUFFIX}|{FRONT}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{TAIL}"
LLAMA3 = rf"{SUFFIX}|{FRONT}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{TAIL}"
O200K = (
    rf"{FRONT}{UPPER}*{LOWER}+{SUFFIX}?|{FRONT}{UPPER}+{LOWER}*{SUFFIX}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{TAIL}"
)


def split(regex):
    bytes_step = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), bytes_step])


GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
FAMILIES = {  # name: (pre-tokenizer, NFC, ignore_merges)
    "gpt2": (GPT2, False, False),
    "smollm2": (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2]), False, False),
    "qwen2": (split(QWEN), True, False),
    "llama3": (split(LLAMA3), False, True),
    "o200k": (split(O200K), False, False),
}
RANGES = """
0041-005A 0061-007A 00C0-024F 0300-036F 0370-03FF 0400-04FF 0531-0587 0590-05F4 0600-06FF 0900-097F 0E00-0E5B
1100-11FF 1E00-1EFF 1F00-1FFF 2000-206F 2070-209F 20A0-20BF 2100-214F 2150-218B 2190-21FF 2200-22FF 2460-24FF
3040-30FF 3130-318F 3400-3420 4E00-4E80 A640-A69F AC00-AC40 FB00-FB06 FE00-FE0F FF10-FF5A 10400-1044F
1D400-1D440 1F1E6-1F1FF 1F300-1F64F 1F900-1F9FF 0660-0669 0966-096F 00B2-00BE
""".split()
SPACES = [" ", "  ", "   ", "\n", "\n\n", " \n", "\r\n", "\t", "\u00a0"]
SPACES += ["\u2003", "\u3000", "\u2028", "\u0085", "\r", "\v"]
MARKS = ["'s", "'T", "'LL", "'\u017f", "'re", "\u2019s", "'", '"', "...", "!?", "/", "//"]
MARKS += ["_", "--", "{}", "=>", "\u200b"]


def letters():
    begin, end = (int(x, 16) for x in random.choice(RANGES).split("-"))
    return "".join(chr(random.randint(begin, end)) for _ in range(random.randrange(1, 6)))


def random_text(source):
    out = ""
    for _ in range(random.randrange(1, 8)):
        kind = random.randrange(6)
        if kind == 0:
            at = random.randrange(len(source))
            out += source[at : at + random.randrange(1, 40)]
        elif kind == 1:
            out += str(random.randrange(10 ** random.randrange(1, 8)))
        elif kind == 2:
            out += random.choice(MARKS)
        elif kind == 3:
            out += random.choice(SPACES)
        else:
            out += letters()
    return out


def family(name, source, pieces):
    pre, nfc, ignore_merges = FAMILIES[name]
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=pieces, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([source], trainer)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.add_tokens([AddedToken("<plain>", lstrip=True, normalized=nfc)])
    return tokenizer.to_str()


def compare(program, folder, name, data, texts):
    tokenizer = Tokenizer.from_str(data)
    path = os.path.join(folder, name + ".json")
    with open(path, "w", encoding="utf-8") as f:
        f.write(data)
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    run = subprocess.run([program, "--tokenizer", path], input=lines, capture_output=True, text=True, check=True)
    ours = [json.loads(line)["ids"] for line in run.stdout.splitlines()]
    theirs = [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    bad = [i for i in range(len(texts)) if ours[i] != theirs[i]]
    for i in bad[:3]:
        print(json.dumps(texts[i]), ours[i], theirs[i], sep="\n  ")
    print(f"{name}: {len(texts)} texts, {sum(map(len, theirs))} ids, {len(bad)} differ", flush=True)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--program", required=True)
    a.add_argument("--text", nargs="+", required=True)
    a.add_argument("--texts", type=int, default=100000)
    a.add_argument("--pieces", type=int, default=3000)
    a.add_argument("--tokenizers", nargs="*", default=[], metavar="FILE")
    a = a.parse_args()
    random.seed(1)
    source = ""
    for path in a.text:
        with open(path, encoding="utf-8") as f:
            source += f.read()
    texts = [random_text(source) for _ in range(a.texts)]
    texts += ["", "<|endoftext|>", "a <plain> b", "<|endoftext|> x<plain>"]
    with tempfile.TemporaryDirectory() as folder:
        for name in FAMILIES:
            compare(a.program, folder, name, family(name, source, a.pieces), texts)
        for path in a.tokenizers:
            with open(path, encoding="utf-8") as f:
                compare(a.program, folder, os.path.basename(path).replace(".json", ""), f.read(), texts)


main()
