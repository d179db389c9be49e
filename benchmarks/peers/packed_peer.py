# SPDX-License-Identifier: Apache-2.0
"""Proves with bitsandbytes, transformers and torchao that packed checkpoints pass both ways with equal weights.

    python benchmarks/peers/packed_peer.py --bin build/release/bin --out docs/results/packed.md

Needs the peers' environment (scripts/peers) with `pip install bitsandbytes==0.50.2 torchao==0.18.0 accelerate`. For tiny models and SmolLM2-135M:
  kdlib's nf4 and fp4, plain and double quantised -> transformers with bitsandbytes: every weight, and logits;
  what bitsandbytes quantised and transformers saved -> kdlib: logits;
  kdlib's int4 affine -> torchao's own reader and transformers: every weight;
  what distil --quantize nf4 leaves -> transformers with PEFT: logits;
  kdlib's own form -> transformers: refused.
bitsandbytes 0.50.2 on a CPU with AVX-512 decodes its own codes wrongly where blocks cross the ends of rows; such maps are decoded here by the
formula of its documentation, and logits are compared where blocks divide the rows. Its matrix product in bf16 for such CPUs is switched off.
Exit status 1 where a number is above its limit.
"""

import argparse
import os
import shutil
import sys
import tempfile
import warnings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
warnings.filterwarnings("ignore")

import common
from interop import SMALL, TINY, Proof, logits_of, rows_of_ids

TABLES = {
    "nf4": ["--quantize", "nf4"],
    "nf4, scales in 8 bits": ["--quantize", "nf4", "--double-quant"],
    "fp4, blocks of 128": ["--quantize", "fp4", "--group-size", "128"],
    "fp4, scales in 8 bits": ["--quantize", "fp4", "--double-quant"],
}


def values_of(folder):
    from safetensors.torch import load_file

    return load_file(os.path.join(folder, "model.safetensors"))


def load(folder, **options):
    import torch
    from transformers import AutoModelForCausalLM

    network, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, **options
    )
    left = {
        key: sorted(value)[:3]
        for key, value in info.items()
        if key in ("missing_keys", "unexpected_keys", "mismatched_keys") and value
    }
    if left:
        raise RuntimeError(f"loading {folder}: {left}")
    return network.eval()


def equal_weights(proof, title, got, folder):
    """`got` by name against the values that convert --quantize writes."""
    import torch

    want = values_of(folder)
    equal = sum(bool(torch.equal(value.float(), want[name].float())) for name, value in got.items())
    proof.add(title, f"{equal} of {len(got)}", "all", equal == len(got) and equal > 0)


def decode(weight):
    """The values of a Params4bit: by bitsandbytes where blocks divide the rows, else table[code] * absmax."""
    import torch
    from bitsandbytes.functional import dequantize_4bit, dequantize_blockwise

    state, data = weight.quant_state, weight.data
    if state.shape[1] % state.blocksize == 0:
        return dequantize_4bit(data, state)
    absmax = dequantize_blockwise(state.absmax, state.state2) + state.offset if state.nested else state.absmax
    count = state.shape[0] * state.shape[1]
    codes = torch.stack([data.flatten() >> 4, data.flatten() & 15], -1).flatten()[:count].long()
    return (state.code[codes] * absmax.float().repeat_interleave(state.blocksize)[:count]).reshape(state.shape)


def float32_products(network):
    from bitsandbytes.nn import Linear4bit

    maps = {f"{n}.weight": m for n, m in network.named_modules() if isinstance(m, Linear4bit)}
    for module in maps.values():
        module.support_avx512bf16_for_cpu = False
    return maps


def check_tables(proof, name, path, limit):
    """kdlib's bitsandbytes form in transformers."""
    import torch

    for kind, options in TABLES.items():

        def check(kind=kind, options=options):
            title, packed, values = f"{name}: kdlib's {kind}", proof.path(name, "packed"), proof.path(name, "values")
            proof.call("convert", "--model", path, *options, "--to", "hf", "--packed", "--out", packed)
            proof.call("convert", "--model", path, *options, "--to", "hf", "--dtype", "float32", "--out", values)
            network = load(packed)
            maps = float32_products(network)
            with torch.no_grad():
                equal_weights(
                    proof,
                    f"{title}: maps of transformers with equal weights",
                    {n: decode(m.weight) for n, m in maps.items()},
                    values,
                )
            if all(m.weight.quant_state.shape[1] % m.weight.quant_state.blocksize == 0 for m in maps.values()):
                ids = rows_of_ids(network.config.vocab_size, 11)
                proof.close(
                    f"{title}: logits of transformers", logits_of(network, ids), proof.kdlib_logits(packed, ids), limit
                )
            for folder in (packed, values):
                shutil.rmtree(folder)

        proof.guarded(f"{name}: kdlib's {kind}", check)


