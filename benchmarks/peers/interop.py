# SPDX-License-Identifier: Apache-2.0
"""Proves with transformers and PEFT that models and adapters pass both ways with equal logits.

For every tiny reference model (those that only tests/reference holds, too) and for SmolLM2-135M (float32):
  transformers' directory -> kdlib; kdlib's directory -> transformers (no name missing, none left over);
  adapters that kdlib writes -> PEFT (names, values, logits; merged by PEFT; merged by kdlib and read by transformers);
  adapters that PEFT writes, of every kind -> kdlib (merged while they are read), and the merged directory ->
  transformers;
  dense models made mixtures (convert --upcycle), and compressed mixtures made plain again, -> transformers.
benchmarks/peers/interop_gguf.py adds the rows of llama.cpp where one of llama.cpp's packages is installed.
Prints a Markdown table; exit status 1 where a number is above its limit.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
warnings.filterwarnings("ignore")

import common

TINY, SMALL = 1e-4, 2e-3  # largest difference of a logit: tiny models, SmolLM2
MADE_BY_KDLIB = ["all-linear", "qv-rslora", "layers", "patterns"]


class Proof:
    def __init__(self, bin_dir, work_dir):
        self.bin, self.work, self.rows = bin_dir, work_dir, []

    def add(self, name, measured, limit, ok):
        self.rows.append((name, measured, limit, ok))
        print(f"{'ok    ' if ok else 'FAILED'} {name}: {measured}", file=sys.stderr, flush=True)

    def close(self, name, got, want, limit):
        import torch

        if [list(x.shape) for x in got] != [list(x.shape) for x in want]:
            return self.add(name, "shapes differ", f"<= {limit:g}", False)
        worst = max(float((a.double() - b.double()).abs().max()) for a, b in zip(got, want))
        self.add(
            name, f"{worst:.1e}", f"<= {limit:g}", all(bool(torch.isfinite(a).all()) for a in got) and worst <= limit
        )

    def guarded(self, name, check):
        """A step that breaks is a failed row, and the others still run."""
        try:
            check()
        except Exception as problem:  # what the step says is the result
            text = " ".join(str(problem).split())
            self.add(name, f"{type(problem).__name__}: {text[:200]}".replace("|", "/"), "", False)
            if not isinstance(problem, subprocess.CalledProcessError):
                traceback.print_exc(file=sys.stderr)

    def path(self, *parts):
        folder = os.path.join(self.work, *parts)
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        return folder

    def call(self, program, *arguments):
        done = subprocess.run([os.path.join(self.bin, program), *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr.strip()[-400:]}")

    def kdlib_logits(self, model, ids, adapter=None, merge=False):
        from safetensors.torch import load_file

        lines = self.path("score", "ids.jsonl")
        with open(lines, "w", encoding="utf-8") as out:
            out.writelines(json.dumps({"ids": x}) + "\n" for x in ids)
        logits = self.path("score", "logits.safetensors")
        arguments = ["--model", model, "--input", lines, "--out", self.path("score", "out.jsonl"), "--logits", logits]
        self.call("score", *arguments, *(["--adapter", adapter] if adapter else []), *(["--merge"] if merge else []))
        stored = load_file(logits)
        return [stored[f"{i}.logits"] for i in range(len(ids))]


def logits_of(network, ids):
    import torch

    with torch.no_grad():
        return [network(input_ids=torch.tensor([x]), use_cache=False).logits[0].float() for x in ids]


def load(path):
    """float32, and nothing else than the file's weights; MXFP4 is decoded."""
    import torch
    from transformers import AutoModelForCausalLM

    if not os.path.isdir(path):
        return common.load_model(path)
    options = {}
    with open(os.path.join(path, "config.json"), encoding="utf-8") as file:
        if "quantization_config" in json.load(file):
            from transformers import Mxfp4Config

            options["quantization_config"] = Mxfp4Config(dequantize=True)
    network, info = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, output_loading_info=True, **options)
    left = {
        key: sorted(value)[:3]
        for key, value in info.items()
        if key in ("missing_keys", "unexpected_keys", "mismatched_keys") and value
    }
    if left:
        raise RuntimeError(f"loading {path}: {left}")
    return network.float().eval()


def rows_of_ids(vocabulary, seed):
    return [common.token_ids(1, length, min(vocabulary, 32000), seed + length)[0] for length in (7, 1, 19)]


