# SPDX-License-Identifier: Apache-2.0
"""The peer of bench_tokenize: Hugging Face tokenizers on one thread, the same documents; tiktoken too where it is installed.

build/peers/venv/bin/python benchmarks/peers/hf_tokenize.py --tokenizer tokenizer.json --text FILE
"""

import argparse
import json
import os
import statistics
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import common


def documents_of(data, size):
    out, begin = [], 0
    while begin < len(data):
        line = data.find(b"\n", min(begin + size, len(data)))
        end = len(data) if line < 0 else line + 1
        out.append(data[begin:end].decode())
        begin = end
    return out


def fingerprint(ids):
    value = 0xCBF29CE484222325
    for i in ids:
        for byte in i.to_bytes(4, "little"):
            value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return str(value)


def median_rate(size, repeats, work):
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return size * 1e-6 / statistics.median(seconds)


def tiktoken_of(path, pattern):
    """The same vocabulary in tiktoken, or None. Only for tokenizers whose merges are in the order of their ids."""
    try:
        import tiktoken
    except ImportError:
        return None
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    byte_of = {chr(b): b for b in printable}
    byte_of.update({chr(256 + n): b for n, b in enumerate(b for b in range(256) if b not in printable)})
    with open(path, encoding="utf-8") as file:
        vocabulary = json.load(file)["model"]["vocab"]
    return tiktoken.Encoding(
        "peer",
        pat_str=pattern,
        mergeable_ranks={bytes(byte_of[c] for c in t): i for t, i in vocabulary.items()},
        special_tokens={},
    )


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--tokenizer", required=True, help="tokenizer.json")
    a.add_argument("--text", required=True)
    a.add_argument("--repeats", type=int, default=3)
    a.add_argument("--document-bytes", type=int, default=4096)
    a = a.parse_args()
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(a.tokenizer)
    with open(a.text, "rb") as file:
        data = file.read().decode("utf-8", "replace").encode()
    documents = documents_of(data, a.document_bytes)
    ids = [i for d in documents for i in tokenizer.encode(d, add_special_tokens=False).ids]
    result = {"impl": "tokenizers", "ids": len(ids), "fingerprint": fingerprint(ids), "text_bytes": len(data)}
    result["encode_mb_per_s"] = median_rate(
        len(data), a.repeats, lambda: [tokenizer.encode(d, add_special_tokens=False).ids for d in documents]
    )
    result["decode_mb_per_s"] = median_rate(
        len(data), a.repeats, lambda: tokenizer.decode(ids, skip_special_tokens=False)
    )
    common.emit(**result)
    with open(a.tokenizer, encoding="utf-8") as file:
        parts = json.load(file)["pre_tokenizer"].get("pretokenizers", [])
    pattern = next((p["pattern"]["Regex"] for p in parts if p["type"] == "Split" and "Regex" in p["pattern"]), None)
    other = tiktoken_of(a.tokenizer, pattern) if pattern else None
    if other is not None:
        ids = [i for d in documents for i in other.encode_ordinary(d)]
        common.emit(
            impl="tiktoken",
            ids=len(ids),
            fingerprint=fingerprint(ids),
            text_bytes=len(data),
            encode_mb_per_s=median_rate(len(data), a.repeats, lambda: [other.encode_ordinary(d) for d in documents]),
            decode_mb_per_s=median_rate(len(data), a.repeats, lambda: other.decode(ids)),
        )


if __name__ == "__main__":
    main()
