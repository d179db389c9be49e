#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Copies the part of the reference collection that tests/reference holds. Standard library only; nothing is computed.

    scripts/make_reference.py [COLLECTION]             copy (default: $KDLIB_SHARED_DIR/reference, then ../shared/reference)
    scripts/make_reference.py --check [COLLECTION]     compare instead; exit status 1 at the first difference

The collection is what the make_*.py scripts named in each folder's README write. Whole files are copied byte for byte. Of smollm2 the
tensors are cut to ranges (see cut_smollm2); their bytes stay as they are.
"""

import json
import os
import struct
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.path.join(ROOT, "tests", "reference")
MODELS = (
    "llama",
    "llama3_rope_bias",
    "qwen2",
    "qwen2_window",
    "qwen3",
    "qwen3_moe",
    "qwen2_moe",
    "gpt_oss",
    "gpt_oss_mxfp4",
)
PEFT = (
    "llama_qv",
    "llama_all_linear",
    "llama_layers",
    "llama_dora",
    "qwen2_rslora",
    "qwen2_bias",
    "qwen2_lora_bias",
    "qwen3_patterns",
    "qwen3_regex",
    "qwen3_moe_all_linear",
)
LOGITS_KEPT = 4096  # entries 0 ... 4095 of each row of 49152


def wanted(collection):
    """Relative paths of the files that are copied whole."""
    folders = ["models/" + name for name in MODELS] + ["losses"] + ["peft/" + name for name in PEFT]
    paths = [f"{folder}/{name}" for folder in folders for name in sorted(os.listdir(os.path.join(collection, folder)))]
    paths += [
        f"training/{run}.{ending}"
        for run in ("full_forward_kl", "lora_jsd", "moe_reverse_kl")
        for ending in ("json", "safetensors")
    ]
    return paths + ["models/made_with.json", "smollm2/smollm2.json"]


def read_safetensors(data):
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    return {
        name: (t["dtype"], t["shape"], data[8 + size + t["data_offsets"][0] : 8 + size + t["data_offsets"][1]])
        for name, t in header.items()
    }


def write_safetensors(tensors):
    header, body = {}, b""
    for name in sorted(tensors):
        dtype, shape, data = tensors[name]
        header[name] = dict(dtype=dtype, shape=shape, data_offsets=[len(body), len(body) + len(data)])
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def cut_smollm2(data):
    """<n>.last_logits: entries 0 ... 4095; <n>.last_hidden: the last row of <n>.hidden."""
    out = {}
    for name, (dtype, shape, data) in read_safetensors(data).items():
        number, kind = name.split(".")
        if kind == "last_logits":
            out[name] = (dtype, [LOGITS_KEPT], data[: 4 * LOGITS_KEPT])
        else:
            out[number + ".last_hidden"] = (dtype, [shape[1]], data[-4 * shape[1] :])
    return write_safetensors(out)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def main():
    check = "--check" in sys.argv[1:]
    given = [x for x in sys.argv[1:] if x != "--check"]
    shared = os.environ.get("KDLIB_SHARED_DIR", os.path.join(ROOT, "..", "shared"))
    collection = given[0] if given else os.path.join(shared, "reference")
    if not os.path.isdir(collection):
        sys.exit(f"no reference collection at {collection}")
    files = {path: read(os.path.join(collection, path)) for path in wanted(collection)}
    files["smollm2/smollm2_cut.safetensors"] = cut_smollm2(
        read(os.path.join(collection, "smollm2", "smollm2.safetensors"))
    )
    for path, data in files.items():
        target = os.path.join(TARGET, path)
        if check:
            if not os.path.exists(target) or read(target) != data:
                sys.exit(f"{target} is missing or differs from the collection")
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(data)
    print(f"{len(files)} files, {sum(map(len, files.values()))} bytes: {'equal' if check else 'written'}")


if __name__ == "__main__":
    main()
