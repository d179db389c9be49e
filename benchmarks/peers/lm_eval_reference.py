#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Scores of lm-evaluation-harness for the made-up items of tests/reference/eval: its own task files over local data, no network.

    build/lmeval-venv/bin/python benchmarks/peers/lm_eval_reference.py [--out tests/reference/eval] [--make-model] [--model DIR --json F]

The environment: python3 -m venv build/lmeval-venv, the path of build/peers/venv's site-packages in a .pth file of it, pip install
lm-eval==0.4.13. --make-model writes the tiny random model and its tokenizer anew.
With --model and --json another model is measured on the same files, to compare with `evaluate` by hand.
"""

import argparse
import json
import os
import pathlib
import tempfile

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ.setdefault("HF_DATASETS_CACHE", tempfile.mkdtemp(prefix="kdlib_datasets_"))

import lm_eval  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import yaml  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
HARNESS = pathlib.Path(lm_eval.__file__).parent / "tasks"
SPLITS = {
    "hellaswag": "validation",
    "arc_easy": "test",
    "arc_challenge": "test",
    "winogrande": "validation",
    "wikitext": "test",
}
SOURCES = {
    "hellaswag": "hellaswag/hellaswag.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "winogrande": "winogrande/default.yaml",
    "wikitext": "wikitext/wikitext.yaml",
}
CONTEXT = 192


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def make_model(out):
    """A byte-level BPE of 448 ids trained on the items, and a seeded random Llama of 2 layers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    texts = [path.read_text(encoding="utf-8") for path in sorted((out / "data").glob("*.jsonl"))]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=448,
            special_tokens=["<|begin|>", "<|end|>"],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    folder = out / "model"
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>"
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=448,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.25,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    model = transformers.LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.normal_(parameter, 1.0, 0.2)
    model.float().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def write_tasks(data, folder):
    """Task files that take everything but the data from the harness's own."""

    def write(name, config):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")

    def source(files):
        return {
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {k: str(v) for k, v in files.items()}},
        }

    for task, file in SOURCES.items():
        config = {
            "include": str(HARNESS / file),
            "task": f"kd_{task}",
            "tag": None,
            **source({SPLITS[task]: data / f"{task}.jsonl"}),
        }
        if task == "wikitext":
            config.update(training_split=None, validation_split=None)
        else:
            config.update({split: None for split in ("training_split", "validation_split", "test_split")})
            config[SPLITS[task] + "_split"] = SPLITS[task]
            examples = data / f"{task}.fewshot.jsonl"
            if examples.exists():
                config["dataset_kwargs"]["data_files"]["train"] = str(examples)
                config.update(training_split="train", fewshot_split="train", fewshot_config={"sampler": "first_n"})
        write(f"kd_{task}", config)
    write(
        "kd_perplexity",
        {
            "task": "kd_perplexity",
            "output_type": "loglikelihood_rolling",
            "test_split": "test",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": m} for m in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
            **source({"test": data / "perplexity.jsonl"}),
        },
    )
    subjects = list(dict.fromkeys(row["subject"] for row in lines(data / "mmlu.jsonl")))
    for subject in subjects:
        files = {}
        for split, name in (("test", "mmlu.jsonl"), ("dev", "mmlu.fewshot.jsonl")):
            files[split] = folder / f"{split}_{subject}.jsonl"
            files[split].write_text(
                "".join(json.dumps(row) + "\n" for row in lines(data / name) if row["subject"] == subject),
                encoding="utf-8",
            )
        write(
            f"kd_mmlu_{subject}",
            {
                "include": str(HARNESS / f"mmlu/default/mmlu_{subject}.yaml"),
                "task": f"kd_mmlu_{subject}",
                "tag": None,
                **source(files),
            },
        )
    write(
        "kd_mmlu",
        {
            "group": "kd_mmlu",
            "task": [f"kd_mmlu_{s}" for s in subjects],
            "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
        },
    )
    return subjects


def number(results, metric):
    return results[f"{metric},none"], results[f"{metric}_stderr,none"]


def measure(model, data, shots, bos, tasks):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        subjects = write_tasks(data, folder)
        language_model = HFLM(
            pretrained=str(model),
            dtype="float32",
            device="cpu",
            batch_size=4,
            **({"add_bos_token": True} if bos else {}),
        )
        got = lm_eval.simple_evaluate(
            model=language_model,
            tasks=[f"kd_{t}" for t in tasks],
            num_fewshot=shots,
            task_manager=TaskManager(include_path=name),
            bootstrap_iters=10,
            log_samples=True,
        )
    out = {}
    for task in tasks:
        results = got["results"].get(f"kd_{task}") or got["groups"][f"kd_{task}"]
        if task in ("wikitext", "perplexity"):
            values = {m: results[f"{m},none"] for m in ("word_perplexity", "byte_perplexity", "bits_per_byte")}
            values["log_likelihoods"] = [s["filtered_resps"][0] for s in got["samples"][f"kd_{task}"]]
        else:
            values = {}
            for metric in ("acc", "acc_norm"):
                if f"{metric},none" in results and (task != "winogrande" or metric == "acc"):
                    values[metric], values[metric + "_stderr"] = number(results, metric)
            samples = [
                s
                for part in ([f"kd_mmlu_{s}" for s in subjects] if task == "mmlu" else [f"kd_{task}"])
                for s in sorted(got["samples"][part], key=lambda s: s["doc_id"])
            ]
            values["log_likelihoods"] = [[r[0] for r in s["filtered_resps"]] for s in samples]
            values["documents"] = [{k: s[k] for k in ("acc", "acc_norm") if k in s} for s in samples]
            values["first_context"] = samples[0]["arguments"][0][0]
        out[task] = values
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/reference/eval")
    parser.add_argument("--make-model", action="store_true")
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.make_model:
        make_model(arguments.out)
    model, data = arguments.model or arguments.out / "model", arguments.out / "data"
    every = ["hellaswag", "arc_easy", "arc_challenge", "winogrande", "mmlu"]
    shown = {
        "made_with": {
            "lm-eval": lm_eval.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
        "zero_shot": measure(model, data, 0, False, every + ["wikitext", "perplexity"]),
        "two_shots": measure(model, data, 2, False, ["hellaswag", "arc_easy", "winogrande", "mmlu"]),
        "bos": measure(model, data, 0, True, ["arc_challenge", "winogrande"]),
    }
    (arguments.json or arguments.out / "expected.json").write_text(
        json.dumps(shown, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
