#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/reference/hdf5: a top-k cache as MoE_Factorize_Compress writes it, by h5py (3.16, NumPy 2), and what its
rows mean, computed in float64. Needs h5py."""
import json
import pathlib

import h5py
import numpy as np

SAMPLES, LENGTH, TOP_K, VOCABULARY = 4, 6, 5, 23
lengths = np.array([6, 4, 2, 5], dtype=np.int32)
ids = [[(3 * n + 7 * t) % VOCABULARY for t in range(lengths[n])] for n in range(SAMPLES)]
grid = np.arange(SAMPLES * LENGTH * VOCABULARY, dtype=np.float64).reshape(SAMPLES, LENGTH, VOCABULARY)
logits = 9 * np.sin(1.7 * grid) + 0.01 * (grid % 13)
order = np.argsort(-logits, axis=-1, kind="stable")[..., :TOP_K].astype(np.int32)
values = np.take_along_axis(logits, order, axis=-1).astype(np.float16)

folder = pathlib.Path(__file__).resolve().parent.parent / "tests" / "reference" / "hdf5"
folder.mkdir(parents=True, exist_ok=True)
with h5py.File(folder / "teacher_logits.h5", "w", track_order=False) as file:
    for name, data in (("logits_values", values), ("logits_indices", order)):
        made = file.create_dataset(name, shape=(0, LENGTH, TOP_K), maxshape=(None, LENGTH, TOP_K), dtype=data.dtype,
                                   chunks=(1, LENGTH, TOP_K), compression="gzip", compression_opts=4)
        made.resize((SAMPLES, LENGTH, TOP_K))
        made[:] = data
    file.create_dataset("seq_lengths", data=lengths)
(folder / "metadata.json").write_text(json.dumps({
    "num_samples": SAMPLES, "max_seq_length": LENGTH, "top_k": TOP_K, "vocab_size": VOCABULARY,
    "teacher_model": "none"}) + "\n")
rows = []
for n in range(SAMPLES):
    for t in range(lengths[n] - 1):
        v = values[n, t].astype(np.float64)
        log_probs = v - np.log(np.exp(v - v[0]).sum()) - v[0]
        half = np.log(np.exp(log_probs / 2).sum())
        rows.append({"sample": n, "token": t, "log_probs": log_probs.tolist(), "log_norm_2": float(half),
                     "indices": order[n, t].tolist()})
(folder / "expected.json").write_text(json.dumps({"ids": ids, "rows": rows}) + "\n")