def check_model(proof, name, path, limit):
    """Both ways without an adapter. Gives the ids and transformers' logits."""
    base = load(path)
    ids = rows_of_ids(base.config.vocab_size, 11)
    want = logits_of(base, ids)
    proof.close(f"{name}: transformers to kdlib", proof.kdlib_logits(path, ids), want, limit)
    written = proof.path(name, "model")
    proof.call("interop_writer", "--model", path, "--out", written)
    proof.close(f"{name}: kdlib to transformers", logits_of(load(written), ids), want, limit)
    return ids


def check_written_adapter(proof, name, path, kind, ids, limit):
    """kdlib's adapter in PEFT: names, values, logits, PEFT's merge, kdlib's merge."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import load_file

    title = f"{name}: kdlib's adapter {kind}"
    adapter, merged = proof.path(name, kind), proof.path(name, kind + "-merged")
    proof.call("interop_writer", "--model", path, "--make", kind, "--out", adapter, "--seed", "3")
    base = load(path)
    plain = logits_of(base, ids)
    network = PeftModel.from_pretrained(base, adapter).eval()
    file, memory = load_file(os.path.join(adapter, "adapter_model.safetensors")), get_peft_model_state_dict(
        network, save_embedding_layers=False
    )
    equal = set(file) == set(memory) and all(bool((file[n].float() == memory[n].float()).all()) for n in file)
    proof.add(f"{title}: tensors found by PEFT, with equal values", f"{len(file)} of {len(memory)}", "all", equal)
    active = logits_of(network, ids)
    moved = max(float((a - b).abs().max()) for a, b in zip(active, plain))
    proof.add(f"{title}: changes the logits by", f"{moved:.1e}", f"> {10 * limit:g}", moved > 10 * limit)
    proof.close(f"{title} in PEFT", active, proof.kdlib_logits(path, ids, adapter), limit)
    proof.close(f"{title} merged by PEFT", logits_of(network.merge_and_unload(), ids), active, limit)
    proof.call("interop_writer", "--model", path, "--adapter", adapter, "--out", merged)
    proof.close(f"{title} merged by kdlib, in transformers", logits_of(load(merged), ids), active, limit)
    shutil.rmtree(merged)


def check_peft_adapter(proof, name, path, adapter, ids, limit):
    """PEFT's adapter merged by kdlib: kdlib's logits, and transformers' of the directory that kdlib writes."""
    from peft import PeftModel

    active = logits_of(PeftModel.from_pretrained(load(path), adapter).eval(), ids)
    kind = os.path.basename(adapter.rstrip("/"))
    proof.close(
        f"{name}: PEFT's adapter {kind} in kdlib", proof.kdlib_logits(path, ids, adapter, merge=True), active, limit
    )
    merged = proof.path(name, kind + "-merged")
    proof.call("interop_writer", "--model", path, "--adapter", adapter, "--merge", "--out", merged)
    proof.close(
        f"{name}: PEFT's adapter {kind} merged by kdlib, in transformers", logits_of(load(merged), ids), active, limit
    )
    shutil.rmtree(merged)


def configs_for(family, tied):
    """Kinds of adapters that PEFT writes for a family, beyond the folders of the reference set."""
    q, every = ["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj"]
    kinds = {
        "dora": dict(target_modules=every, use_dora=True),
        "rslora_patterns": dict(
            target_modules=every,
            use_rslora=True,
            rank_pattern={"q_proj": 5},
            alpha_pattern={r"layers\.[12]\.self_attn\.v_proj": 3.5},
        ),
        "regex_layers": dict(target_modules=r".*\.(0|2)\.self_attn\.(q|o)_proj"),
        "norm_saved": dict(target_modules=q, modules_to_save=["norm"]),
        "head": dict(target_modules=q + ["lm_head"]),
        "embedding": dict(target_modules=q + ["embed_tokens"]),
    }
    if family in ("qwen2", "qwen2_moe", "gpt_oss"):
        kinds["bias_all"] = dict(target_modules=q, bias="all")
    if family in ("qwen3_moe", "qwen2_moe"):
        kinds["experts_and_router"] = dict(
            target_modules=q, target_parameters=["gate.weight", "experts.gate_up_proj", "experts.down_proj"]
        )
    if family == "gpt_oss":
        kinds["experts_and_router"] = dict(
            target_modules=q, target_parameters=["router.weight", "experts.gate_up_proj", "experts.down_proj"]
        )
        kinds["down_alone"] = dict(
            target_modules=q, target_parameters=["layers.1.mlp.experts.down_proj"], use_rslora=True
        )
    if family == "qwen2_moe":
        kinds["shared_expert"] = dict(target_modules=["gate_proj", "up_proj", "down_proj", "shared_expert_gate"])
    if not tied:
        kinds["head_saved"] = dict(target_modules=q, modules_to_save=["lm_head", "embed_tokens"])
    return kinds


