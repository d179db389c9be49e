#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/reference/text: cut-down tokenizers and what the Hugging Face tokenizers library computes with them.

    python scripts/make_text_reference.py --shared ../shared --smollm2 SmolLM2-135M-Instruct.Q4_1.gguf --out tests/reference/text

A cut-down tokenizer keeps the published ids. It has the first tokens of the vocabulary, every token and merge that the texts of
VECTORS need on the way (gpt-oss: the Harmony conversations too), and all other merges whose three tokens are kept; so the ids of VECTORS
are those of the whole tokenizer.
Needs tokenizers, gguf and the shared folder (data/tokenizers, reference/tokenizers).
"""

import argparse
import json
import lzma
import os
import re

from tokenizers import Tokenizer

FIRST = 1200  # so many tokens from the front of each vocabulary
LONGEST = 48  # characters of a reference string that is taken over
VECTORS = [
    "Hello, world!",
    "Hello world",
    " Hello",
    "  two  spaces   end  ",
    "a\nb\n\nc\r\n d",
    "\t\ttabs",
    "3.14159 12345678",
    "I'm we'LL don't IT'S",
    "caf\u00e9",
    "cafe\u0301",
    "日本語テスト。",
    "Привет мир",
    "\U0001f600\U0001f44d\U0001f3fd",
    "x=1;//c\n",
    "ＡＢＣ１２３",
    "naïve ½ ² Ⅻ",
    "  \n  \n x",
    "camelCaseWORDSHere's",
    "\u00a0nbsp\u3000ideo",
    "\n\n\n",
    "<|im_start|>user\nHi<|im_end|>\n",
    "user",
    "assistant",
    "system",
    "developer",
    "analysis",
    "final",
    "commentary",
    "low",
    "medium",
    "high",
    "The quick brown fox jumps over the lazy dog.",
    "1234567890 + 3.14159",
    "  multiple   spaces  and\ttabs\n",
    " leading space",
    "trailing space ",
    "don't can't won't I'm you're",
    "あ",
    "TypeScriptで実装したい",
    "```python\nprint('hello')\n```",
    "\U0001f600\U0001f680 emoji test \U0001f389",
    "Mixed 日本語 and English in ONE sentence 123",
    "<|im_start|>user\nこんにちは、調子はどう?<|im_end|>\n",
    "",
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
]
NAMES = ["qwen3", "gpt-oss", "smollm2"]


def byte_alphabet():
    table = {b: chr(b) for b in [*range(33, 127), *range(161, 173), *range(174, 256)]}
    others = (b for b in range(256) if b not in table)
    return {**table, **{b: chr(256 + n) for n, b in enumerate(others)}}


ALPHABET = byte_alphabet()


def smollm2_json(path):
    """The tokenizer.json that the GGUF metadata stands for (tokenizer.ggml.pre = smollm)."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    field = lambda key: fields["tokenizer.ggml." + key].contents()
    tokens = field("tokens")
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    added = [
        {
            "id": i,
            "content": tokens[i],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, kind in enumerate(field("token_type"))
        if kind == 3
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, level]},
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {t: i for i, t in enumerate(tokens)},
            "merges": field("merges"),
        },
    }


def tokens_on_the_way(full, data, texts):
    """Every token that merging these texts passes through."""
    model = data["model"]
    halves = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    rank = {pair: r for r, pair in enumerate(halves)}
    kept = set()
    added = "|".join(re.escape(t["content"]) for t in data["added_tokens"])
    for text in (gap for t in texts for gap in re.split(added, t)):
        text = full.normalizer.normalize_str(text) if full.normalizer else text
        for piece, _ in full.pre_tokenizer.pre_tokenize_str(text):
            if model["ignore_merges"] and piece in model["vocab"]:
                kept.add(piece)
            parts = [c for c in piece if c in model["vocab"]]
            kept.update(parts)
            while len(parts) > 1:
                best = min(range(len(parts) - 1), key=lambda i: rank.get((parts[i], parts[i + 1]), len(rank)))
                if (parts[best], parts[best + 1]) not in rank:
                    break
                parts[best : best + 2] = [parts[best] + parts[best + 1]]
                kept.add(parts[best])
    return kept


def library_json(data):
    """As the library must be given a vocabulary with gaps: it numbers added tokens itself unless model.vocab has them."""
    vocab = {**data["model"]["vocab"], **{t["content"]: t["id"] for t in data["added_tokens"]}}
    return {**data, "model": {**data["model"], "vocab": vocab}}


def harmony_gaps(full, row):
    """The stretches of text between the framing tokens of a Harmony row, and its ids with None where a stretch stood."""
    special = full.token_to_id("<|startoftext|>")
    gaps, frame, gap = [], [], []
    for i in row["ids"] + [None]:
        if i is not None and i < special:
            gap.append(i)
            continue
        if gap:
            gaps.append(full.decode(gap))
            frame.append(None)
        gap = []
        frame += [] if i is None else [i]
    return gaps, frame


def harmony_line(full, reference, row):
    gaps, frame = harmony_gaps(full, row)
    gaps = iter(gaps)
    line = {k: v for k, v in row.items() if k not in ("ids", "template")}
    line["ids"] = [i for x in frame for i in (reference.ids(next(gaps), "plain") if x is None else [x])]
    return line


