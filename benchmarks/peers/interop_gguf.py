# SPDX-License-Identifier: Apache-2.0
"""Proves with llama.cpp and gguf-py that GGUF files written by `convert` hold the right values and give the right text.

    scripts/interop --only llama.cpp          # in the environment of scripts/peers
    PYTHON benchmarks/peers/interop_gguf.py   # any Python with numpy, safetensors, gguf and one of llama.cpp's packages

For every tiny reference model and for SmolLM2-135M with a merged adapter:
  F32: llama.cpp continues prompts greedily with the tokens that kdlib finds most likely; logits side by side;
  F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1: every block equals what gguf-py makes of the F32 file's values;
  an adapter written by `convert` as a GGUF file: llama.cpp's logits with it beside kdlib's, for every tiny model;
  F16 and Q8_0: the same most likely token in both programs wherever the two best logits of kdlib are more than 1 apart
  (Gemma 2: 0.2);
  SmolLM2: the tokenizer in the file gives kdlib's ids in llama.cpp, and the directory made of the file is written back
  as equal tensors.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TYPES = ["f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"]
TINY = ["llama", "llama3_rope_bias", "mistral", "qwen2", "qwen3", "qwen2_moe", "gpt_oss", "gemma2", "gemma3"]
# llama.cpp looks GELU up in a table of half precision, so that Gemma's logits differ by more than sums would explain.
LIMITS = {"gemma2": 2e-2, "gemma3": 2e-2}
TEXTS = [
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "It's 2024, isn't it? naïve café 日本語 🙂 x1234",
    "Once upon a time",
    "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
]


def call(binary, program, *arguments, stdin=None):
    done = subprocess.run([os.path.join(binary, program), *arguments], capture_output=True, text=True, input=stdin)
    if done.returncode != 0:
        raise RuntimeError(f"{program} {' '.join(arguments)}: {done.stderr.strip()[-300:]}")
    return done.stdout


def kdlib_logits(binary, folder, model, rows, *extra):
    from safetensors.numpy import load_file

    lines, out, logits = (os.path.join(folder, x) for x in ("ids.jsonl", "scores.jsonl", "logits.safetensors"))
    with open(lines, "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"ids": [int(x) for x in row]}) + "\n" for row in rows)
    call(binary, "score", "--model", model, "--input", lines, "--out", out, "--logits", logits, *extra)
    stored = load_file(logits)
    return [stored[f"{i}.logits"].astype(np.float64) for i in range(len(rows))]


class Binding:
    """What the Python packages of llama.cpp do differently: llama-cpp-python (ctypes), llama-cpp-py-sync (cffi)."""

    def __init__(self):
        if importlib.util.find_spec("llama_cpp"):
            import ctypes

            import llama_cpp

            self.lib, self.null = llama_cpp, ctypes.c_void_p(0)
            self.log = llama_cpp.llama_log_callback(lambda level, text, data: None)
            self.pointers = lambda pointer: (ctypes.c_void_p * 1)(pointer)
            self.scales = lambda scale: (ctypes.c_float * 1)(scale)
            self.tokens = lambda count: (llama_cpp.llama_token * count)()
            self.floats = lambda pointer, count: np.ctypeslib.as_array(pointer, (count,))
        else:
            from llama_cpp_py_sync._cffi_bindings import ffi, get_lib

            self.lib, self.null = get_lib(), ffi.NULL
            self.log = ffi.callback("void(enum ggml_log_level, const char *, void *)", lambda level, text, data: None)
            self.pointers = lambda pointer: ffi.new("struct llama_adapter_lora *[1]", [pointer])
            self.scales = lambda scale: ffi.new("float[1]", [scale])
            self.tokens = lambda count: ffi.new("llama_token[]", count)
            self.floats = lambda pointer, count: np.frombuffer(ffi.buffer(pointer, 4 * count), np.float32)

    @staticmethod
    def version():
        """Package and version, or None where there is none."""
        for package in ("llama-cpp-python", "llama-cpp-py-sync"):
            try:
                return f"{package} {importlib.metadata.version(package)}"
            except importlib.metadata.PackageNotFoundError:
                pass
        return None


class LlamaCpp:
    """One model of llama.cpp through its C interface: keys and values in float32, no flash attention, so that F32 stays F32."""

    def __init__(self, path, length=512, threads=2):
        self.binding = Binding()
        self.ll = self.binding.lib
        self.ll.llama_log_set(self.binding.log, self.binding.null)
        self.ll.llama_backend_init()
        self.model = self.ll.llama_model_load_from_file(path.encode(), self.ll.llama_model_default_params())
        if not self.model:
            raise RuntimeError("llama.cpp does not load the file")
        p = self.ll.llama_context_default_params()
        p.n_ctx = p.n_batch = p.n_ubatch = length
        p.n_threads = p.n_threads_batch = threads
        p.type_k = p.type_v = 0  # F32
        p.flash_attn_type = 0  # disabled
        p.swa_full = True
        self.context = self.ll.llama_init_from_model(self.model, p)
        if not self.context:
            raise RuntimeError("llama.cpp makes no context")
        self.vocab = self.ll.llama_model_get_vocab(self.model)
        self.size = self.ll.llama_vocab_n_tokens(self.vocab)

    def adapt(self, path):
        """Puts a LoRA file on with scale 1."""
        adapter = self.ll.llama_adapter_lora_init(self.model, path.encode())
        if not adapter:
            raise RuntimeError("llama.cpp does not load the adapter")
        adapters, scales = self.binding.pointers(adapter), self.binding.scales(1.0)
        if self.ll.llama_set_adapters_lora(self.context, adapters, 1, scales) != 0:
            raise RuntimeError("llama.cpp does not take the adapter")

    def close(self):
        self.ll.llama_free(self.context)
        self.ll.llama_model_free(self.model)

    def restart(self):
        self.ll.llama_memory_clear(self.ll.llama_get_memory(self.context), True)

    def decode(self, ids, first):
        """Logits [len(ids), V] of tokens that continue at position `first`."""
        batch = self.ll.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for i, token in enumerate(ids):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = int(token), first + i, 1, 1
                batch.seq_id[i][0] = 0
            if self.ll.llama_decode(self.context, batch) != 0:
                raise RuntimeError("llama_decode failed")
            rows = [self.ll.llama_get_logits_ith(self.context, i) for i in range(len(ids))]
            return np.stack([self.binding.floats(row, self.size).astype(np.float64) for row in rows])
        finally:
            self.ll.llama_batch_free(batch)

    def logits(self, ids):
        self.restart()
        return self.decode(ids, 0)

    def greedy(self, prompt, count):
        self.restart()
        last, ids = self.decode(prompt, 0)[-1], list(prompt)
        for _ in range(count):
            ids.append(int(last.argmax()))
            last = self.decode(ids[-1:], len(ids) - 1)[-1]
        return ids

    def tokens(self, text):
        data = text.encode()
        out = self.binding.tokens(len(data) + 8)
        n = self.ll.llama_tokenize(self.vocab, data, len(data), out, len(data) + 8, False, True)
        return list(out[0:n])


def check_blocks(name, folder, paths):
    """Rows of the Python package's quantisers of the F32 file against what the other files hold."""
    import gguf

    base = {t.name: t for t in gguf.GGUFReader(paths["f32"]).tensors}
    for kind, path in paths.items():
        if kind == "f32":
            continue
        other, wrong, blocks = gguf.GGUFReader(path).tensors, [], 0
        for t in other:
            x = np.array(base[t.name].data, np.float32)
            want = gguf.quants.quantize(x, t.tensor_type) if t.tensor_type != gguf.GGMLQuantizationType.F32 else x
            same = np.array_equal(
                np.ascontiguousarray(want).view(np.uint8).ravel(), np.ascontiguousarray(t.data).view(np.uint8).ravel()
            )
            blocks += t.tensor_type.name.lower() == kind
            if not same:
                wrong.append(t.name)
        ok = not wrong and len(other) == len(base) and blocks > 0
        yield f"{name} as {kind.upper()}: tensors equal to gguf-py's blocks", f"{len(other) - len(wrong)} of {len(base)}, {blocks} of the type" + (
            f"; {wrong[:2]}" if wrong else ""
        ), "all", ok