def make_peft_adapter(path, folder, options):
    """An adapter with seeded values everywhere, saved by PEFT."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(5)
    network = get_peft_model(
        load(path), LoraConfig(r=3, lora_alpha=6, lora_dropout=0.0, task_type="CAUSAL_LM", **options)
    )
    with torch.no_grad():
        for parameter_name, parameter in network.named_parameters():
            if "magnitude" in parameter_name:
                parameter.mul_(1 + 0.2 * torch.randn_like(parameter))
            elif parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    network.save_pretrained(folder)


def check_tiny(proof, name, path, peft_folders):
    state = {}
    proof.guarded(f"{name}: model", lambda: state.update(ids=check_model(proof, name, path, TINY)))
    if "ids" not in state:
        return
    with open(os.path.join(path, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    proof.guarded(f"{name}: mixtures", lambda: check_mixtures(proof, name, path, TINY))
    if "quantization_config" in config:
        path = proof.path(name, "model")  # adapters go onto what kdlib wrote decoded
    for kind in MADE_BY_KDLIB:
        proof.guarded(
            f"{name}: kdlib's adapter {kind}",
            lambda: check_written_adapter(proof, name, path, kind, state["ids"], TINY),
        )
    for kind, options in configs_for(config["model_type"], config.get("tie_word_embeddings", False)).items():

        def one():
            folder = proof.path(name, "peft", kind)
            make_peft_adapter(path, folder, options)
            check_peft_adapter(proof, name, path, folder, state["ids"], TINY)

        proof.guarded(f"{name}: PEFT's adapter {kind}", one)
    for folder in peft_folders:
        proof.guarded(
            f"{name}: PEFT's adapter {os.path.basename(folder)}",
            lambda: check_peft_adapter(proof, name, path, folder, state["ids"], TINY),
        )


def check_mixtures(proof, name, path, limit):
    """Dense models made mixtures, and mixtures compressed and made plain again, in transformers."""
    if name in ("qwen2", "qwen3"):
        dense, mixture = load(path), proof.path(name, "upcycled")
        ids = rows_of_ids(dense.config.vocab_size, 23)
        proof.call("convert", "--model", path, "--upcycle", "4", "--active", "2", "--to", "hf", "--dtype", "float32",
                   "--out", mixture)  # fmt: skip
        network = load(mixture)
        proof.add(f"{name}: upcycled model_type", network.config.model_type, f"{name}_moe",
                  network.config.model_type == f"{name}_moe")  # fmt: skip
        proof.close(f"{name}: upcycled in transformers, as the dense model", logits_of(network, ids),
                    logits_of(dense, ids), limit)  # fmt: skip
    if name in ("qwen2_moe", "qwen3_moe"):
        for form, rank in (("wrappers", "3"), ("residual", "6")):
            small, plain = proof.path(name, form), proof.path(name, f"{form}_plain")
            proof.call("compress", "--model", path, "--form", form, "--rank", rank, "--dtype", "float32",
                       "--out", small)  # fmt: skip
            proof.call("convert", "--model", small, "--materialise", "--to", "hf", "--dtype", "float32", "--out", plain)
            network = load(plain)
            ids = rows_of_ids(network.config.vocab_size, 23)
            proof.close(f"{name}: compressed ({form}), made plain, in transformers", logits_of(network, ids),
                        proof.kdlib_logits(small, ids), limit)  # fmt: skip


def check_smollm2(proof, path):
    name, state = "SmolLM2-135M", {}
    proof.guarded(f"{name}: model", lambda: state.update(ids=check_model(proof, name, path, SMALL)))
    if "ids" not in state:
        return
    for kind in ("all-linear", "patterns"):
        proof.guarded(
            f"{name}: kdlib's adapter {kind}",
            lambda: check_written_adapter(proof, name, path, kind, state["ids"], SMALL),
        )

    def dora():
        folder = proof.path(name, "peft", "dora")
        make_peft_adapter(path, folder, dict(target_modules=["q_proj", "v_proj", "down_proj"], use_dora=True))
        check_peft_adapter(proof, name, path, folder, state["ids"], SMALL)

    proof.guarded(f"{name}: PEFT's adapter dora", dora)


def llama_cpp_rows(proof):
    """The rows of interop_gguf.py, or a sentence why there are none."""
    try:
        import interop_gguf
    except ImportError as problem:
        return f"llama.cpp was left out: {problem}"
    if interop_gguf.Binding.version() is None:
        return "llama.cpp was left out: none of its Python packages is installed (scripts/peers --llama)"
    proof.guarded("llama.cpp", lambda: [proof.add(*row) for row in interop_gguf.run(proof.bin, proof.path("gguf"))])
    return None


def table(proof, notes):
    versions = {name: version for name, version in common.versions().items() if name != "trl"}
    lines = [
        "# Interoperability",
        "",
        "Written by `scripts/interop`. kdlib, "
        + ", ".join(f"{k} {v}" for k, v in versions.items())
        + ", float32 on a CPU; numbers are the largest difference of a logit.",
        "",
    ]
    lines += [note for note in notes if note] + ([""] if any(notes) else [])
    lines += ["| check | measured | limit | result |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {measured} | {limit} | {'pass' if ok else '**fail**'} |"
        for name, measured, limit, ok in proof.rows
    ]
    failed = sum(not row[3] for row in proof.rows)
    return "\n".join(lines + ["", f"{len(proof.rows) - failed} passed, {failed} failed"]) + "\n"


def arguments():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="scripts/interop"
    )
    shared = os.environ.get("KDLIB_SHARED_DIR", os.path.join(common.ROOT, "..", "shared"))
    reference = os.path.join(shared, "reference")
    if not os.path.isdir(os.path.join(reference, "models")):
        reference = os.path.join(common.ROOT, "tests", "reference")
    a.add_argument(
        "--bin", default=os.path.join(common.ROOT, "build", "release", "bin"), help="folder of score and interop_writer"
    )
    a.add_argument("--reference", default=reference, help="folder with models/ and peft/")
    a.add_argument("--smollm2", default=common.DEFAULT_MODEL, help="GGUF file or directory")
    a.add_argument("--only", default="", help="names of models, with commas between")
    a.add_argument("--out", help="the table also goes to this file")
    a.add_argument("--threads", type=int, default=2)
    return a.parse_args()


def main():
    a = arguments()
    import torch

    torch.set_num_threads(a.threads)
    import transformers

    transformers.logging.set_verbosity_error()
    chosen = [x for x in a.only.split(",") if x]
    models = {}
    for root in (os.path.join(common.ROOT, "tests", "reference", "models"), os.path.join(a.reference, "models")):
        models.update((x, os.path.join(root, x)) for x in os.listdir(root) if os.path.isdir(os.path.join(root, x)))
    adapters = {}
    for folder in sorted(os.listdir(os.path.join(a.reference, "peft"))):
        full = os.path.join(a.reference, "peft", folder)
        if os.path.isdir(full):
            with open(os.path.join(full, "adapter_config.json"), encoding="utf-8") as file:
                adapters.setdefault(os.path.basename(json.load(file)["base_model_name_or_path"]), []).append(full)
    notes = []
    with tempfile.TemporaryDirectory(prefix="kdlib_interop_") as work:
        proof = Proof(a.bin, work)
        for name in sorted(models):
            if not chosen or name in chosen:
                check_tiny(proof, name, models[name], adapters.get(name, []))
        if not chosen or "SmolLM2-135M" in chosen:
            if os.path.exists(a.smollm2):
                check_smollm2(proof, a.smollm2)
            else:
                notes.append(
                    f"SmolLM2-135M was left out: {os.path.basename(a.smollm2)} is not there (scripts/demo fetches it)."
                )
        if not chosen or "llama.cpp" in chosen:
            notes.append(llama_cpp_rows(proof))
        text = table(proof, notes)
    print(text, end="")
    if a.out:
        os.makedirs(os.path.dirname(os.path.abspath(a.out)), exist_ok=True)
        with open(a.out, "w", encoding="utf-8") as file:
            file.write(text)
    sys.exit(1 if not proof.rows or any(not row[3] for row in proof.rows) else 0)


if __name__ == "__main__":
    main()
