# SPDX-License-Identifier: Apache-2.0
"""Distillation losses with PyTorch on the CPU: value and gradient, rows (logits given) and fused with the heads. The peer of benchmarks/bench_losses.

    build/peers/venv/bin/python benchmarks/peers/torch_losses.py --data DIR [--make] [--threads 1 2] [--impl eager compile trl]

DIR holds meta.json and raw little-endian files in C order, no header, written by bench_losses --write-data DIR (or by this script with --make):

  meta.json = {"seed": 1, "cases": [
    {"name": "rows_128x49152", "kind": "rows", "rows": 128, "vocabulary": 49152, "temperature": 1.0,
     "student": "rows_128x49152/student.bin",           float32 [rows, vocabulary] logits
     "teacher": "rows_128x49152/teacher.bin",           float32 [rows, vocabulary] logits
     "labels":  "rows_128x49152/labels.bin"},           int32 [rows], for cross-entropy
    {"name": "fused_256_49152_576_576", "kind": "fused", "rows": 256, "vocabulary": 49152, "student_width": 576, "teacher_width": 576, "temperature": 1.0,
     "student_hidden": ".../student_hidden.bin",        float32 [rows, student_width]
     "student_head":   ".../student_head.bin",          float32 [vocabulary, student_width]
     "teacher_hidden": ".../teacher_hidden.bin",        float32 [rows, teacher_width]
     "teacher_head":   ".../teacher_head.bin",          float32 [vocabulary, teacher_width]
     "labels": ".../labels.bin"}]}

The timed work: rows -> the mean loss and its gradient to the student logits; fused -> both projections, the mean loss and its gradient to
the student hidden states (frozen head) and, with --head, to the head too. Losses: ce, fkl, rkl, jsd0.5, and sum = 0.5 fkl + 0.3 rkl + 0.2 ce.
jsd(beta) is beta KL(t|m) + (1-beta) KL(s|m) with m = beta p_t + (1-beta) p_s. --dtype bf16 rounds
the logits of row cases first; in fused cases hidden states and heads, so that the projections are of bf16, and what
follows the logits is in float32 (--all-bf16: the softmax too).
impl: eager; compile (torch.compile, C++ compiler needed); trl (TRL's ChunkedDivergenceFunction, fused cases only, no ce and no sum).

Every result is first compared with float64 of the same inputs (the first --check-rows rows of a fused case): one JSON line a measurement,
  {"case", "loss", "impl", "dtype", "head", "threads", "median_seconds", "ns_per_entry", "peak_extra_bytes", "value", "value_error", "gradient_error", "ok"}
with relative errors; exit status 1 if a value is off by more than 1e-5 (bf16
2e-3; fused 2e-2) or a gradient, in norm, by more than 1e-4 (bf16 4e-3; fused 3e-2, since the logits themselves are rounded): eager
reverse KL and JSD through a head reach 1e-5 to 4e-5 in float32. With --baseline the two bare projections of fused cases and a copy of the row
cases' bytes are timed too. peak_extra_bytes: what a call needs above its inputs and the gradients that it returns.
"""

import argparse
import json
import os
import statistics
import sys

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import common

LOSSES = ("ce", "fkl", "rkl", "jsd0.5", "sum")
ROW_SHAPES = ((128, 49152), (64, 151936), (32, 201088))
FUSED_SHAPES = (
    (256, 49152, 576, 576),
    (1024, 49152, 576, 576),
    (256, 49152, 576, 2048),
    (1024, 49152, 576, 2048),
    (256, 151936, 896, 896),
    (1024, 151936, 896, 896),
)


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--data", required=True)
    a.add_argument(
        "--make",
        action="store_true",
        help="write seeded data of the standard shapes first (only cases that --case selects)",
    )
    a.add_argument("--case", default="", help="only cases whose name contains this")
    a.add_argument("--loss", nargs="+", default=list(LOSSES), choices=LOSSES)
    a.add_argument("--impl", nargs="+", default=["eager", "compile", "trl"], choices=("eager", "compile", "trl"))
    a.add_argument("--threads", type=int, nargs="+", default=[2])
    a.add_argument("--dtype", nargs="+", default=["float32"], choices=("float32", "bf16"))
    a.add_argument("--all-bf16", action="store_true", help="fused with --dtype bf16: losses on bf16 logits as they are")
    a.add_argument("--head", action="store_true", help="fused: gradient of the head as well")
    a.add_argument("--baseline", action="store_true")
    a.add_argument("--repeats", type=int, default=5)
    a.add_argument("--check-rows", type=int, default=64)
    return a.parse_args()


