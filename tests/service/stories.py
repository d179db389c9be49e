# SPDX-License-Identifier: Apache-2.0
"""stories260K, a real model of 260,000 parameters, where it is here ($KDLIB_SHARED_DIR or ../shared beside the source
tree): its weights, a tokenizer.model made of its pieces, and beginnings of stories."""
import json
import os
import pathlib
import shutil
import struct

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = ("Lily", "Tom", "Mia", "Ben", "Anna", "Sam", "Lucy", "Max")
BEGINNINGS = ("Once upon a time, there was a girl named {}.", "One day, {} went to the park.",
              "{} had a big red ball.")


def find():
    """The folder of the model, or nothing."""
    place = pathlib.Path(os.environ.get("KDLIB_SHARED_DIR", ROOT.parent / "shared")) / "data/models/stories260K"
    return place if (place / "model.safetensors").exists() else None


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    """One field of a Protocol Buffers message: a whole number, a fraction or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def tokenizer(pieces):
    """tokenizer.model of sentencepiece's BPE with these pieces."""
    out = b""
    for i, (piece, score) in enumerate(pieces):
        kind = 2 if i == 0 else 3 if i < 3 else 6 if piece.startswith("<0x") and len(piece) == 6 else 1
        text = piece.strip("\n") if i < 3 else piece.replace(" ", "\u2581")
        out += field(1, field(1, text.encode()) + field(2, float(score)) + field(3, kind))
    out += field(2, field(3, 2) + field(35, 1) + field(40, 0) + field(41, 1) + field(42, 2))
    return out + field(3, field(3, 1) + field(4, 0))


def write_model(source, folder):
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(source / name, folder / name)
    pieces = json.loads((source / "pieces.json").read_text())["pieces"]
    (folder / "tokenizer.model").write_bytes(tokenizer(pieces))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False}))


def write_texts(folder):
    starts = [text.format(name) for text in BEGINNINGS for name in NAMES]
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in starts))
    lines = [f"{text} {name} was happy. They played all day." for text in starts for name in NAMES[:4]]
    (folder / "data.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
