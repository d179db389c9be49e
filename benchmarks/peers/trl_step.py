# SPDX-License-Identifier: Apache-2.0
"""The training step of benchmarks/bench_step with transformers, PEFT and TRL, on the CPU.

    build/peers/venv/bin/python benchmarks/peers/trl_step.py --threads 2 --steps 4

Live teacher; student: the same model, its linear weights rounded to int4 (kept as scalars: the loss is not 0), LoRA
r=16, alpha=32 on all linear layers; batch 4 x 256; forward KL over every position that has a next token (255 a row);
AdamW; clipping at 1.
--dtype bfloat16: both models, the LoRA factors (PEFT would keep those in float32, which is slower) and the moments are
of bfloat16; the losses are TRL's. Two implementations of the loss, each a process, so that the peak memory is its own:
  dense    both models' logits in full, TRL's generalized_jsd_loss with beta = 0
  chunked  hidden states and heads, TRL's ChunkedDivergenceFunction
Prints one JSON line a step (measured steps only are counted; the first is warm-up) and a summary line:
  {"name", "tokens_per_s", "seconds", "peak_rss_bytes", "loss", ...}: seconds is the median of the measured steps.
With --new-tokens N the ids are prompts: a whole on-policy step (lambda = 1) as GKDTrainer takes it, without the rest
of transformers' Trainer: the student writes N tokens behind each by GKDTrainer.generate_on_policy_outputs (temperature
1, no end), and what it wrote is marked by reverse KL (beta = 1). tokens_per_s counts written tokens then.
--ids F.jsonl is read if it exists and written if not; --save-adapter DIR writes the LoRA start values, from which
another program can start.
"""

import argparse
import os
import statistics
import subprocess
import sys

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import common


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--model", default=common.DEFAULT_MODEL, help="GGUF file or Hugging Face directory")
    a.add_argument("--impl", choices=("dense", "chunked", "both"), default="both")
    a.add_argument("--dtype", choices=common.DTYPES, default="float32", help="of both models and the adapter")
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--steps", type=int, default=4, help="measured steps, after one warm-up step")
    a.add_argument("--batch", type=int, default=4)
    a.add_argument("--length", type=int, default=256)
    a.add_argument("--new-tokens", type=int, default=0, help="the student writes so many behind each row; dense only")
    a.add_argument("--rank", type=int, default=16)
    a.add_argument("--alpha", type=int, default=32)
    a.add_argument("--rate", type=float, default=1e-3)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--ids", help="JSONL of {\"ids\": [...]}: batch rows, the same at every step")
    a.add_argument("--save-adapter", help="write the adapter at its start values")
    a.add_argument("--exact-student", action="store_true", help="leave the student's weights unrounded")
    return a.parse_args()


def build(a):
    import torch
    from peft import LoraConfig, get_peft_model

    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    teacher = common.load_model(a.model, a.dtype)
    teacher.requires_grad_(False)
    student = common.load_model(a.model, a.dtype)
    if not a.exact_student:
        common.round_linear_weights(student)
    student = get_peft_model(
        student,
        LoraConfig(task_type="CAUSAL_LM", r=a.rank, lora_alpha=a.alpha, lora_dropout=0.0, target_modules="all-linear"),
        autocast_adapter_dtype=a.dtype == "float32",
    )
    if a.save_adapter:
        student.save_pretrained(a.save_adapter)
    student.train()
    return teacher, student


def on_policy_loss(teacher, student, prompts, new_tokens):
    """GKDTrainer.training_step with lmbda = 1 and beta = 1: writes, then compute_loss."""
    import torch
    from transformers import GenerationConfig
    from trl.experimental.gkd import GKDTrainer

    config = GenerationConfig(
        max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
        use_cache=True, pad_token_id=0
    )
    student.eval()
    with torch.no_grad():
        ids, mask, labels = GKDTrainer.generate_on_policy_outputs(
            student, {"prompts": prompts, "prompt_attention_mask": torch.ones_like(prompts)}, config
        )
    student.train()
    logits = student(input_ids=ids, attention_mask=mask).logits[:, :-1, :]
    with torch.no_grad():
        target = teacher(input_ids=ids, attention_mask=mask).logits[:, :-1, :]
    counted = labels[:, 1:] != -100
    return GKDTrainer.generalized_jsd_loss(
        logits, target, labels=labels[:, 1:], beta=1.0, num_items_in_batch=counted.sum()
    ), int(counted.sum())


def dense_loss(teacher, student, ids):
    import torch
    from trl.experimental.gkd import GKDTrainer

    with torch.no_grad():
        target = teacher(input_ids=ids, use_cache=False).logits[:, :-1]
    logits = student(input_ids=ids, use_cache=False).logits[:, :-1]
    return GKDTrainer.generalized_jsd_loss(
        logits, target, labels=ids[:, 1:], beta=0.0, temperature=1.0, num_items_in_batch=ids[:, 1:].numel()
    )


def chunked_loss(teacher, student, ids):
    import torch
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    with torch.no_grad():
        h_t = teacher.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
    base = student.get_base_model()
    h_s = base.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
    rows, _ = ChunkedDivergenceFunction.apply(
        h_s, base.lm_head.weight, None, h_t, teacher.lm_head.weight, None, 0.0, 1.0
    )
    return rows.sum() / rows.numel()


def measure(a):
    import torch

    teacher, student = build(a)
    common.trim()
    vocabulary = teacher.config.vocab_size
    ids = torch.tensor(common.load_or_make_ids(a.ids, a.batch, a.length, vocabulary, a.seed))
    trained = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=a.rate, betas=(0.9, 0.999), weight_decay=0.0)
    loss_of = dense_loss if a.impl == "dense" else chunked_loss
    before, loading_peak = common.rss_bytes(), common.peak_rss_bytes()
    seconds, losses, counted = [], [], ids.numel()
    for step in range(a.steps + 1):
        with common.Clock() as clock:
            optimizer.zero_grad(set_to_none=True)
            if a.new_tokens > 0:
                loss, counted = on_policy_loss(teacher, student, ids, a.new_tokens)
            else:
                loss = loss_of(teacher, student, ids)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            losses.append(loss.item())
        seconds.append(clock.seconds)
        del loss
        common.emit(
            name="trl_" + a.impl, step=step, loss=losses[-1], grad_norm=float(norm), seconds=round(clock.seconds, 4)
        )
    median = statistics.median(seconds[1:])
    common.emit(
        name="trl_" + a.impl,
        tokens_per_s=round(counted / median, 2),
        seconds=round(median, 4),
        peak_rss_bytes=common.peak_rss_bytes(),
        loading_peak_rss_bytes=loading_peak,
        rss_before_steps_bytes=before,
        loss=losses[0],
        last_loss=losses[-1],
        dtype=a.dtype,
        threads=a.threads,
        batch=a.batch,
        length=a.length,
        trained_parameters=sum(p.numel() for p in trained),
        versions=common.versions(),
    )


def main():
    a = arguments()
    if a.impl != "both":
        return measure(a)
    keep = [x for x in sys.argv[1:]]
    for impl in ("dense", "chunked"):
        subprocess.run([sys.executable, os.path.abspath(__file__), *keep, "--impl", impl], check=True)


if __name__ == "__main__":
    main()
