# SPDX-License-Identifier: Apache-2.0
"""Checks with transformers and PEFT that a model and an adapter written by kdlib load elsewhere and give the same numbers.

    build/release/bin/score --model MODEL --adapter ADAPTER --input F.jsonl --out scores.jsonl --logits logits.safetensors
    scripts/interop --scores scores.jsonl --model MODEL --adapter ADAPTER [--logits logits.safetensors]

MODEL: a Hugging Face directory or a GGUF file; ADAPTER: a PEFT directory (left out: the model alone is checked). --round-int4 N rounds the linear
weights first, as the main job does for its student (rule symmetric, groups of N). Checked for each line of the scores:
  log_probs against transformers' (natural logarithm, every token after the first); with --logits, `<line>.logits` [L,V] too;
  with an adapter: that every tensor of the file found its place in the PEFT model and is equal there, that the adapter changes the logits, and that
  merge_and_unload gives the same logits.
Prints one JSON line a check and a summary; exit status 1 where one is above --tolerance, 2 for bad usage.
"""

import argparse
import json
import os
import sys
import warnings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
warnings.filterwarnings("ignore")

import common


def arguments():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="scripts/interop --scores"
    )
    a.add_argument("--model", required=True)
    a.add_argument("--adapter")
    a.add_argument("--scores", required=True, help="what score --out wrote")
    a.add_argument("--logits", help="what score --logits wrote")
    a.add_argument("--round-int4", type=int, default=0, metavar="N")
    a.add_argument("--tolerance", type=float, default=1e-4, help="absolute; 2e-3 is usual for SmolLM2-135M")
    a.add_argument("--threads", type=int, default=2)
    return a.parse_args()


class Checks:
    def __init__(self, tolerance):
        self.tolerance, self.done, self.bad = tolerance, 0, 0

    def close(self, name, got, want):
        import torch

        if got.shape != want.shape:
            return self.result(name, False, shapes=[list(got.shape), list(want.shape)])
        difference = float((got.double() - want.double()).abs().max()) if got.numel() else 0.0
        self.result(
            name, bool(torch.isfinite(got).all()) and difference <= self.tolerance, largest_difference=difference
        )

    def result(self, name, ok, **fields):
        self.done += 1
        self.bad += not ok
        common.emit(check=name, ok=ok, **fields)


def read_scores(path):
    with open(path, encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines if line.strip()]
    for number, record in enumerate(records):
        if len(record["log_probs"]) != max(0, len(record["ids"]) - 1):
            sys.exit(
                f"{path}, line {number + 1}: {len(record['ids'])} ids need {len(record['ids']) - 1} log_probs, not {len(record['log_probs'])}"
            )
    if not records:
        sys.exit(f"{path} is empty")
    return records


def check_adapter_tensors(checks, model, folder):
    """Every tensor of the adapter's file is one of the PEFT model's, with equal values; none is left over on either side."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    written = load_file(os.path.join(folder, "adapter_model.safetensors"))
    loaded = get_peft_model_state_dict(model, save_embedding_layers=False)
    missing, extra = sorted(set(written) - set(loaded)), sorted(set(loaded) - set(written))
    checks.result(
        "adapter names", not missing and not extra, tensors=len(written), not_in_peft=missing[:5], not_in_file=extra[:5]
    )
    different = [n for n in written if n in loaded and not (written[n].float() == loaded[n].float().cpu()).all()]
    checks.result("adapter values", not different, different=different[:5])


def main():
    a = arguments()
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(a.threads)
    records = read_scores(a.scores)
    stored = load_file(a.logits) if a.logits else {}
    checks = Checks(a.tolerance)
    base = common.load_model(a.model)
    if a.round_int4:
        common.round_linear_weights(base, a.round_int4)
    model = base
    if a.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(base, a.adapter).eval()
        check_adapter_tensors(checks, model, a.adapter)

    def logits_of(network, ids):
        with torch.no_grad():
            return network(input_ids=torch.tensor([ids]), use_cache=False).logits[0]

    active = [logits_of(model, record["ids"]) for record in records]
    for line, (record, logits) in enumerate(zip(records, active)):
        next_ids = torch.tensor(record["ids"][1:])
        log_probs = (
            torch.log_softmax(logits.double(), -1)[:-1].gather(-1, next_ids[:, None])[:, 0]
            if len(next_ids)
            else torch.zeros(0)
        )
        checks.close(f"line {line} log_probs", torch.tensor(record["log_probs"], dtype=torch.float64), log_probs)
        if a.logits:
            if f"{line}.logits" in stored:
                checks.close(f"line {line} logits", stored[f"{line}.logits"], logits)
            else:
                checks.result(f"line {line} logits", False, missing=f"{line}.logits")
    if a.adapter:
        with model.disable_adapter():
            moved = max(float((logits_of(model, r["ids"]) - x).abs().max()) for r, x in zip(records, active))
        checks.result("adapter changes the logits", moved > 0, largest_difference=moved)
        merged = model.merge_and_unload()
        for line, (record, logits) in enumerate(zip(records, active)):
            checks.close(f"line {line} merged logits", logits_of(merged, record["ids"]), logits)
    common.emit(checks=checks.done, failed=checks.bad, versions=common.versions())
    sys.exit(1 if checks.bad else 0)


if __name__ == "__main__":
    main()
