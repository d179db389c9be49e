#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kdlib beside its peers: the same work, interleaved in one run, medians and ratios as a Markdown table.

    benchmarks/compare.py step      # a training step: bench_step and peers/trl_step.py (dense and chunked)
    benchmarks/compare.py on_policy # a whole on-policy step, 16 prompts of 32 tokens, 64 new ones: bench_step and peers/trl_step.py
    benchmarks/compare.py generate  # greedy generation: bench_generate and peers/hf_generate.py
    benchmarks/compare.py llama     # the same from the packed blocks of a GGUF file: bench_generate and peers/llama_generate.py
    benchmarks/compare.py losses    # rows and fused passes: bench_losses and peers/torch_losses.py (--case picks shapes by a part of the name)
    benchmarks/compare.py tokenize  # text to ids on one thread: bench_tokenize and peers/hf_tokenize.py (--tokenizers: folders or files)

Needs build/release (scripts/test), the model (scripts/demo) and the peers' Python (scripts/peers). Keep the machine quiet: the figures of a
round are taken minutes apart, so noise that lasts longer than a round falls on both sides.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.path.join(ROOT, "build", "release", "bin")
PEERS = os.path.join(ROOT, "benchmarks", "peers")
PYTHON = os.path.join(ROOT, "build", "peers", "venv", "bin", "python")
MODEL = os.path.join(ROOT, "build", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")


def lines_of(command, may_be_inexact=False):
    """The JSON lines that a command prints. may_be_inexact: exit status 1 beside a result that says "ok": false is the reader's to report."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    inexact = may_be_inexact and done.returncode == 1 and any(line.get("ok") is False for line in lines)
    if done.returncode != 0 and not inexact:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return lines


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as text:
        cpu = text.read()
    name = next(
        (line.split(":")[1].strip() for line in cpu.splitlines() if line.startswith("model name")), "unknown CPU"
    )
    return f"{name}, {os.cpu_count()} cores, {'AVX-512' if 'avx512f' in cpu else 'AVX2' if 'avx2' in cpu else 'neither AVX2 nor AVX-512'}"


def gemm_gflops(threads, dtype):
    """What the same library does on its best product here: the machine's measured rate."""
    rows = lines_of([os.path.join(BIN, "bench_gemm"), "--threads", str(threads), "--dtype", dtype])
    return max(row["gflop_per_s"] for row in rows if "gflop_per_s" in row)


def print_speeds(title, unit, runs):
    """A table of {name: summaries} with ratios to the fastest of TRL's; answers the medians of the speeds."""
    speed = {name: statistics.median(r["tokens_per_s"] for r in rows) for name, rows in runs.items()}
    memory = {name: max(r["peak_rss_bytes"] for r in rows) for name, rows in runs.items()}
    best = max((name for name in speed if name.startswith("TRL")), key=speed.get)
    print(f"| {title} | {unit} (median; least, most) | ratio | peak memory GB | ratio |\n|---|---|---|---|---|")
    for name, rows in runs.items():
        values = [r["tokens_per_s"] for r in rows]
        print(
            f"| {name} | {speed[name]:.1f} ({min(values):.1f}, {max(values):.1f}) | {speed[name] / speed[best]:.2f} |"
            f" {memory[name] / 1e9:.2f} | {memory[name] / memory[best]:.2f} |"
        )
    return speed


def compare_step(args):
    threads, steps = str(args.threads), str(args.steps)
    runs = {}
    for _ in range(args.rounds):
        for student in ("rounded", "int4"):
            summary = lines_of(
                [
                    f"{BIN}/bench_step",
                    "--model",
                    args.model,
                    "--threads",
                    threads,
                    "--steps",
                    steps,
                    "--student",
                    student,
                    "--dtype",
                    args.dtype,
                ]
            )[-1]
            runs.setdefault(f"kdlib, {student} student", []).append(summary)
        for impl in ("dense", "chunked"):
            summary = lines_of(
                [
                    args.python,
                    f"{PEERS}/trl_step.py",
                    "--model",
                    args.model,
                    "--threads",
                    threads,
                    "--steps",
                    steps,
                    "--impl",
                    impl,
                    "--dtype",
                    args.dtype,
                ]
            )[-1]
            runs.setdefault(f"TRL {summary['versions']['trl']}, {impl}", []).append(summary)
    speed = print_speeds(f"step of 4 x 256 tokens, {args.dtype}", "tokens/s", runs)
    rate = gemm_gflops(args.threads, args.dtype)
    done = 870 * speed["kdlib, rounded student"] / 1024
    print(
        f"\n870 GFLOP a step: kdlib {done:.0f} GFLOP/s, {100 * done / rate:.0f} % of the {rate:.0f} GFLOP/s that the"
        " library of products reaches on its best shape here."
    )


def compare_on_policy(args):
    """Both sides write with the student, mark with the teacher, and train on it."""
    shared = ["--model", args.model, "--threads", str(args.threads), "--steps", str(args.steps), "--dtype", args.dtype]
    shared += ["--batch", "16", "--length", "32", "--new-tokens", "64"]
    runs = {}
    for _ in range(args.rounds):
        runs.setdefault("kdlib", []).append(lines_of([f"{BIN}/bench_step", *shared])[-1])
        summary = lines_of([args.python, f"{PEERS}/trl_step.py", *shared, "--impl", "dense"])[-1]
        runs.setdefault(f"TRL {summary['versions']['trl']}, GKDTrainer's step", []).append(summary)
    print_speeds(f"on-policy step, 16 x (32 + 64 new tokens), {args.dtype}", "new tokens/s", runs)


def compare_generate(args):
    threads = str(args.threads)
    prompts = os.path.join(ROOT, "build", "bench_prompts.jsonl")
    runs = {}
    for turn in range(args.rounds):
        for batch in ("1", "16"):
            peer = [
                args.python,
                f"{PEERS}/hf_generate.py",
                "--model",
                args.model,
                "--threads",
                threads,
                "--batch",
                batch,
                "--repeats",
                "1",
            ]
            peer += ["--max-new-tokens", str(args.new_tokens), "--dtype", args.dtype]
            if turn == 0:
                peer += ["--write-prompts", prompts + batch]
            runs.setdefault(("transformers", batch), []).append(lines_of(peer)[-1])
            for quantize in ("none", "int4"):
                own = [
                    f"{BIN}/bench_generate",
                    "--model",
                    args.model,
                    "--threads",
                    threads,
                    "--batch",
                    batch,
                    "--repeats",
                    "1",
                    "--quantize",
                    quantize,
                ]
                own += ["--new-tokens", str(args.new_tokens), "--prompts", prompts + batch, "--dtype", args.dtype]
                runs.setdefault(("kdlib" if quantize == "none" else "kdlib, int4 weights", batch), []).append(
                    lines_of(own)[-1]
                )
    print(
        "| writing | batch | tokens/s (median; least, most) | ratio | prompt tokens/s | ratio | weights read GB/s | of what a plain read reaches |"
        "\n|---|---|---|---|---|---|---|---|"
    )
    for (name, batch), rows in runs.items():
        values = [r["decode_tokens_per_s"] for r in rows]
        base = statistics.median(r["decode_tokens_per_s"] for r in runs[("transformers", batch)])
        read = [r["weights_read_gb_per_s"] for r in rows if "weights_read_gb_per_s" in r]
        share = [
            r["weights_read_gb_per_s"] / r["read_bandwidth_gb_per_s"] for r in rows if "read_bandwidth_gb_per_s" in r
        ]
        prompt = statistics.median(r["prefill_tokens_per_s"] for r in rows)
        prompt_base = statistics.median(r["prefill_tokens_per_s"] for r in runs[("transformers", batch)])
        tail = f"{statistics.median(read):.1f} | {100 * statistics.median(share):.0f} %" if read else "|"
        print(
            f"| {name} | {batch} | {statistics.median(values):.1f} ({min(values):.1f}, {max(values):.1f}) | {statistics.median(values) / base:.2f} | {prompt:.0f} | {prompt / prompt_base:.2f} | {tail} |"
        )


def write_prompts(path, count, tokens):
    """Made-up prompts, as bench_generate makes them."""
    with open(path, "w", encoding="utf-8") as out:
        for b in range(count):
            out.write(json.dumps({"prompt_ids": [(b * 7919 + i * 104729 + 1) % 49152 for i in range(tokens)]}) + "\n")


def compare_llama(args):
    threads, prompts = str(args.threads), os.path.join(ROOT, "build", "bench_llama_prompts.jsonl")
    write_prompts(prompts, 16, 32)
    python = args.llama_python or args.python
    runs = {}
    for _ in range(args.rounds):
        for batch in ("1", "4", "16"):
            shared = [
                "--model",
                args.model,
                "--threads",
                threads,
                "--batch",
                batch,
                "--new-tokens",
                str(args.new_tokens),
                "--prompts",
                prompts,
            ]
            runs.setdefault(("llama.cpp", batch), []).append(
                lines_of([python, f"{PEERS}/llama_generate.py", *shared])[-1]
            )
            runs.setdefault(("kdlib", batch), []).append(
                lines_of([f"{BIN}/bench_generate", *shared, "--repeats", "2"])[-1]
            )
    print(
        "| from the file's blocks | batch | decoding tokens/s (median; least, most) | ratio | prompt tokens/s | ratio | loading s |\n|---|---|---|---|---|---|---|"
    )
    for (name, batch), rows in runs.items():
        median = lambda key, of: statistics.median(r[key] for r in of)
        base, values = runs["llama.cpp", batch], [r["decode_tokens_per_s"] for r in rows]
        decode, prompt = median("decode_tokens_per_s", rows), median("prefill_tokens_per_s", rows)
        print(
            f"| {name} | {batch} | {decode:.1f} ({min(values):.1f}, {max(values):.1f}) | {decode / median('decode_tokens_per_s', base):.2f} |"
            f" {prompt:.0f} | {prompt / median('prefill_tokens_per_s', base):.2f} | {median('load_seconds', rows):.3f} |"
        )


def own_losses(kind, end, threads, suffix=""):
    """{loss: counters} of bench_losses: medians over repetitions, in milliseconds. kind: rows or fused; end: what follows the loss in a name."""
    command = [
        os.path.join(BIN, "bench_losses"),
        f"--benchmark_filter=^{kind}(/.*)?{end}/threads:{threads}{suffix}/real_time$",
    ]
    command += [
        "--benchmark_format=json",
        "--benchmark_min_time=0.3",
        "--benchmark_repetitions=3",
        "--benchmark_report_aggregates_only=true",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    rows = (
        json.loads(done.stdout)["benchmarks"]
        if done.returncode == 0
        else sys.exit(f"{command} failed:\n{done.stderr[-2000:]}")
    )
    for row in rows:
        if row.get("error_occurred"):
            sys.exit(f"{row['name']}: {row['error_message']}")
    return {
        row["name"].split("/")[0 if kind.startswith("projections") else 1]: row
        for row in rows
        if row["name"].endswith("_median")
    }


def compare_losses(args):
    data = os.path.join(ROOT, "build", "bench_losses_data")
    if not os.path.exists(os.path.join(data, "meta.json")):
        subprocess.run([os.path.join(BIN, "bench_losses"), "--write-data", data], check=True)
    with open(os.path.join(data, "meta.json"), encoding="utf-8") as text:
        cases = [case for case in json.load(text)["cases"] if args.case in case["name"]]
    peer_command = [
        args.python,
        f"{PEERS}/torch_losses.py",
        "--data",
        data,
        "--repeats",
        "3",
        "--loss",
        "ce",
        "fkl",
        "rkl",
        "jsd0.5",
        "sum",
    ]
    head = "head" if args.head else "frozen"
    inexact = []
    print(
        "Times in ms, medians. Ratio: kdlib's time over the faster of eager and torch.compile, and over TRL's chunked function. Metrics: time with metrics over"
        " time without. Extra: memory above inputs and gradients.\n"
    )
    print(
        "| case | loss | kdlib | Melem/s | GB/s | metrics | eager | compile | ratio | TRL | ratio | extra MB | peers' extra MB |\n|"
        + "---|" * 13
    )
    for case in cases:
        rows = case["kind"] == "rows"
        shape = case["name"].split("_", 1)[1]
        for dtype in ("float32", "bf16") if rows else ("bf16" if args.dtype == "bfloat16" else "float32",):
            narrow = dtype == "bf16" and not rows
            kind = "fused_bf16" if narrow else case["kind"]
            products, mark = ("projections_bf16", " bf16") if narrow else ("projections", "")
            for threads in (1, 2) if rows else (args.threads,):
                end = f"/{dtype}/{shape}" if rows else f"/{shape}/{head}"
                before = own_losses(kind, end, threads)
                metrics = (
                    own_losses(kind, end, threads, "/metrics") if dtype == "float32" and not args.head else {}
                )
                peer = {}
                impls = ["eager", "compile"] + ([] if rows else ["trl"])
                command = peer_command + [
                    "--case",
                    case["name"],
                    "--threads",
                    str(threads),
                    "--dtype",
                    dtype,
                    "--impl",
                    *impls,
                ]
                for line in lines_of(command + (["--head"] if args.head and not rows else []), may_be_inexact=True):
                    if "median_seconds" in line and line.get("threads") == threads:
                        peer[line["loss"], line["impl"]] = line
                        if not line["ok"]:
                            inexact.append(
                                f"{case['name']} {dtype} {line['loss']} {line['impl']}: value off by {line['value_error']:.1e},"
                                f" gradient by {line['gradient_error']:.1e}"
                            )
                after = own_losses(kind, end, threads)
                for loss in before:
                    own = statistics.median([before[loss]["real_time"], after[loss]["real_time"]])
                    times = {impl: 1e3 * peer[loss, impl]["median_seconds"] for impl in impls if (loss, impl) in peer}
                    dense = min(times[impl] for impl in times if impl != "trl")
                    extra = max(peer[loss, impl].get("peak_extra_bytes") or 0 for impl in times) * 1e-6
                    cells = [
                        f"{case['name']} {dtype if rows else head + mark}, {threads} thr.",
                        loss,
                        f"{own:.1f}",
                        f"{before[loss]['Melem/s']:.0f}",
                    ]
                    cells.append(f"{before[loss]['GB/s']:.1f}" if rows else "")
                    cells.append(
                        f"{metrics[loss]['real_time'] / before[loss]['real_time']:.3f}" if loss in metrics else ""
                    )
                    cells += [f"{times[impl]:.1f}" if impl in times else "" for impl in ("eager", "compile")] + [
                        f"{own / dense:.3f}"
                    ]
                    cells += [f"{times['trl']:.1f}", f"{own / times['trl']:.3f}"] if "trl" in times else ["", ""]
                    print(
                        "| " + " | ".join([*cells, f"{before[loss]['extra_MB']:.0f}", f"{extra:.0f}"]) + " |",
                        flush=True,
                    )
                if not rows:
                    bare = own_losses(products, f"/{shape}/{head}", threads)
                    for row in bare.values():
                        print(
                            f"| {case['name']} {head}{mark}, {threads} thr. | bare products | {row['real_time']:.1f} | | | | | | | | | | |",
                            flush=True,
                        )
    for line in sorted(set(inexact)):
        print(f"\nA peer's result misses its bound against float64 (its time counts all the same): {line}")


def benchmark_texts():
    """{kind: file} of text that every machine with Python has: the language reference (prose) and the standard library (code)."""
    import pydoc_data.topics
    import sysconfig

    folder = os.path.join(ROOT, "build", "bench_text")
    os.makedirs(folder, exist_ok=True)
    prose = "\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    library, code = sysconfig.get_paths()["stdlib"], []
    for name in sorted(os.listdir(library)):
        if name.endswith(".py"):
            with open(os.path.join(library, name), encoding="utf-8") as file:
                code.append(file.read())
    texts = {"prose": prose, "code": "\n".join(code)}
    for kind, text in texts.items():
        with open(os.path.join(folder, kind + ".txt"), "w", encoding="utf-8") as file:
            file.write(text)
    return {kind: os.path.join(folder, kind + ".txt") for kind in texts}


def unpacked(path, folder):
    """A tokenizer.json that both sides read: a file, a folder, or a folder with tokenizer.json.xz."""
    if os.path.isfile(path):
        return path
    if os.path.exists(os.path.join(path, "tokenizer.json")):
        return os.path.join(path, "tokenizer.json")
    import lzma

    target = os.path.join(folder, os.path.basename(path.rstrip("/")) + ".tokenizer.json")
    with lzma.open(os.path.join(path, "tokenizer.json.xz")) as packed, open(target, "wb") as out:
        out.write(packed.read())
    return target


def compare_tokenize(args):
    texts = benchmark_texts()
    print(
        "| tokenizer | text | kdlib MB/s (least, most) | first pass | peer | peer's MB/s | ratio | decoding | peer's |\n|"
        + "---|" * 9
    )
    for given in args.tokenizers:
        path = unpacked(given, os.path.dirname(texts["prose"]))
        name = os.path.basename(given.rstrip("/")).replace(".tokenizer.json", "")
        for kind, text in texts.items():
            own, peers = [], {}
            for _ in range(args.rounds):
                own += lines_of([os.path.join(BIN, "bench_tokenize"), "--tokenizer", path, "--text", text])
                for line in lines_of(
                    [args.python, f"{PEERS}/hf_tokenize.py", "--tokenizer", path, "--text", text, "--repeats", "1"]
                ):
                    peers.setdefault(line["impl"], []).append(line)
            rates = [r["encode_mb_per_s"] for r in own]
            middle = lambda rows, key: statistics.median(r[key] for r in rows)
            for impl, rows in peers.items():
                if rows[0]["fingerprint"] != own[0]["fingerprint"]:
                    sys.exit(f"{name}, {kind}: {impl} gives other ids")
                peer = middle(rows, "encode_mb_per_s")
                print(
                    f"| {name} | {kind}, {own[0]['text_bytes'] / 1e6:.1f} MB | {statistics.median(rates):.1f} ({min(rates):.1f}, {max(rates):.1f}) |"
                    f" {middle(own, 'first_mb_per_s'):.1f} | {impl} | {peer:.2f} | {statistics.median(rates) / peer:.1f} |"
                    f" {middle(own, 'decode_mb_per_s'):.0f} | {middle(rows, 'decode_mb_per_s'):.1f} |",
                    flush=True,
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("step", "on_policy", "generate", "llama", "losses", "tokenize"))
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--python", default=PYTHON, help="the peers' Python")
    parser.add_argument(
        "--llama-python", default="", help="llama: a Python with llama-cpp-python, if it is another one"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of both sides: step, on_policy, generate, and the fused cases of losses",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="measured training steps of a run")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument(
        "--case", default="", help="losses: only shapes whose name contains this, as rows_128x49152 or fused_256"
    )
    parser.add_argument("--head", action="store_true", help="losses: fused cases with the gradient of the head too")
    shared = os.path.join(os.environ.get("KDLIB_SHARED_DIR", os.path.join(ROOT, "..", "shared")), "data", "tokenizers")
    parser.add_argument(
        "--tokenizers",
        nargs="+",
        default=[os.path.join(shared, n) for n in ("gpt-oss", "qwen3")],
        metavar="PATH",
        help="tokenize: folders with tokenizer.json (or .json.xz), or files",
    )
    args = parser.parse_args()
    print(f"{machine()}; {args.threads} threads; {args.rounds} rounds\n")
    {
        "step": compare_step,
        "on_policy": compare_on_policy,
        "generate": compare_generate,
        "llama": compare_llama,
        "losses": compare_losses,
        "tokenize": compare_tokenize,
    }[args.what](args)


if __name__ == "__main__":
    main()
