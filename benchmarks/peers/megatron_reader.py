#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads the token files of `synth` and `rescore` with numpy alone, apart from kdlib, and checks that they agree.

    python3 benchmarks/peers/megatron_reader.py ROOT

Checked: the index (magic, version, type, sizes, offsets that follow from the lengths), masks with the same documents,
label alignment, spans only where tokens count, the last id of each document, rows.jsonl, hashes of the manifest,
rescored values. Prints a line a shard; ends with status 1 and the place of the first fault. Status 77: no numpy.
"""
import hashlib
import json
import struct
import sys
from pathlib import Path

try:
    import numpy as np
except ImportError:
    print("numpy is not installed")
    sys.exit(77)

DTYPES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 6: np.float64, 7: np.float32, 8: np.uint16}


def fault(place, text):
    print(f"{place}: {text}")
    sys.exit(1)


def read_indexed(prefix):
    """(flat numbers, lengths, offsets in bytes, document limits) of PREFIX.bin and PREFIX.idx."""
    raw = Path(f"{prefix}.idx").read_bytes()
    if raw[:9] != b"MMIDIDX\x00\x00":
        fault(prefix, "magic")
    version, code, sequences, limits = struct.unpack_from("<QBQQ", raw, 9)
    if version != 1:
        fault(prefix, f"version {version}")
    lengths = np.frombuffer(raw, np.int32, sequences, 34)
    offsets = np.frombuffer(raw, np.int64, sequences, 34 + 4 * sequences)
    documents = np.frombuffer(raw, np.int64, limits, 34 + 12 * sequences)
    if len(raw) != 34 + 12 * sequences + 8 * limits:
        fault(prefix, f"index of {len(raw)} bytes")
    flat = np.fromfile(f"{prefix}.bin", DTYPES[code])
    ends = np.cumsum(lengths, dtype=np.int64)
    expected = np.concatenate([[0], ends[:-1]]) * flat.itemsize
    if not np.array_equal(offsets, expected) or ends[-1] != flat.size:
        fault(prefix, "offsets do not follow from the lengths")
    if not np.array_equal(documents, np.arange(sequences + 1)):
        fault(prefix, "a sequence is not a document")
    return flat, lengths, documents


def check_shard(root, names, manifest, rescored):
    prefix = next(n[: -len("_tokens.idx")] for n in names if n.endswith("_tokens.idx"))
    tokens, lengths, _ = read_indexed(root / f"{prefix}_tokens")
    masks = [read_indexed(root / f"{prefix}_{kind}") for kind in ("lossmask", "span")]
    for flat, other, _ in masks:
        if not np.array_equal(lengths, other):
            fault(prefix, "a mask has other lengths")
    loss, span = masks[0][0], masks[1][0]
    if loss.max() > 1 or span.max() > 2 or np.any((span > 0) & (loss == 0)):
        fault(prefix, "mask values")
    ends = np.cumsum(lengths)
    end = manifest["made_of"]["tokenizer"]["end_of_document"]
    if np.any(tokens[ends - 1] != end) or np.any(loss[ends - 1]) or np.any(loss[ends - 2]):
        fault(prefix, "the end of a document, or a mask that counts it")
    rows = [json.loads(line) for line in (root / f"{prefix}_rows.jsonl").read_text().splitlines()]
    if [r["tokens"] for r in rows] != lengths.tolist():
        fault(prefix, "rows.jsonl has other lengths")
    starts = ends - lengths
    first = [int(np.argmax(loss[s:e])) + 1 for s, e in zip(starts, ends)]
    if [r["prompt"] for r in rows] != first:
        fault(prefix, "the first token that counts is not behind the prompt")
    if rescored:
        flat, other, _ = read_indexed(root / f"{prefix}_teacherlogp")
        values = flat.view(np.float16).astype(np.float32) if manifest["store"] == "f16" else flat
        if not np.array_equal(lengths, other) or not np.all(np.isfinite(values)) or values.max() > 0:
            fault(prefix, "teacher log-probabilities")
        if np.any(values[loss == 0] != 0):
            fault(prefix, "a log-probability where nothing counts")
    print(f"{prefix}: {len(lengths)} documents, {tokens.size} tokens, {int(loss.sum())} count")
    return len(lengths)


def main():
    root = Path(sys.argv[1])
    manifest = json.loads((root / "manifest.json").read_text())
    rescored = manifest["schema"] == "synth_rescored_v1"
    documents = 0
    for shard in manifest["shards"]:
        for name, digest in shard["files"].items():
            if "sha256:" + hashlib.sha256((root / name).read_bytes()).hexdigest() != digest:
                fault(name, "hash")
        for split in ("parts/",) if rescored else ("train/", "valid/"):
            names = [n for n in shard["files"] if n.startswith(split)]
            if names:
                documents += check_shard(root, names, manifest, rescored)
    if documents != manifest["documents"]:
        fault(root, f"{documents} documents, {manifest['documents']} in the manifest")


main()