def make(folder, only, seed=1):
    """Logits of standard deviation 3 with five peaks a row; the teacher is the student plus noise. Hidden states and heads give logits alike."""
    import numpy

    cases = []
    random = numpy.random.default_rng(seed)

    def write(name, **arrays):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        for key, value in arrays.items():
            value.tofile(os.path.join(folder, name, key + ".bin"))
        return {key: f"{name}/{key}.bin" for key in arrays}

    def normal(*shape, scale=1.0):
        return random.standard_normal(shape, dtype=numpy.float32) * numpy.float32(scale)

    for rows, vocabulary in ROW_SHAPES:
        name = f"rows_{rows}x{vocabulary}"
        if only in name:
            student = normal(rows, vocabulary, scale=3)
            for row in range(rows):
                student[row, random.integers(0, vocabulary, 5)] += 8
            files = write(
                name,
                student=student,
                teacher=student + normal(rows, vocabulary),
                labels=random.integers(0, vocabulary, rows).astype("<i4"),
            )
            cases.append(dict(name=name, kind="rows", rows=rows, vocabulary=vocabulary, temperature=1.0, **files))
    for rows, vocabulary, student_width, teacher_width in FUSED_SHAPES:
        name = f"fused_{rows}_{vocabulary}_{student_width}_{teacher_width}"
        if only in name:
            hidden, head = normal(rows, student_width), normal(vocabulary, student_width, scale=3 / student_width**0.5)
            teacher_hidden, teacher_head = normal(rows, teacher_width), normal(
                vocabulary, teacher_width, scale=1 / teacher_width**0.5
            )
            teacher_hidden[:, :student_width] = (
                hidden + 0.3 * teacher_hidden[:, :student_width]
            )  # related logits, as in distillation
            teacher_head[:, :student_width] = head + 0.3 * teacher_head[:, :student_width]
            files = write(
                name,
                student_hidden=hidden,
                student_head=head,
                teacher_hidden=teacher_hidden,
                teacher_head=teacher_head,
                labels=random.integers(0, vocabulary, rows).astype("<i4"),
            )
            cases.append(
                dict(
                    name=name,
                    kind="fused",
                    rows=rows,
                    vocabulary=vocabulary,
                    student_width=student_width,
                    teacher_width=teacher_width,
                    temperature=1.0,
                    **files,
                )
            )
    with open(os.path.join(folder, "meta.json"), "w", encoding="utf-8") as out:
        json.dump(dict(seed=seed, cases=cases), out, indent=1)


def load(folder, case):
    import numpy
    import torch

    shapes = dict(
        student=("rows", "vocabulary"),
        teacher=("rows", "vocabulary"),
        labels=("rows",),
        student_hidden=("rows", "student_width"),
        student_head=("vocabulary", "student_width"),
        teacher_hidden=("rows", "teacher_width"),
        teacher_head=("vocabulary", "teacher_width"),
    )
    out = {}
    for key, sizes in shapes.items():
        if key in case:
            shape = [case[size] for size in sizes]
            values = numpy.fromfile(os.path.join(folder, case[key]), dtype="<i4" if key == "labels" else "<f4")
            if values.size != numpy.prod(shape):
                sys.exit(f"{case[key]} holds {values.size} numbers, {shape} are needed")
            out[key] = torch.from_numpy(values.reshape(shape))
    out["labels"] = out["labels"].long()
    return out


WIDEN = True  # losses of bf16 logits in float32


def mean_loss(loss, s, t, labels, temperature):
    """The formulas as a PyTorch user writes them, in log space, the mean over rows."""
    import math
    import torch
    import torch.nn.functional as F

    n = s.shape[0]
    if loss == "ce":
        return F.cross_entropy(s, labels)
    if temperature != 1:
        s, t = s / temperature, t / temperature
    if s.dtype == torch.bfloat16 and WIDEN:
        s, t = s.float(), t.float()
    ls, lt = F.log_softmax(s, -1), F.log_softmax(t, -1)
    if loss == "fkl":
        return F.kl_div(ls, lt, reduction="sum", log_target=True) / n
    if loss == "rkl":
        return (ls.exp() * (ls - lt)).sum() / n
    if loss == "jsd0.5":
        beta = 0.5
        lm = torch.logaddexp(lt + math.log(beta), ls + math.log(1 - beta))
        return (beta * lt.exp() * (lt - lm) + (1 - beta) * ls.exp() * (ls - lm)).sum() / n
    forward = F.kl_div(ls, lt, reduction="sum", log_target=True) / n
    reverse = (ls.exp() * (ls - lt)).sum() / n
    return 0.5 * forward + 0.3 * reverse + 0.2 * F.nll_loss(ls, labels)


def row_work(loss, function, data, temperature):
    s = data["student"].detach().requires_grad_()

    def run():
        s.grad = None
        value = function(loss, s, data["teacher"], data["labels"], temperature)
        value.backward()
        return value.detach(), [s.grad]

    return run