def check_foreign_tables(proof, name, path, limit):
    """What transformers saves of a model that bitsandbytes quantised."""
    import torch
    from transformers import BitsAndBytesConfig

    for kind, double in (("nf4", False), ("nf4", True), ("fp4", False), ("fp4", True)):

        def check(kind=kind, double=double):
            folder = proof.path(name, "foreign")
            settings = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type=kind,
                bnb_4bit_use_double_quant=double,
                bnb_4bit_compute_dtype=torch.float32,
            )
            network = load(path, quantization_config=settings)
            float32_products(network)
            network.save_pretrained(folder)
            ids = rows_of_ids(network.config.vocab_size, 12)
            proof.close(
                f"{name}: bitsandbytes' {kind}{', scales in 8 bits' if double else ''} in kdlib: logits",
                proof.kdlib_logits(folder, ids),
                logits_of(network, ids),
                limit,
            )
            shutil.rmtree(folder)

        proof.guarded(f"{name}: bitsandbytes' {kind}, double {double}", check)


def make_model(proof, family):
    """A model whose rows divide into blocks of 128."""
    import torch
    import transformers

    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=320,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=family == "Llama",
        initializer_range=0.2,
    )
    network = getattr(transformers, f"{family}ForCausalLM")(config).float()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.2)
    folder = proof.path("made", family)
    network.save_pretrained(folder)
    return folder


def int4_values(tensor):
    """q * scale + zero of an Int4Tensor."""
    import torch

    q = tensor.qdata.view(torch.uint8).int()
    q = torch.stack([q & 15, q >> 4], -1).reshape(tensor.shape)
    q = torch.where(q > 7, q - 16, q).float().reshape(tensor.shape[0], -1, tensor.block_size[-1])
    return (q * tensor.scale.t().unsqueeze(-1) + tensor.zero_point.t().unsqueeze(-1)).reshape(tensor.shape)


def check_int4(proof, name, path, group):
    """kdlib's Int4Tensors through torchao's reader and through transformers. (Their products need a GPU.)"""
    from safetensors import safe_open
    from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict

    packed, values, title = (
        proof.path(name, "packed"),
        proof.path(name, "values"),
        f"{name}: kdlib's int4 affine, groups of {group}",
    )
    options = ["--quantize", "int4", "--quantize-rule", "affine", "--group-size", str(group)]
    proof.call("convert", "--model", path, *options, "--to", "hf", "--packed", "--out", packed)
    proof.call("convert", "--model", path, *options, "--to", "hf", "--dtype", "float32", "--out", values)
    with safe_open(os.path.join(packed, "model.safetensors"), framework="pt") as opened:
        tensors, left = unflatten_tensor_state_dict(values_of(packed), opened.metadata())
    proof.add(f"{title}: tensors that torchao's reader leaves over", str(len(left)), "0", len(left) == 0)
    for reader, found in (("torchao's reader", tensors), ("transformers", dict(load(packed).named_parameters()))):
        equal_weights(
            proof,
            f"{title}: Int4Tensors of {reader} with equal weights",
            {n: int4_values(t) for n, t in found.items() if type(t).__name__ == "Int4Tensor"},
            values,
        )
    for folder in (packed, values):
        shutil.rmtree(folder)