def check_greedy(name, binary, folder, reference, path, prompts, count, limit=1e-3):
    """Greedy text of llama.cpp against kdlib's argmax along it, and all logits."""
    network = LlamaCpp(path)
    rows = [network.greedy(p, count) for p in prompts]
    theirs = [network.logits(r) for r in rows]
    network.close()
    ours = kdlib_logits(binary, folder, reference, rows)
    total = equal = 0
    for prompt, row, logits in zip(prompts, rows, ours):
        for at in range(len(prompt) - 1, len(row) - 1):
            total += 1
            equal += int(logits[at].argmax()) == row[at + 1]
    worst = max(float(np.abs(a - b).max()) for a, b in zip(theirs, ours))
    yield f"{name} as F32: greedy tokens of llama.cpp that are kdlib's", f"{equal} of {total}", "all", equal == total
    yield f"{name} as F32: largest difference of a logit from llama.cpp", f"{worst:.1e}", f"<= {limit:g}", worst <= limit
    return rows


def check_margins(name, binary, folder, kind, path, rows, margin=1):
    network = LlamaCpp(path)
    theirs = [network.logits(r) for r in rows]
    network.close()
    ours = kdlib_logits(binary, folder, path, rows)
    decided = equal = positions = 0
    for a, b in zip(theirs, ours):
        for x, y in zip(a, b):
            best = np.sort(y)[-2:]
            positions += 1
            if best[1] - best[0] > margin:
                decided += 1
                equal += int(x.argmax()) == int(y.argmax())
    worst = max(float(np.abs(a - b).max()) for a, b in zip(theirs, ours))
    yield (
        f"{name} as {kind.upper()}: equal argmax in llama.cpp where the margin is above {margin:g}",
        f"{equal} of {decided} ({positions} positions, logits differ by up to {worst:.1e})",
        "all",
        equal == decided > 0,
    )