def fused_work(loss, function, data, temperature, head, trl):
    x, w = data["student_hidden"].detach().requires_grad_(), data["student_head"].detach().requires_grad_(head)

    def run():
        x.grad = w.grad = None
        if trl:
            from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

            beta = {"fkl": 0.0, "rkl": 1.0, "jsd0.5": 0.5}[loss]
            value = ChunkedDivergenceFunction.apply(
                x, w, None, data["teacher_hidden"], data["teacher_head"], None, beta, temperature
            )[0].mean()
        else:
            value = function(
                loss,
                x @ w.t(),
                data["teacher_hidden"] @ data["teacher_head"].t() if loss != "ce" else None,
                data["labels"],
                temperature,
            )
        value.backward()
        return value.detach(), [g.grad for g in (x, w) if g.grad is not None]

    return run


def first_rows(data, rows):
    return {key: value if key.endswith("head") else value[:rows] for key, value in data.items()}


def reference(case, loss, data, head):
    """Value and gradients in float64 of the same inputs."""
    double = {key: value if key == "labels" else value.double() for key, value in data.items()}
    temperature = case["temperature"]
    if case["kind"] == "rows":
        return row_work(loss, mean_loss, double, temperature)()
    return fused_work(loss, mean_loss, double, temperature, head, False)()


def errors(result, expected):
    value, grads = result
    want, want_grads = expected
    gradient = max(float((g.double() - w).norm() / w.norm().clamp(min=1e-300)) for g, w in zip(grads, want_grads))
    return float(abs(value.double() - want) / abs(want).clamp(min=1e-300)), gradient


def reset_peak():
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def high_water_bytes():
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def timed(run, repeats):
    run()
    common.trim()
    before = common.rss_bytes()
    try:
        reset_peak()
    except OSError:
        before = None
    seconds = []
    for _ in range(repeats):
        with common.Clock() as clock:
            run()
        seconds.append(clock.seconds)
    extra = None if before is None else max(0, high_water_bytes() - before)
    return statistics.median(seconds), extra


def work_of(case, loss, impl, compiled, data, head):
    if case["kind"] == "rows":
        if impl == "trl":
            return None
        return row_work(loss, compiled if impl == "compile" else mean_loss, data, case["temperature"])
    if impl == "trl" and loss in ("ce", "sum"):
        return None
    return fused_work(
        loss, compiled if impl == "compile" else mean_loss, data, case["temperature"], head, impl == "trl"
    )


def baseline(case, data, threads, repeats):
    import torch

    if case["kind"] == "fused":

        def run():
            return data["student_hidden"] @ data["student_head"].t(), data["teacher_hidden"] @ data["teacher_head"].t()

    else:
        target = torch.empty_like(data["student"])

        def run():
            target.copy_(data["student"])
            target.copy_(data["teacher"])

    seconds, _ = timed(run, repeats)
    common.emit(
        case=case["name"],
        loss="projections" if case["kind"] == "fused" else "copy",
        impl="torch",
        threads=threads,
        median_seconds=round(seconds, 6),
    )


def main():
    a = arguments()
    import torch
    import torch._dynamo

    global WIDEN
    WIDEN = not a.all_bf16
    if a.make:
        make(a.data, a.case)
    with open(os.path.join(a.data, "meta.json"), encoding="utf-8") as file:
        cases = [case for case in json.load(file)["cases"] if a.case in case["name"]]
    if not cases:
        sys.exit(f"no case in {a.data}/meta.json contains '{a.case}'")
    good = True
    for case in cases:
        whole = load(a.data, case)
        for dtype in a.dtype:
            data = {k: v.bfloat16() if dtype == "bf16" and k != "labels" else v for k, v in whole.items()}
            limit = (1e-5, 1e-4) if dtype == "float32" else (2e-3, 4e-3) if case["kind"] == "rows" else (2e-2, 3e-2)
            for threads in a.threads:
                torch.set_num_threads(threads)
                if a.baseline:
                    baseline(case, data, threads, a.repeats)
                for loss in a.loss:
                    few = data if case["kind"] == "rows" else first_rows(data, a.check_rows)
                    expected = reference(case, loss, few, a.head)
                    for impl in a.impl:
                        torch._dynamo.reset()
                        compiled = torch.compile(mean_loss, dynamic=False)
                        check = work_of(case, loss, impl, compiled, few, a.head)
                        if check is None:
                            continue
                        value, gradient = errors(check(), expected)
                        ok = value <= limit[0] and gradient <= limit[1]
                        good = good and ok
                        del check
                        run = work_of(case, loss, impl, compiled, data, a.head)
                        seconds, extra = timed(run, a.repeats)
                        common.emit(
                            case=case["name"],
                            loss=loss,
                            impl=impl,
                            dtype=dtype,
                            head=a.head and case["kind"] == "fused",
                            threads=threads,
                            median_seconds=round(seconds, 6),
                            ns_per_entry=round(seconds * 1e9 / (case["rows"] * case["vocabulary"]), 3),
                            peak_extra_bytes=extra,
                            value=float(expected[0]),
                            value_error=value,
                            gradient_error=gradient,
                            ok=ok,
                        )
                        del run
                    del expected
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