def cut(data, vectors):
    full = Tokenizer.from_str(json.dumps(data))
    model = data["model"]
    added = {t["content"] for t in data["added_tokens"]}
    kept = tokens_on_the_way(full, data, vectors) | set(ALPHABET.values()) | added
    kept |= {t for t, i in model["vocab"].items() if i < FIRST}
    old = isinstance(model["merges"][0], str)
    halves = [m.split(" ") if old else m for m in model["merges"]]
    merges = [m for m in halves if m[0] in kept and m[1] in kept and m[0] + m[1] in kept]
    small = {
        **data,
        "model": {
            **model,
            "vocab": {t: i for t, i in sorted(model["vocab"].items(), key=lambda x: x[1]) if t in kept},
            "merges": [" ".join(m) for m in merges] if old else merges,
        },
    }
    small_tokenizer = Tokenizer.from_str(json.dumps(library_json(small)))
    for text in vectors:
        assert (
            full.encode(text, add_special_tokens=False).ids
            == small_tokenizer.encode(text, add_special_tokens=False).ids
        ), text
    return small


class Reference:
    def __init__(self, data):
        data = library_json(data)
        text = json.dumps(data)
        self.full, self.no_special = Tokenizer.from_str(text), Tokenizer.from_str(text)
        self.no_special.encode_special_tokens = True
        self.plain = Tokenizer.from_str(json.dumps({**data, "added_tokens": []}))
        self.added = {t["content"]: t["id"] for t in data["added_tokens"]}
        self.special = {t["content"] for t in data["added_tokens"] if t["special"]}

    def ids(self, text, setting="full"):
        return getattr(self, setting).encode(text, add_special_tokens=False).ids

    def row(self, text):
        out = {"text": text, "ids": self.ids(text)}
        for key, setting in (("ids_no_special", "no_special"), ("ids_plain", "plain")):
            if (ids := self.ids(text, setting)) != out["ids"]:
                out[key] = ids
        decoded = self.full.decode(out["ids"], skip_special_tokens=False)
        return out if decoded == text else {**out, "decoded": decoded}


def content_plain(full, reference, row):
    """Ids when special tokens inside contents are text: what lies between the special ids that the whole tokenizer's row has."""
    ids, gap = [], []
    for i in row["ids_content_plain"] + [None]:
        if i is None or full.id_to_token(i) in reference.special:
            ids += reference.ids(full.decode(gap, skip_special_tokens=False), "no_special") + ([] if i is None else [i])
            gap = []
        else:
            gap.append(i)
    return ids


def load_lines(path):
    opener = lzma.open if os.path.exists(path + ".xz") else open
    with opener(path + (".xz" if opener is lzma.open else ""), "rt") as f:
        return [json.loads(line) for line in f]


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--shared", required=True)
    a.add_argument("--smollm2", help="without it the files of smollm2 stay as they are")
    a.add_argument("--out", required=True)
    a = a.parse_args()
    strings = [
        r["text"]
        for r in load_lines(os.path.join(a.shared, "reference/tokenizers/strings.jsonl"))
        if len(r["text"]) <= LONGEST and not r["class"].endswith(("newer than Unicode 14", "newer than Unicode 9"))
    ]
    texts = list(dict.fromkeys(VECTORS + strings))
    chats = [
        r
        for r in load_lines(os.path.join(a.shared, "reference/tokenizers/chat.jsonl"))
        if r["template"] != "harmony" and not r["name"].startswith("random")
    ]
    harmony = [
        r
        for r in load_lines(os.path.join(a.shared, "reference/tokenizers/chat.jsonl"))
        if r["template"] == "harmony"
        and not r["name"].startswith("random")
        and (not r["name"].startswith("text") or (r["render"], r["auto_drop_analysis"]) == ("training", False))
    ]
    files = {}
    for name in NAMES:
        if name == "smollm2" and not a.smollm2:
            continue
        if name == "smollm2":
            data = smollm2_json(a.smollm2)
        else:
            with lzma.open(os.path.join(a.shared, f"data/tokenizers/{name}/tokenizer.json.xz")) as f:
                data = json.load(f)
        vectors = VECTORS
        if name == "gpt-oss":
            whole = Tokenizer.from_str(json.dumps(data))
            vectors = VECTORS + sorted(
                {g for r in harmony if not r["name"].startswith("text") for g in harmony_gaps(whole, r)[0]}
            )
        small = cut(data, vectors)
        files[f"{name}.tokenizer.json"] = json.dumps(small, ensure_ascii=False, separators=(",", ":"))
        full, reference = Tokenizer.from_str(json.dumps(data)), Reference(small)
        files[f"{name}.jsonl"] = "".join(json.dumps(reference.row(t), separators=(",", ":")) + "\n" for t in texts)
        lines = [harmony_line(full, reference, r) for r in harmony] if name == "gpt-oss" else []
        for row in chats:
            if row["template"] != name:
                continue
            line = {k: v for k, v in row.items() if k not in ("ids", "ids_content_plain", "template")}
            line["ids"] = reference.ids(row["text"])
            if "ids_content_plain" in row:
                line["ids_content_plain"] = content_plain(full, reference, row)
            lines.append(line)
        if lines:
            files[f"{name}.chat.jsonl"] = "".join(json.dumps(x, separators=(",", ":")) + "\n" for x in lines)
    os.makedirs(a.out, exist_ok=True)
    for name, text in files.items():
        with open(os.path.join(a.out, name), "w", encoding="utf-8", newline="") as f:
            f.write(text)
        print(f"{name:28s} {len(text.encode()):8d} bytes")


main()