def check_adapter(name, binary, folder, model, path, rows, limit):
    """An adapter as GGUF: llama.cpp's logits with it against kdlib's, and that it changes them."""
    directory, file = os.path.join(folder, name + "-adapter"), os.path.join(folder, name + "-adapter.gguf")
    call(binary, "interop_writer", "--model", model, "--make", "all-linear", "--out", directory, "--seed", "3")
    call(binary, "convert", "--model", model, "--adapter", directory, "--to", "gguf", "--type", "f32", "--out", file)
    network = LlamaCpp(path)
    plain = [network.logits(r) for r in rows]
    network.adapt(file)
    theirs = [network.logits(r) for r in rows]
    network.close()
    ours = kdlib_logits(binary, folder, model, rows, "--adapter", file)
    moved = max(float(np.abs(a - b).max()) for a, b in zip(plain, theirs))
    worst = max(float(np.abs(a - b).max()) for a, b in zip(theirs, ours))
    least = 10 * limit
    yield f"{name}: a GGUF adapter changes llama.cpp's logits by", f"{moved:.1e}", f"> {least:g}", moved > least
    yield f"{name}: a GGUF adapter, largest difference of a logit from llama.cpp", f"{worst:.1e}", f"<= {limit:g}", (
        worst <= limit
    )


def rows_of_ids(vocabulary, seed):
    rng = np.random.default_rng(seed)
    return [[int(x) for x in rng.integers(3, vocabulary, n)] for n in (5, 1, 12)]


def write_types(binary, folder, name, model, types, *extra):
    paths = {}
    for kind in ["f32", *types]:
        paths[kind] = os.path.join(folder, f"{name}-{kind}.gguf")
        call(binary, "convert", "--model", model, "--to", "gguf", "--type", kind, "--out", paths[kind], *extra)
    return paths


def without_window(folder, name, model):
    """A copy of a directory whose layers see all keys: GGUF has no place for a window of every layer."""
    copy = os.path.join(folder, name + "-whole")
    shutil.copytree(model, copy)
    config = os.path.join(copy, "config.json")
    with open(config, encoding="utf-8") as file:
        values = json.load(file)
    values["sliding_window"] = None
    with open(config, "w", encoding="utf-8") as file:
        json.dump(values, file)
    return copy


def check_tiny(binary, folder, name, model):
    if name == "mistral":
        model = without_window(folder, name, model)
    paths = write_types(binary, folder, name, model, TYPES)
    yield from check_blocks(name, folder, paths)
    source = model
    if name.startswith("gpt_oss"):  # llama.cpp rounds YaRN's bounds: compare with a directory that says so
        source = os.path.join(folder, name + "-truncate")
        call(binary, "convert", "--model", paths["f32"], "--to", "hf", "--out", source)
        config = os.path.join(source, "config.json")
        with open(config, encoding="utf-8") as file:
            values = json.load(file)
        values["rope_parameters"]["truncate"] = True
        with open(config, "w", encoding="utf-8") as file:
            json.dump(values, file)
    limit, vocabulary = LIMITS.get(name, 1e-3), 96 if name.startswith(("gemma", "mistral")) else 300
    rows = yield from check_greedy(
        name, binary, folder, source, paths["f32"], rows_of_ids(vocabulary, 7), 24, limit
    )
    if os.path.exists(os.path.join(binary, "interop_writer")):
        yield from check_adapter(name, binary, folder, source, paths["f32"], rows, limit)
    if name.startswith("gpt_oss"):
        return
    for kind in ("f16", "q8_0"):  # Gemma 2's logits are capped and lie closer together
        yield from check_margins(name, binary, folder, kind, paths[kind], rows, 0.2 if name == "gemma2" else 1)


