#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/reference/parquet: small Parquet files that pyarrow wrote, for the tests of kdlib/arrow.hpp.

    build/arrow/bin/python scripts/make_parquet_reference.py     (scripts/arrow makes that Python)

rows.parquet   the bundled rows of examples/data that are UTF-8, all columns, zstd, groups of 64 rows
kinds.parquet  five rows: large strings, words by a dictionary, nulls, bytes that are no UTF-8, columns of other types
number.parquet, missing.parquet   a query that is a number; no synth_id"""
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests/reference/parquet"


def bundled():
    rows = []
    for line in (ROOT / "examples/data/synth_rows.jsonl").read_bytes().splitlines():
        try:
            rows.append(json.loads(line.decode("utf-8")))
        except UnicodeDecodeError:
            pass
    return pa.Table.from_pylist(rows)


def kinds():
    return pa.table({
        "words": pa.array([1, 2, 3, 4, 5]),
        "synth_id": pa.array(["a", "b", None, "d", "e"], pa.large_string()),
        "language": pa.array(["en", "de", "en", None, "en"]).dictionary_encode(),
        "query": pa.array(["Why?", "Warum?", "Why?", "Why?", b"\xff"], pa.binary()),
        "synthetic_reasoning": pa.array(["Because.", "Darum.", "Because.", None, "Because."]),
        "synthetic_answer": pa.array(["So.", "Also.", "So.", "So.", "So."]),
        "tags": pa.array([["x"], [], None, ["y", "z"], []], pa.list_(pa.string())),
    })


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    pq.write_table(bundled(), OUT / "rows.parquet", row_group_size=64, compression="zstd")
    table = kinds()
    pq.write_table(table, OUT / "kinds.parquet")
    numbers = table.drop_columns(["query"]).append_column("query", pa.array([1, 2, 3, 4, 5]))
    pq.write_table(numbers, OUT / "number.parquet")
    pq.write_table(table.drop_columns(["synth_id"]), OUT / "missing.parquet")


if __name__ == "__main__":
    main()
