#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/reference/text/pieces.*: small SentencePiece tokenizers, and the ids that published libraries give.

    python scripts/make_piece_reference.py --text README.md --out tests/reference/text

Trains BPE and Unigram models with and without byte fallback on a text, writes them as tokenizer.json in the forms that
published models have, and one as its pieces, scores and types (what GGUF metadata hold). pieces.jsonl has texts with
the ids of the tokenizers library (of sentencepiece for the pieces). With --compare PROGRAM (`tokenize`) no files are
written: N random texts are encoded by the program and by the libraries and the differences are counted.
Needs sentencepiece, tokenizers and protobuf. Made with sentencepiece 0.2.3 and tokenizers 0.23.3.
"""

import argparse
import json
import os
import random
import subprocess
import tempfile

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

SPACE = "\u2581"
WORDS = [
    "Привет, как дела?",
    "日本語のテキストです。",
    "안녕하세요 세계",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "Größe Straße",
    "\U0001f44d\U0001f3fd\U0001f600",
    "<0x0A>",
    SPACE * 3,
    "<s> </s> <unk>",
    "e\u0301 \ufb01",
    "the model reads a tokenizer",
    "kdlib::Tokenizer",
    "for (int i = 0; i < n; ++i)",
]
GAPS = [" ", "  ", "    ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u200b", " \n ", SPACE, ""]
TEXTS = ["", " ", "a", " a", "  a ", "Hello world", "tokenizer tokenizer", "x\x00y", "a" * 24, "\ufffd"]


def replace(old, new):
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


LLAMA = {
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, replace(" ", SPACE)]},
    "pre_tokenizer": None,
    "decoder": {
        "type": "Sequence",
        "decoders": [
            replace(SPACE, " "),
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    },
}
GEMMA = {
    "normalizer": replace(" ", SPACE),
    "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
    "decoder": {"type": "Sequence", "decoders": [replace(SPACE, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]},
}


def metaspace(scheme, split):
    step = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split}
    return {"normalizer": None, "pre_tokenizer": step, "decoder": step}


FORMS = {  # name: (model, byte fallback, the steps around it)
    "bpe-llama": ("bpe", True, LLAMA),
    "bpe-gemma": ("bpe", True, GEMMA),
    "bpe-split": ("bpe", False, metaspace("always", True)),
    "unigram-first": ("unigram", True, metaspace("first", False)),
    "unigram-split": ("unigram", False, metaspace("always", True)),
}


def train(folder, text, kind, fallback, pieces):
    prefix = os.path.join(folder, f"{kind}{fallback}")
    sentencepiece.SentencePieceTrainer.train(
        input=text,
        model_prefix=prefix,
        vocab_size=pieces,
        model_type=kind,
        byte_fallback=fallback,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto()
    with open(prefix + ".model", "rb") as f:
        model.ParseFromString(f.read())
    return prefix + ".model", model


def merges(pieces):
    """SentencePiece joins the pair whose joined piece has the highest score."""
    score = {p.piece: (-p.score, i) for i, p in enumerate(pieces) if p.type == 1}
    splits = ((t, t[:k], t[k:]) for t in score for k in range(1, len(t)))
    pairs = [(*score[t], left, right) for t, left, right in splits if left in score and right in score]
    return [[left, right] for _, _, left, right in sorted(pairs)]


def tokenizer_json(model, kind, fallback, steps):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": i, "content": p.piece, **flags} for i, p in enumerate(model.pieces) if p.type in (2, 3)]
    if kind == "bpe":
        body = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None}
        body |= {"end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": fallback, "ignore_merges": False}
        body |= {"vocab": {p.piece: i for i, p in enumerate(model.pieces)}, "merges": merges(model.pieces)}
    else:
        vocab = [[p.piece, p.score] for p in model.pieces]
        body = {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": fallback}
    head = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    return {**head, **steps, "post_processor": None, "model": body}


def random_text():
    out = random.choice(WORDS)
    for _ in range(random.randrange(4)):
        word = random.choice(WORDS)
        out += random.choice(GAPS) + word[: random.randrange(1, len(word) + 1)]
    return out


def compare(program, path, texts, encode):
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    out = subprocess.run([program, "--tokenizer", path], input=lines, capture_output=True, text=True, check=True).stdout
    ids = [json.loads(line)["ids"] for line in out.splitlines()]
    return sum(a != encode(text) for a, text in zip(ids, texts, strict=True))


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--text", required=True)
    a.add_argument("--out")
    a.add_argument("--pieces", type=int, default=600)
    a.add_argument("--compare", metavar="PROGRAM")
    a.add_argument("--texts", type=int, default=100000)
    a = a.parse_args()
    random.seed(1)
    texts = TEXTS + [random_text() for _ in range(a.texts if a.compare else 60)]
    files, lines = {}, []
    with tempfile.TemporaryDirectory() as folder:
        trained = {key: train(folder, a.text, *key, a.pieces) for key in {(k, f) for k, f, _ in FORMS.values()}}
        for name, (kind, fallback, steps) in FORMS.items():
            data = json.dumps(tokenizer_json(trained[kind, fallback][1], kind, fallback, steps), ensure_ascii=False)
            tokenizer = Tokenizer.from_str(data)
            ids = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
            if a.compare:
                path = os.path.join(folder, name + ".json")
                with open(path, "w", encoding="utf-8") as f:
                    f.write(data)
                print(name, len(texts), "texts,", compare(a.compare, path, texts, ids), "differ")
                continue
            files[f"pieces.{name}.json"] = data
            for text in texts:
                decoded = tokenizer.decode(ids(text), skip_special_tokens=False)
                lines.append({"tokenizer": name, "text": text, "ids": ids(text), "decoded": decoded})
        path, model = trained["bpe", True]
        processor = sentencepiece.SentencePieceProcessor(model_file=path)
        table = [[p.piece, p.score, p.type] for p in model.pieces]
        files["pieces.scores.json"] = json.dumps(table, ensure_ascii=False)
        for text in texts:
            ids = processor.encode(text)
            lines.append({"tokenizer": "scores", "text": text, "ids": ids})
    if a.compare:
        return
    files["pieces.jsonl"] = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    for name, text in files.items():
        with open(os.path.join(a.out, name), "w", encoding="utf-8", newline="") as f:
            f.write(text)
        print(f"{name:28s} {len(text.encode()):8d} bytes")


main()
