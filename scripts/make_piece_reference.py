#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/reference/text/pieces.*: small SentencePiece tokenizers, and the ids that published libraries give.

    python scripts/make_piece_reference.py --text README.md --out tests/reference/text

Trains BPE and Unigram models with and without byte fallback on a text, writes them as tokenizer.json in the forms that
published models have, one as its pieces, scores and types (what GGUF metadata hold), and others as tokenizer.model with
a map of characters and pieces that users have defined. pieces.jsonl has texts with the ids of the tokenizers library
(of sentencepiece for the pieces and tokenizer.model). With --compare PROGRAM (`tokenize`) no files are written: N
random texts are encoded by the program and by the libraries and the differences are counted; then the maps are the
library's nmt_nfkc and nmt_nfkc_cf, and --models are further files (tokenizer.model, compared with sentencepiece;
tokenizer.json, with tokenizers). Needs sentencepiece, tokenizers and protobuf.
Made with sentencepiece 0.2.3 and tokenizers 0.23.3.
"""

import argparse
import base64
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
    "\uff21\uff22\uff43\u0301 \u00bd \u2460 \u3392",
    "a\u0301\u0301\u0301b \u00b2\u0307 \u212b \u0600e\u0301",
    "\ufb01\ufb03\u00ad\u200d\u200c x\ufe0f\u2026",
    "<sep> a<sep>b <sep",
    "\u00b4\u0385 \u1fc1\u2003\u2028\u2029",
    "\uac00\u0301\u1100\u1161 \u0915\u094d\u0937\u093f",
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


def mapped(blob, *steps):
    return {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(blob).decode()}, *steps],
        }
    }


# How converted T5 and XLM-R look.
STRIP = {"type": "Strip", "strip_left": False, "strip_right": True}
SQUEEZE = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": SPACE}
CUT_WORDS = metaspace("always", True)["pre_tokenizer"]
WORDS_FIRST = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, CUT_WORDS]}
MAPPED_FORMS = {
    "map-t5": lambda blob: {**metaspace("always", True), **mapped(blob, STRIP, SQUEEZE)},
    "map-words": lambda blob: {**metaspace("always", True), **mapped(blob), "pre_tokenizer": WORDS_FIRST},
}
# A small map: code points, what they become.
MAP = """FF21 41,FF22 42,FF43 63,FF43+301 107,65+301 E9,FB01 66+69,FB03 66+66+69,A0 20,3000 20,9 20,A 20,D 20,
BD 31+2044+32,200B 20,AD ,B4 20+301,B2 32,2026 2E+2E+2E"""
RULES = "".join(entry.strip("\n").replace(" ", "\t").replace("+", " ") + "\n" for entry in MAP.split(","))
MODELS = {  # tokenizer.model: name: settings of the trainer
    "model-unigram": {"model_type": "unigram", "user_defined_symbols": ["<sep>", SPACE * 2]},
    "model-bpe": {"model_type": "bpe", "byte_fallback": True, "user_defined_symbols": ["<sep>", "to", "\n\n"]},
    "model-plain": {"model_type": "bpe", "byte_fallback": True, "remove_extra_whitespaces": False},
    "model-bytes": {"model_type": "unigram", "byte_fallback": True, "add_dummy_prefix": False},
}
FORMS = {  # name: (model, byte fallback, the steps around it)
    "bpe-llama": ("bpe", True, LLAMA),
    "bpe-gemma": ("bpe", True, GEMMA),
    "bpe-split": ("bpe", False, metaspace("always", True)),
    "unigram-first": ("unigram", True, metaspace("first", False)),
    "unigram-split": ("unigram", False, metaspace("always", True)),
}


def train_model(folder, text, name, pieces, rules):
    """The path of a tokenizer.model; `rules`: the name of a map of the library, or None for the small one here."""
    settings = dict(MODELS[name])
    if name == "model-plain":
        settings["normalization_rule_name"] = "identity"
    elif rules:
        settings["normalization_rule_name"] = rules
    else:
        settings["normalization_rule_tsv"] = os.path.join(folder, "rules.tsv")
        with open(settings["normalization_rule_tsv"], "w", encoding="utf-8") as f:
            f.write(RULES)
    prefix = os.path.join(folder, name)
    sentencepiece.SentencePieceTrainer.train(
        input=text,
        model_prefix=prefix,
        vocab_size=pieces,
        character_coverage=0.98,
        num_threads=1,
        hard_vocab_limit=False,
        minloglevel=2,
        **settings,
    )
    return prefix + ".model"


def read_model(path):
    model = sentencepiece_model_pb2.ModelProto()
    with open(path, "rb") as f:
        model.ParseFromString(f.read())
    return model


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
    return prefix + ".model", read_model(prefix + ".model")


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


def compare(program, path, texts, encode, plain=False):
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    command = [program, "--tokenizer", path] + (["--no-special"] if plain else [])
    out = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout
    ids = [json.loads(line)["ids"] for line in out.splitlines()]
    bad = [(text, a, encode(text)) for a, text in zip(ids, texts, strict=True) if a != encode(text)]
    for text, ours, theirs in bad[:3]:
        print(json.dumps(text), ours, theirs, sep="\n  ")
    return len(bad)


def compare_json(program, folder, name, data, texts):
    tokenizer = Tokenizer.from_str(data)
    path = os.path.join(folder, name + ".json")
    with open(path, "w", encoding="utf-8") as f:
        f.write(data)
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    print(name, len(texts), "texts,", compare(program, path, texts, encode), "differ", flush=True)


def compare_model(program, path, texts):
    processor = sentencepiece.SentencePieceProcessor(model_file=path)
    print(path, len(texts), "texts,", compare(program, path, texts, processor.encode, True), "differ", flush=True)


def mapped_forms(folder, text, pieces, rules):
    model = read_model(train_model(folder, text, "model-unigram", pieces, rules))
    for name, steps in MAPPED_FORMS.items():
        blob = model.normalizer_spec.precompiled_charsmap
        yield name, json.dumps(tokenizer_json(model, "unigram", False, steps(blob)), ensure_ascii=False)


def compare_all(a, texts):
    with tempfile.TemporaryDirectory() as folder:
        for name, (kind, fallback, steps) in FORMS.items():
            model = train(folder, a.text, kind, fallback, a.pieces)[1]
            data = json.dumps(tokenizer_json(model, kind, fallback, steps), ensure_ascii=False)
            compare_json(a.compare, folder, name, data, texts)
        for rules in ("nmt_nfkc", "nmt_nfkc_cf"):
            for name, data in mapped_forms(folder, a.text, a.pieces, rules):
                compare_json(a.compare, folder, name + "-" + rules, data, texts)
            for name in MODELS:
                compare_model(a.compare, train_model(folder, a.text, name, a.pieces, rules), texts)
        for path in a.models:
            if path.endswith(".json"):
                with open(path, encoding="utf-8") as f:
                    compare_json(a.compare, folder, os.path.basename(path)[:-5], f.read(), texts)
            else:
                compare_model(a.compare, path, texts)


def reference_files(a, texts):
    """Names of files with their contents."""
    files, lines = {}, []
    with tempfile.TemporaryDirectory() as folder:
        forms = []
        for name, (kind, fallback, steps) in FORMS.items():
            model = train(folder, a.text, kind, fallback, a.pieces)[1]
            forms.append((name, json.dumps(tokenizer_json(model, kind, fallback, steps), ensure_ascii=False)))
        for name, data in [*forms, *mapped_forms(folder, a.text, a.pieces, None)]:
            tokenizer = Tokenizer.from_str(data)
            files[f"pieces.{name}.json"] = data.encode()
            for text in texts:
                ids = tokenizer.encode(text, add_special_tokens=False).ids
                decoded = tokenizer.decode(ids, skip_special_tokens=False)
                lines.append({"tokenizer": name, "text": text, "ids": ids, "decoded": decoded})
        path, model = train(folder, a.text, "bpe", True, a.pieces)
        table = [[p.piece, p.score, p.type] for p in model.pieces]
        files["pieces.scores.json"] = json.dumps(table, ensure_ascii=False).encode()
        for name, path in [("scores", path)] + [(n, train_model(folder, a.text, n, a.pieces, None)) for n in MODELS]:
            processor = sentencepiece.SentencePieceProcessor(model_file=path)
            if name != "scores":
                stored = read_model(path)
                for key in ("input", "model_prefix"):  # paths of this run
                    stored.trainer_spec.ClearField(key)
                stored.normalizer_spec.ClearField("normalization_rule_tsv")
                files[f"pieces.{name}.model"] = stored.SerializeToString()
            for text in texts:
                ids = processor.encode(text)
                line = {"tokenizer": name, "text": text, "ids": ids}
                if name != "scores" and processor.unk_id() not in ids:
                    line["decoded"] = processor.decode(ids)
                lines.append(line)
    files["pieces.jsonl"] = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
    return files


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--text", required=True)
    a.add_argument("--out")
    a.add_argument("--pieces", type=int, default=600)
    a.add_argument("--compare", metavar="PROGRAM")
    a.add_argument("--texts", type=int, default=100000)
    a.add_argument("--models", nargs="*", default=[], metavar="FILE")
    a = a.parse_args()
    random.seed(1)
    texts = TEXTS + [random_text() for _ in range(a.texts if a.compare else 60)]
    if a.compare:
        compare_all(a, texts)
        return
    for name, data in reference_files(a, texts).items():
        with open(os.path.join(a.out, name), "wb") as f:
            f.write(data)
        print(f"{name:28s} {len(data):8d} bytes")


main()