def check_smollm2(binary, folder, model, adapter):
    name = "SmolLM2-135M" + (" with a merged adapter" if adapter else "")
    extra = ["--adapter", adapter, "--merge"] if adapter else []
    paths = write_types(binary, folder, "smollm2", model, ["f16", "q8_0"], *extra)
    yield from check_blocks(name, folder, paths)
    directory = os.path.join(folder, "smollm2-hf")
    call(binary, "convert", "--model", model, "--to", "hf", "--out", directory, *extra)
    lines = call(binary, "tokenize", "--tokenizer", directory, stdin="".join(json.dumps(t) + "\n" for t in TEXTS))
    ids = [json.loads(line)["ids"] for line in lines.splitlines()]
    network = LlamaCpp(paths["f32"])
    same = sum(network.tokens(t) == i for t, i in zip(TEXTS, ids))
    network.close()
    yield f"{name}: texts with equal ids in llama.cpp (its file) and kdlib (the directory made of it)", f"{same} of {len(TEXTS)}", "all", same == len(
        TEXTS
    )
    rows = yield from check_greedy(name, binary, folder, directory, paths["f32"], ids, 48, 0.02)
    for kind in ("f16", "q8_0"):
        yield from check_margins(name, binary, folder, kind, paths[kind], rows)
    again = os.path.join(folder, "again.gguf")
    call(binary, "convert", "--model", directory, "--to", "gguf", "--type", "f32", "--out", again)
    import gguf

    first, second = ({t.name: t.data for t in gguf.GGUFReader(p).tensors} for p in (paths["f32"], again))
    equal = sum(n in second and np.array_equal(x, second[n]) for n, x in first.items())
    yield f"{name}: GGUF to directory to GGUF, equal tensors", f"{equal} of {len(first)}", "all", equal == len(
        first
    ) == len(second)


def run(binary, folder, reference=None, smollm2=None, adapter=None):
    """Rows (name, measured, limit, ok)."""
    os.makedirs(folder, exist_ok=True)
    reference = reference or os.path.join(ROOT, "tests", "reference")
    smollm2 = smollm2 or os.path.join(ROOT, "build", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
    for name in TINY:
        yield from check_tiny(binary, folder, name, os.path.join(reference, "models", name))
    # Tiny models of the reference set mix dense and sparse layers, which llama.cpp does not load for qwen3moe: this one is sparse throughout.
    yield from check_greedy(
        "golden qwen3moe",
        binary,
        folder,
        *[
            write_types(binary, folder, "golden_qwen3moe", os.path.join(reference, "gguf", "golden_qwen3moe.gguf"), [])[
                "f32"
            ]
        ]
        * 2,
        rows_of_ids(16, 7),
        24,
    )
    if os.path.exists(smollm2):
        if adapter is None and os.path.exists(os.path.join(binary, "interop_writer")):
            adapter = os.path.join(folder, "adapter")
            call(binary, "interop_writer", "--model", smollm2, "--make", "all-linear", "--out", adapter, "--seed", "3")
        yield from check_smollm2(binary, folder, smollm2, adapter)


def table(rows):
    lines = [
        "# GGUF beside llama.cpp",
        "",
        f"Written by `benchmarks/peers/interop_gguf.py`, {Binding.version()}, gguf "
        f"{importlib.metadata.version('gguf')}; kdlib writes, llama.cpp and gguf-py read.",
        "",
        "| check | measured | limit | result |",
        "|---|---|---|---|",
    ]
    lines += [f"| {n} | {measured} | {limit} | {'pass' if ok else '**fail**'} |" for n, measured, limit, ok in rows]
    failed = sum(not row[3] for row in rows)
    return "\n".join(lines + ["", f"{len(rows) - failed} passed, {failed} failed"]) + "\n"


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--bin", default=os.path.join(ROOT, "build", "release", "bin"))
    a.add_argument("--reference", help="folder with models/ and gguf/; left out: tests/reference")
    a.add_argument("--smollm2", help="GGUF file or directory; left out: build/models")
    a.add_argument("--adapter", help="PEFT directory for SmolLM2; left out: interop_writer makes one where it is built")
    a.add_argument("--out", help="a Markdown table of all checks also goes to this file")
    a = a.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="kdlib_gguf_") as folder:
        for row in run(a.bin, folder, a.reference, a.smollm2, a.adapter):
            rows.append(row)
            name, measured, limit, ok = row
            print(f"{'ok    ' if ok else 'FAILED'} {name}: {measured} (limit {limit})", flush=True)
    if a.out:
        with open(a.out, "w", encoding="utf-8") as file:
            file.write(table(rows))
    sys.exit(0 if rows and all(row[3] for row in rows) else 1)


if __name__ == "__main__":
    main()
