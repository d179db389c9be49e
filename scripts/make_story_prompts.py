#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes prompts for stories260K as ids: beginnings of stories, put together from the lists below (written for kdlib).

    scripts/make_story_prompts.py PIECES.json FOLDER     # prompts.jsonl (192 lines) and validation.jsonl (64 others)

The model's vocabulary is a sentencepiece BPE, which kdlib does not read: the pair of pieces with the highest score is joined first.
"""

import itertools
import json
import pathlib
import sys

NAMES = ["Lily", "Tom", "Mia", "Ben", "Anna", "Sam", "Lucy", "Max"]
OPENINGS = [
    "Once upon a time, there was a {} named {}.",
    "One day, a {} named {} went to the park.",
    "{1} was a {0} who liked to play.",
    "There was a little {} called {}.",
]
WHO = ["little girl", "boy", "cat", "dog", "bird", "big bear", "small fish", "red fox"]


def encode(text, score):
    pieces = [c if c in score else None for c in " " + text]
    if None in pieces:
        sys.exit(f"make_story_prompts: no piece for a character of {text!r}")
    while True:
        best = max(
            ((score[a + b][1], -i) for i, (a, b) in enumerate(zip(pieces, pieces[1:])) if a + b in score), default=None
        )
        if best is None:
            return [score[p][0] for p in pieces]
        i = -best[1]
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    pieces = json.loads(pathlib.Path(sys.argv[1]).read_text())["pieces"]
    score = {piece: (i, value) for i, (piece, value) in enumerate(pieces) if i > 2}
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"prompt_ids": [1] + encode(o.format(w, n), score)})
        for o, w, n in itertools.product(OPENINGS, WHO, NAMES)
    ]
    held_out = [line for i, line in enumerate(lines) if i % 4 == (i // 8 + i // 64) % 4]
    (folder / "prompts.jsonl").write_text("".join(line + "\n" for line in lines if line not in set(held_out)))
    (folder / "validation.jsonl").write_text("".join(line + "\n" for line in held_out))


if __name__ == "__main__":
    main()