def check_distilled(proof, name, path, limit):
    """What `distil --quantize nf4` leaves, in transformers and PEFT: adapter_config.json leads to the packed base."""
    import torch
    from peft import AutoPeftModelForCausalLM

    out, prompts = proof.path(name, "run"), proof.path(name, "prompts.jsonl")
    with open(prompts, "w", encoding="utf-8") as lines:
        lines.writelines(f'{{"prompt_ids": [1, {10 + i}, {40 + i}]}}\n' for i in range(8))
    proof.call(
        "distil",
        "--teacher",
        path,
        "--prompts",
        prompts,
        "--validation",
        prompts,
        "--out",
        out,
        "--quantize",
        "nf4",
        "--double-quant",
        "--steps",
        "3",
        "--batch",
        "4",
        "--max-new-tokens",
        "8",
        "--learning-rate",
        "0.01",
    )
    network = AutoPeftModelForCausalLM.from_pretrained(os.path.join(out, "adapter"), dtype=torch.float32).eval()
    float32_products(network)
    ids = rows_of_ids(network.config.vocab_size, 13)
    proof.close(
        f"{name}: what distil --quantize nf4 --double-quant leaves, in PEFT: logits",
        logits_of(network, ids),
        proof.kdlib_logits(out, ids),
        limit,
    )
    plain = logits_of(network.get_base_model(), ids)
    network.disable_adapter_layers()
    moved = max(float((a - b).abs().max()) for a, b in zip(plain, logits_of(network, ids)))
    proof.add(f"{name}: its adapter changes the logits by", f"{moved:.1e}", f"> {10 * limit:g}", moved > 10 * limit)


def check_own_form(proof, name, path):
    packed = proof.path(name, "packed")
    proof.call(
        "convert",
        "--model",
        path,
        "--quantize",
        "int4",
        "--group-size",
        "32",
        "--to",
        "hf",
        "--packed",
        "--out",
        packed,
    )
    from transformers import AutoModelForCausalLM

    try:
        AutoModelForCausalLM.from_pretrained(packed)
        said = ""
    except RuntimeError as problem:  # its words are the result
        said = " ".join(str(problem).split()).replace("|", "/")
    proof.add(
        f"{name}: kdlib's own form in transformers",
        f"refused: {said[:80]}..." if said else "loaded",
        "refused",
        said != "",
    )
    shutil.rmtree(packed)


def write_page(proof, path, versions):
    lines = [
        "# Packed checkpoints beside bitsandbytes and torchao",
        "",
        f"Written by `benchmarks/peers/packed_peer.py`. kdlib, {versions}, float32 on a CPU; logits: largest difference.",
        "",
        "| check | measured | limit | result |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {measured} | {limit} | {'pass' if ok else 'FAILED'} |" for name, measured, limit, ok in proof.rows
    ]
    text = "\n".join(lines) + "\n"
    if path:
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
    print(text)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "--bin", default=os.path.join(common.ROOT, "build", "release", "bin"), help="folder of kdlib's programs"
    )
    arguments.add_argument("--model", default=common.DEFAULT_MODEL, help="the larger model; none: tiny ones alone")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--out", help="Markdown page")
    settings = arguments.parse_args()
    import bitsandbytes
    import torch
    import torchao
    import transformers

    torch.set_num_threads(settings.threads)
    versions = f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}, bitsandbytes {bitsandbytes.__version__}, torchao {torchao.__version__.split('+')[0]}"
    with tempfile.TemporaryDirectory() as work:
        proof = Proof(settings.bin, work)
        for family in ("Llama", "Qwen2"):
            path = make_model(proof, family)
            name = f"a {family} of 128 x 256"
            check_tables(proof, name, path, TINY)
            check_foreign_tables(proof, name, path, TINY)
            proof.guarded(f"{name}: torchao", lambda name=name, path=path: check_int4(proof, name, path, 64))
            proof.guarded(f"{name}: distil", lambda name=name, path=path: check_distilled(proof, name, path, TINY))
        for name in ("llama", "qwen2"):  # rows of 64 and of 96 or 112
            path = os.path.join(common.ROOT, "tests", "reference", "models", name)
            check_tables(proof, f"{name}, blocks across rows", path, TINY)
            proof.guarded(
                f"{name}: torchao",
                lambda name=name, path=path: check_int4(proof, name, path, 32 if name == "llama" else 16),
            )
        proof.guarded(
            "own form",
            lambda: check_own_form(proof, "llama", os.path.join(common.ROOT, "tests", "reference", "models", "llama")),
        )
        if settings.model != "none":
            check_tables(proof, "SmolLM2-135M", settings.model, SMALL)
            proof.guarded("SmolLM2-135M: torchao", lambda: check_int4(proof, "SmolLM2-135M", settings.model, 64))
        write_page(proof, settings.out, versions)
    return 0 if proof.rows and all(row[3] for row in proof.rows) else 1


sys.exit(main())
