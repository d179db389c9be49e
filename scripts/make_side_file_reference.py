#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/reference/text/side_files.jsonl: small Hugging Face folders and the ids that transformers gives.

    python scripts/make_side_file_reference.py --out tests/reference/text/side_files.jsonl

Each line holds files of a folder, a text, its ids without and with the tokens of the post-processor, and the text of
the ids without special tokens. Needs transformers (5.24.0 made the file that is checked in); no network.
"""

import argparse
import json
import os
import tempfile

from transformers import PreTrainedTokenizerFast

LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def token(content, **flags):
    none = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"content": content, **none, **flags}


def added(number, content, **flags):
    return {"id": number, **token(content, **flags)}


def base(added_tokens=(), post=None, normalizer=None):
    vocab = {c: i for i, c in enumerate(["a", "b", "\u0120", "ab", "<", ">", "n", "\u0120a"])}
    model = {"type": "BPE", "dropout": None, "unk_token": None}
    model |= {"continuing_subword_prefix": None, "end_of_word_suffix": None}
    model |= {"fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocab}
    model["merges"] = [["a", "b"], ["\u0120", "a"]]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added_tokens),
        "normalizer": normalizer,
        "pre_tokenizer": LEVEL,
        "post_processor": post,
        "decoder": LEVEL,
        "model": model,
    }


def template(single, tokens, pair=None):
    def pieces(words, kind=0):
        out = []
        for word in words.split():
            if word in ("$A", "$B"):
                out.append({"Sequence": {"id": word[1], "type_id": kind}})
            else:
                out.append({"SpecialToken": {"id": word, "type_id": kind}})
        return out

    special = {name: {"id": name, "ids": ids, "tokens": [name] * len(ids)} for name, ids in tokens.items()}
    return {
        "type": "TemplateProcessing",
        "single": pieces(single),
        "pair": pieces(pair or "$A $B"),
        "special_tokens": special,
    }


def cases():
    text = "ab <n> ab"
    n = added(8, "<n>")
    bert = {"type": "BertProcessing", "sep": ["<n>", 8], "cls": ["a", 0]}
    roberta = {**bert, "type": "RobertaProcessing", "trim_offsets": True, "add_prefix_space": False}
    level = {**LEVEL, "use_regex": False}
    yield "nothing", base(), {}, text
    yield "added_tokens", base([n]), {}, text
    decoder = {"added_tokens_decoder": {"8": token("<n>")}}
    yield "added_tokens_decoder", base(), {"tokenizer_config": decoder}, text
    yield "added_tokens.json", base(), {"added_tokens": {"<n>": 8}}, text
    named = {"added_tokens": {"<n>": 8}, "tokenizer_config": {"pad_token": "<n>"}}
    yield "added_tokens.json, special by name", base(), named, text
    yield "additional_special_tokens", base(), {"tokenizer_config": {"additional_special_tokens": ["<n>"]}}, text
    yield "extra_special_tokens, list", base(), {"tokenizer_config": {"extra_special_tokens": ["<n>"]}}, text
    extra = {"extra_special_tokens": {"image_token": "<n>"}}
    yield "extra_special_tokens, object", base(), {"tokenizer_config": extra}, text
    yield "special_tokens_map", base(), {"special_tokens_map": {"eos_token": "<n>"}}, text
    flags = {"content": "<n>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
    yield "special_tokens_map, object", base(), {"special_tokens_map": {"eos_token": flags}}, text
    yield "named token, object", base(), {"tokenizer_config": {"eos_token": {**flags, "__type": "AddedToken"}}}, text
    decoder = {"8": token("<n>", lstrip=True, rstrip=True)}
    yield "flags of the decoder win", base([n]), {"tokenizer_config": {"added_tokens_decoder": decoder}}, text
    decoder = {"8": token("<n>", special=False)}
    yield "special is never taken back", base([n]), {"tokenizer_config": {"added_tokens_decoder": decoder}}, text
    right = base([added(8, "<n>", rstrip=True)])
    yield "added_tokens.json does not change flags", right, {"added_tokens": {"<n>": 8}}, text
    decoder = {"added_tokens_decoder": {"8": token("<x>")}}
    files = {"tokenizer_config": decoder, "special_tokens_map": {"eos_token": "<n>"}}
    yield "decoder given: no special_tokens_map", base(), files, text
    files = {"tokenizer_config": decoder, "added_tokens": {"<n>": 9}}
    yield "decoder given: no added_tokens.json", base(), files, text
    config = {"additional_special_tokens": ["<n>"], "image_token": "<i>", "pad_token": "<p>", "bos_token": "<b>"}
    yield "order of new ids", base(), {"tokenizer_config": config}, "<p><b><n><i>"
    yield "a named token of the vocabulary", base(), {"tokenizer_config": {"eos_token": "ab"}}, "ab aab"
    files = {"tokenizer_config": {"eos_token": "a"}, "special_tokens_map": {"eos_token": "<n>"}}
    yield "special_tokens_map wins", base(), files, text
    yield "split_special_tokens", base([n]), {"tokenizer_config": {"split_special_tokens": True}}, text
    normal = base([added(8, "<n>", normalized=True, special=False)], None, {"type": "NFC"})
    yield "normalized", normal, {}, text
    yield "token behind", base([n], template("$A <n>", {"<n>": [8]})), {}, "ab"
    yield "token in front", base([n], template("<n> $A", {"<n>": [8]})), {}, "ab"
    front = base([n], template("<n> $A", {"<n>": [8]}))
    yield "another than bos", front, {"tokenizer_config": {"bos_token": "a"}}, "ab"
    yield "several ids", base([n], template("<n> $A <n>", {"<n>": [8, 0, 1]})), {}, "ab"
    yield "text twice", base([n], template("<n> $A <n> $A", {"<n>": [8, 0, 1]})), {}, "ab"
    config = {"bos_token": "<n>", "add_bos_token": True}
    yield "add_bos_token is not read", base([n]), {"tokenizer_config": config}, "ab"
    config = {"bos_token": "<n>", "add_bos_token": False, "add_eos_token": True}
    yield "the template decides", front, {"tokenizer_config": config}, "ab"
    yield "RobertaProcessing", base([n], roberta), {}, "ab"
    yield "BertProcessing", base([n], bert), {}, "ab"
    yield "ByteLevel behind", base([n], {"type": "Sequence", "processors": [bert, level]}), {}, "ab"
    both = {"type": "Sequence", "processors": [level, template("<n> $A", {"<n>": [8]})]}
    yield "template behind ByteLevel", base([n], both), {}, "ab"


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--out", required=True)
    a = a.parse_args()
    lines = []
    for name, tokenizer, files, text in cases():
        files = {"tokenizer": tokenizer, **files}
        with tempfile.TemporaryDirectory() as folder:
            for stem, content in files.items():
                with open(os.path.join(folder, stem + ".json"), "w", encoding="utf-8") as f:
                    json.dump(content, f)
            loaded = PreTrainedTokenizerFast.from_pretrained(folder)
        ids = loaded(text, add_special_tokens=False)["input_ids"]
        whole = loaded(text)["input_ids"]
        skipped = loaded.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        files = {stem: json.dumps(content, separators=(",", ":")) for stem, content in files.items()}
        row = {"name": name, "files": files, "text": text, "ids": ids, "with_special": whole, "skipped": skipped}
        lines.append(json.dumps(row, separators=(",", ":")) + "\n")
    with open(a.out, "w", encoding="utf-8", newline="") as f:
        f.writelines(lines)
    print(len(lines), "cases")


main()
