#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the curves of a run of vpmoe_student --stage all and prints its numbers as a table.

    scripts/vpmoe_curves.py RUN --svg FILE > TABLE

Panels: the losses of thought and answer in training, the same on held-out rows, what stage 3 writes. Stages stand one
behind the other; stage 3's training loss is a policy gradient's and has a panel of its own.
"""
import argparse
import json
import pathlib

WIDTH, HEIGHT, LEFT, TOP = 900, 190, 60, 34
COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd"]


def read(run, stage):
    lines = (run / f"stage{stage}/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def series(run, name, stages, offsets):
    """(steps over all stages, values) of one metric."""
    return [(offsets[s] + row["step"], row[name]) for s in stages for row in read(run, s) if row.get(name) is not None]


def panel(title, curves, top, span, bounds):
    """One chart: {name: points} between x = span[0] and span[1]."""
    values = [y for points in curves.values() for _, y in points]
    low, high = min(values + [0]), max(values)
    def place(point):
        x = LEFT + (point[0] - span[0]) / (span[1] - span[0]) * (WIDTH - LEFT - 20)
        return f"{x:.1f},{top + TOP + (high - point[1]) / (high - low) * HEIGHT:.1f}"
    out = [f'<text x="{LEFT}" y="{top + 18}" font-weight="bold">{title}</text>']
    for value in (low, (low + high) / 2, high):
        y = top + TOP + (high - value) / (high - low) * HEIGHT
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for edge in bounds:
        if span[0] < edge < span[1]:
            x = place((edge, low)).split(",")[0]
            out.append(f'<line x1="{x}" x2="{x}" y1="{top + TOP}" y2="{top + TOP + HEIGHT}" stroke="#888" '
                       'stroke-dasharray="4 3"/>')
    for i, (name, points) in enumerate(curves.items()):
        out.append(f'<polyline fill="none" stroke="{COLOURS[i]}" points="{" ".join(place(p) for p in points)}"/>')
        out.append(f'<text x="{LEFT + 330 + 150 * i}" y="{top + 18}" fill="{COLOURS[i]}">{name}</text>')
    return out


def table(run):
    names = [("thought", "train/loss/reasoning"), ("answer", "train/loss/final"),
             ("held-out thought", "evaluation/synth_reasoning"), ("held-out answer", "evaluation/synth_final"),
             ("valid", "evaluation/valid"), ("canary ratio", "evaluation/canary_ratio"),
             ("canary valid", "evaluation/canary_valid")]
    print("| stage | step | " + " | ".join(title for title, _ in names) + " |")
    print("|---|---|" + "---|" * len(names))
    for stage in (1, 2, 3):
        for row in read(run, stage):
            if "evaluation/synth_loss" in row:
                cells = ["" if row.get(key) is None else f"{row[key]:.3f}" for _, key in names]
                print(f"| {stage} | {row['step']} | " + " | ".join(cells) + " |")


def rows_a_token(data):
    """Documents of the token files for each token that counts in training: what turns tokens/s into rows/s."""
    lines = [json.loads(line) for file in sorted((data / "train").glob("*_rows.jsonl"))
             for line in file.read_text(encoding="utf-8").splitlines()]
    return len(lines) / sum(line["tokens"] - line["prompt"] for line in lines)


def speeds(run, data):
    """Steps, tokens and rates of each stage. Texts of stage 3 are counted by its mean length of a text."""
    print("\n| stage | steps | tokens | seconds of steps | tokens/s | rows/s | waited for texts |")
    print("|---|---|---|---|---|---|---|")
    for stage in (1, 2, 3):
        steps = [row for row in read(run, stage) if "train/tokens" in row]
        tokens, seconds = (sum(row[f"train/{name}"] for row in steps) for name in ("tokens", "step_seconds"))
        own = [row for row in steps if any(key.startswith("curriculum/") for key in row)]
        texts = sum(row.get(f"curriculum/{mode}", 0) for row in own for mode in ("low", "medium", "high"))
        given = tokens - sum(row["train/tokens"] for row in own)
        rows = texts + given * rows_a_token(data)
        waited = sum(row.get("buffer/wait_seconds", 0) for row in own)
        rates = f"{tokens / seconds:.1f} | {rows / seconds:.2f} | {waited / seconds:.0%}"
        print(f"| {stage} | {len(steps)} | {tokens:.0f} | {seconds:.1f} | {rates} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--svg", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path, help="the run's token files: prints each stage's speed, too")
    options = parser.parse_args()
    run = options.run
    lengths = {s: read(run, s)[-1]["step"] for s in (1, 2, 3)}
    offsets = {1: 0, 2: lengths[1], 3: lengths[1] + lengths[2]}
    bounds = [offsets[2], offsets[3]]
    end = offsets[3] + lengths[3]
    def curves(names, stages):
        return {title: series(run, name, stages, offsets) for title, name in names}
    spans = [("thought", "reasoning"), ("answer", "final")]
    charts = [
        ("training: stage 1 | stage 2b", curves([(t, f"train/loss/{s}") for t, s in spans], (1, 2)), (0, offsets[3])),
        ("held-out rows: stages 1 | 2b | 3", curves([(t, f"evaluation/synth_{s}") for t, s in spans], (1, 2, 3)),
         (0, end)),
        ("stage 3: log p_T - log p_S", curves([(t, f"train/gap/{s}") for t, s in spans], (3,)), (offsets[3], end)),
        ("form: stages 1 | 2b | 3", curves([("held-out valid", "evaluation/valid"), ("rollout valid", "rollout/valid"),
                                            ("canary valid", "evaluation/canary_valid")], (1, 2, 3)), (0, end)),
    ]
    body = []
    for i, (title, lines, span) in enumerate(charts):
        body += panel(title, {k: v for k, v in lines.items() if v}, i * (HEIGHT + TOP + 24), span, bounds)
    height = len(charts) * (HEIGHT + TOP + 24) + 10
    if options.svg:
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
                'font-size="12"><rect width="100%" height="100%" fill="white"/>\n')
        options.svg.write_text(head + "\n".join(body) + "\n</svg>\n", encoding="utf-8")
    table(run)
    if options.data:
        speeds(run, options.data)


if __name__ == "__main__":
    main()
