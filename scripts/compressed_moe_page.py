# SPDX-License-Identifier: Apache-2.0
"""What scripts/compressed_moe runs, and the page that it writes from what is there."""

import dataclasses
import json
import os
import pathlib
import re
import statistics

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = pathlib.Path("docs/results/compressed_moe.md")
NUMBERS = pathlib.Path("docs/results/compressed_moe.json")
INITS = ("als", "als, refined", "seed")
RECIPES = {"default": "stages_shared_core", "seed A": "stages_seed_a", "seed B": "stages_seed_b"}


@dataclasses.dataclass
class Job:
    """One model: its mixture, its sizes and how long it is trained."""

    name: str
    title: str
    source: pathlib.Path
    experts: int
    ranks: tuple  # of wrappers; a residual of twice the rank is as large
    seeds: tuple
    noise: float
    apart: tuple  # steps, batch, rate of the training that drives the experts apart
    batch: int
    adam_steps: int
    rates: tuple  # of the recipes' two stages
    recover: tuple  # what is recovered: (form, init, index of the rank)
    held_out: str = ""  # what the held-out text is
    inits: tuple = (INITS, INITS)  # of each rank
    texts: int = 0  # of the prompts, those first; 0: all
    recovery_texts: int = 0  # of the text, those first; 0: all
    rounds: int = 8  # of least squares
    adam_layer: int = -1  # the one whose maps Adam also searches, where searching all would take hours
    note: str = ""
    threads: int = 1

    @property
    def folder(self):
        return pathlib.Path("build/results/compressed_moe") / self.name


def jobs(shared):
    return {
        "toy": Job("toy", "stories260K", shared / "data/models/stories260K", 8, (2, 6), (1, 2, 3), 0.6,
                   (150, 16, 2e-3), 16, 1000, (5e-4, 1e-4),
                   (("wrappers", "als", 0), ("wrappers", "seed", 0), ("residual", "als", 0)),
                   "64 stories that the dense model wrote"),
        "smollm2": Job("smollm2", "SmolLM2-135M-Instruct", ROOT / "build/models/SmolLM2-135M-Instruct.Q4_1.gguf", 8,
                       (32, 64), (1,), 0.3, (60, 8, 1e-4), 8, 1000, (1e-5, 2e-6),
                       (("wrappers", "als", 0),), "the dense model's answers to the 48 bundled validation prompts",
                       inits=(("als",), ("als",)), texts=256, recovery_texts=128, rounds=3,
                       adam_layer=15,
                       note=" At the recipes' own rates, 5e-5 and 1e-5, 128 short texts are learned by heart: the "
                            "held-out KL of the first row grew from 0.117 to 0.160. More rounds of least squares, 8 "
                            "instead of 3, lowered J by another 1.6 to 2.6 % (on the six maps of two layers). On one "
                            "map, the gate of layer 15 with wrappers of rank 32, 1000 steps of Adam reach J 0.0352 in "
                            "the norm of the text and 0.0531 plainly, least squares 0.0161 and 0.0898."),
    }  # fmt: skip


def name_of(form, init, rank, recipe=""):
    """Of a folder of results."""
    return "_".join(part.replace(", ", "_").replace(" ", "_") for part in (form, init, str(rank), recipe) if part)


def spread(values, digits=4, factor=1.0):
    """Mean and deviation over seeds as text."""
    values = [factor * v for v in values]
    text = f"{statistics.mean(values):.{digits}f}"
    return text + (f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def config_facts(path):
    config = json.loads(path.read_text())
    inner = config["moe_intermediate_size"]
    experts = config.get("num_experts") or config.get("num_local_experts")
    return config["hidden_size"], inner, experts, config["num_experts_per_tok"]


def work_of(form, rank, h, i, k):
    """Multiply-adds of the experts of a token, the plain ones' being 1: in training, and with the core once."""
    plain = 3 * k * h * i
    if form == "residual":
        return 3 * (h * i) / plain + 3 * 2 * k * rank * (h + i) / plain, None
    chained = 3 * k * (h * i + 2 * rank * (h + i)) / plain
    once_ = 2 * (h * i + k * rank * (h + 3 * i)) + h * i + k * (2 * rank * (h + i) + rank * rank)
    return chained, once_ / plain


def collect(job):
    """{(form, init, rank, recipe or ""): list of numbers over seeds}, and the teacher's."""
    found, teachers = {}, []
    for seed in job.seeds:
        folder = job.folder / f"seed{seed}"
        if not (folder / "teacher.json").exists():
            continue
        teachers.append(json.loads((folder / "teacher.json").read_text()))
        for rank in job.ranks:
            for form in ("wrappers", "residual"):
                for init in INITS:
                    base = name_of(form, init, rank)
                    for recipe in ("", *RECIPES):
                        name = name_of(form, init, rank, recipe)
                        if not (folder / f"{name}.json").exists() or not (folder / f"{base}.json").exists():
                            continue
                        numbers = json.loads((folder / f"{name}.json").read_text())
                        numbers["seconds"] = float((folder / f"{name}.seconds").read_text())
                        zero = json.loads((folder / f"{base}.json").read_text())
                        numbers["recovered"] = 1 - numbers["kl"] / zero["kl"]
                        if recipe:
                            result = json.loads((folder / name / "result.json").read_text())
                            numbers["steps"] = result["steps"]
                        else:
                            report = json.loads((folder / base / "compress_report.json").read_text())
                            numbers["kept"] = report["kept_values"] / report["expert_values"]
                            for key in ("relative", "relative_plain"):
                                numbers[key] = statistics.mean(m[key] for m in report["maps"])
                            said = (folder / f"{base}.log").read_text()
                            numbers["parameters"] = int(re.search(r"of the experts: (\d+) parameters", said).group(1))
                        found.setdefault((form, init, rank, recipe), []).append(numbers)
    return found, teachers


def table_of(job, found, teachers):
    h, i, experts, k = config_facts(job.folder / f"seed{job.seeds[0]}" / "teacher/model/config.json")
    heads = ("form", "init", "rank", "recovery", "parameters", "experts kept", "multiply-adds: chained, core once",
             "forward KL", "recovered %", "perplexity", "top-1 %", "J", "J, S = 1", "steps", "seconds",
             "seeds")  # fmt: skip
    perplexity = spread([t["perplexity"] for t in teachers], 3)
    out = [
        "| " + " | ".join(heads) + " |",
        "|---|---|--:|---" + "|--:" * (len(heads) - 4) + "|",
        f"| teacher | | | | | 1 | 1 | 0 | | {perplexity} | 100 | | | | | {len(teachers)} |",
    ]
    for (form, init, rank, recipe), rows in found.items():
        chained, together = work_of(form, rank, h, i, k)
        pick = lambda key, digits=4, factor=1.0, of=rows: spread([r[key] for r in of], digits, factor)
        zero = recipe == ""
        cells = [
            form,
            init,
            2 * rank if form == "residual" else rank,
            recipe or "none: zero-shot",
            rows[0].get("parameters", ""),
            pick("kept", 3) if zero else "",
            f"{chained:.2f}, {together:.2f}" if together else f"{chained:.2f}",
            pick("kl"),
            "" if zero else pick("recovered", 1, 100),
            pick("perplexity", 3),
            pick("top1", 1, 100),
            pick("relative") if zero else "",
            pick("relative_plain") if zero else "",
            "" if zero else rows[0]["steps"],
            pick("seconds", 0),
            len(rows),
        ]
        out.append("| " + " | ".join(map(str, cells)) + " |")
    return out


def verdicts(job, found):
    """Least squares beside the published initialisation: zero-shot KL and J, seed by seed."""
    out = []
    for rank in job.ranks:
        for form in ("wrappers", "residual"):
            published = found.get((form, "seed", rank, ""))
            for init in ("als", "als, refined"):
                own = found.get((form, init, rank, ""))
                if not own or not published or len(own) != len(published):
                    continue
                ratio = [a["kl"] / b["kl"] for a, b in zip(own, published)]
                weighted = [a["relative"] / b["relative"] for a, b in zip(own, published)]
                plain = [a["relative_plain"] / b["relative_plain"] for a, b in zip(own, published)]
                seconds = [b["seconds"] / a["seconds"] for a, b in zip(own, published)]
                out.append(
                    f"- {form}, wrappers' rank {rank}, {init}: zero-shot KL {spread(ratio, 3)} of the Adam "
                    f"initialisation's, J in the norm of the text (what least squares minimise) "
                    f"{spread(weighted, 3)} of its, with S = 1 (what Adam minimises) {spread(plain, 3)}; Adam took "
                    f"{spread(seconds, 1)} times as long."
                )
    return out


def section(job):
    found, teachers = collect(job)
    if not teachers:
        how = f"Not run yet: `scripts/compressed_moe --model {job.name}` makes these numbers."
        return [f"## {job.title}", "", how, ""]
    steps, batch, rate = job.apart
    on = f", on {job.recovery_texts} of the {job.texts} texts" if job.recovery_texts else ""
    about = (
        f"A mixture of {job.experts} experts, 2 a token, noise {job.noise} of each matrix's root mean square, trained "
        f"for {steps} steps of {batch} texts at rate {rate} on text that the dense model wrote: the teacher. Cache: 64 "
        f"tokens a row, temperatures 1 and 2. Recovery: α 0.5, T 2, batch {job.batch}, rates {job.rates[0]} and "
        f"{job.rates[1]}, two epochs and one{on}. Least squares: {job.rounds} rounds. Held out: {job.held_out}; "
        "perplexity counts prompts too."
    )
    if len(teachers) > 1:
        about += " ± is the deviation over seeds (of mixture, training, search and recovery)."
    about += (
        " A teacher whose perplexity is above its students' still has noise in its experts, which a shared core "
        "averages away: KL and agreement say how near a student is to it, perplexity how good both are."
    )
    about += job.note
    done = sum(len(rows) for rows in found.values())
    wanted = len(job.seeds) * (2 * sum(map(len, job.inits)) + len(RECIPES) * len(job.recover))
    if done < wanted:
        about += f" So far {done} of {wanted} rows are there: the same command goes on."
    return [
        f"## {job.title}",
        "",
        about,
        "",
        *table_of(job, found, teachers),
        "",
        *(["Least squares and the published initialisation (mean core, random factors, "
           f"{job.adam_steps} steps of Adam), pairs of the same teacher:", ""] if verdicts(job, found) else []),
        *verdicts(job, found),
        *one_layer(job),
        "",
    ]


def one_layer(job):
    """Adam beside least squares on the maps of one layer."""
    folder = job.folder / f"seed{job.seeds[0]}"
    logs = {(form, init): folder / f"{name_of(form, init, job.ranks[0])}_layer.log"
            for form in ("wrappers", "residual") for init in ("als", "seed")}  # fmt: skip
    if job.adam_layer < 0 or not any(log.exists() for log in logs.values()):
        return []
    out = [f"All maps by Adam would take hours; those of layer {job.adam_layer} alone, {job.adam_steps} steps:", "",
           "| form | init | rank | J gate, up, down | wall s | CPU s |", "|---|---|--:|---|--:|--:|"]  # fmt: skip
    for (form, init), log in logs.items():
        if not log.exists():
            continue
        errors = re.findall(r"layer \d+ \w+: J ([\d.]+)", log.read_text())
        seconds = float(log.with_suffix(".seconds").read_text())
        cpu = json.loads(log.with_suffix(".use").read_text())[0]
        rank = job.ranks[0] * (2 if form == "residual" else 1)
        out.append(f"| {form} | {init} | {rank} | {', '.join(errors)} | {seconds:.0f} | {cpu:.0f} |")
    return out


def layer_section(before):
    folder = pathlib.Path("build/results/compressed_moe/layer")
    out = ["## One layer at real width", "",
           "H 2048, I 768, 128 experts, in bfloat16, aligned, without calibration: zero-shot alone, with what the "
           "program took. Structured: half of each expert's numbers are the same in all.", "",
           "| experts | form | rank | J gate, up, down | wall s | CPU s | peak memory GB |",
           "|---|---|--:|---|--:|--:|--:|"]  # fmt: skip
    rows = 0
    for kind in ("random", "structured"):
        for form, rank in (("wrappers", 64), ("residual", 128)):
            log = folder / f"{kind}_{form}.log"
            if not log.exists() or not (folder / f"{kind}_{form}.seconds").exists():
                out += [line for line in before if line.startswith(f"| {kind} | {form} |")]  # made elsewhere
                continue
            rows += 1
            errors = re.findall(r"layer 0 \w+: J ([\d.]+)", log.read_text())
            cpu, memory = json.loads(log.with_suffix(".use").read_text())
            seconds = float((folder / f"{kind}_{form}.seconds").read_text())
            out.append(
                f"| {kind} | {form} | {rank} | {', '.join(errors)} | {seconds:.0f} | {cpu:.0f} | {memory / 1e9:.1f} |"
            )
    if rows == 0:
        return [out[0], "", "Not run yet: `scripts/compressed_moe --model layer` makes these numbers.", ""]
    return out + [""]


def earlier_sections():
    """The sections of the page as it is, by heading, without the notes behind the last one."""
    text = PAGE.read_text() if PAGE.exists() else ""
    text = text.split("\nKL, recovered share")[0]
    parts = re.split(r"^(?=## )", text, flags=re.M)
    return {part.split("\n", 1)[0]: part.rstrip("\n").split("\n") + [""] for part in parts[1:]}


def write_page(all_jobs):
    """A section of which this build folder has no row stays as it is: it was made elsewhere."""
    earlier = earlier_sections()

    def kept(made):
        return earlier.get(made[0], made) if any("Not run yet" in line for line in made) else made

    text = ["# Compressed mixtures", "",
            "What is lost where the experts of a mixture share cores (`compress`), and what recovery from a teacher's "
            "cache gives back (`distil --cache --stages`). Made by `scripts/compressed_moe`; forms, statistics and "
            "recipes: [formats](../formats.md#compressed-mixtures).", ""]  # fmt: skip
    for job in all_jobs.values():
        text += kept(section(job))
    text += kept(layer_section(earlier.get("## One layer at real width", [])))
    text += [
        "KL, recovered share (1 - KL / KL zero-shot), perplexity and top-1 agreement with the teacher are of the "
        "held-out text. J is the mean over maps of the squared error over the experts' squares, in the norm of the "
        "calibration text and plainly. Multiply-adds are those of a token's routed experts, the plain mixture's being "
        "1. Seconds are wall time on a machine that did other work: ratios alone mean something.",
        "",
    ]
    part = PAGE.with_suffix(".part")
    part.write_text("\n".join(text))
    part.replace(PAGE)
    numbers = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}  # of other build folders: kept
    for job in all_jobs.values():
        found, teachers = collect(job)
        if teachers:
            rows = {", ".join(map(str, key)): rows for key, rows in found.items()}
            numbers[job.name] = {"teachers": teachers, "rows": rows}
    if numbers:
        NUMBERS.write_text(json.dumps(numbers, indent=1) + "\n")
