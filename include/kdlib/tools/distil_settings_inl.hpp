// SPDX-License-Identifier: Apache-2.0
// Bodies of distil_settings.hpp.
#ifndef KDLIB_TOOLS_DISTIL_SETTINGS_INL_HPP
#define KDLIB_TOOLS_DISTIL_SETTINGS_INL_HPP

#include "kdlib/tools/distil_settings.hpp"
#include "kdlib/tools/yaml_settings.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The presets of docs/programs: `fast` is the defaults.
inline void apply_distil_preset(void* context, const std::string& name) {
  auto& s = *static_cast<DistilSettings*>(context);
  if (name == "quality") {
    s.steps = 300;
    s.learning_rate = 3e-4;
    s.group_size = 32;
    s.warmup = 20;
    s.save_every = 25;
    s.evaluate_every = 50;
  } else if (name == "lean") {
    s.batch = 2;
    s.micro_batches = 4;
    s.recompute = true;
    s.workspace = 32;
  }
}

}  // namespace detail

inline LoraSettings DistilSettings::adapter() const {
  LoraSettings lora{.rank = lora_rank, .alpha = lora_alpha, .targets = {}, .seed = seed};
  for (const std::string& name : lora_targets) {
    if (name == "routers") lora.routers = true;
    else if (name == "all-linear") lora.targets.all = true;
    else lora.targets.names.push_back(name);
  }
  return lora;
}

inline QuantizeSettings DistilSettings::quantizer() const {
  const PackedKind kind = packed_kind(quantize);
  const Int4Rule rule = quantize_rule == "affine"       ? Int4Rule::affine
                        : quantize_rule == "asymmetric" ? Int4Rule::asymmetric
                                                        : Int4Rule::symmetric;
  return {.kind = kind,
          .group_size = kind == PackedKind::mxfp4 ? 32 : group_size,
          .rule = rule,
          .double_quantized = double_quant};
}

inline Options distil_options(DistilSettings& s, const DistilProgram& program) {
  Options o{program.name, program.purpose};
  o.group("Models").add("teacher", s.teacher, "MODEL", "frozen teacher: Hugging Face directory or GGUF file");
  if (program.needs_teacher) o.required();
  o.add("student", s.student, "MODEL",
        program.needs_teacher ? "student (default: a copy of the teacher)" : "student: Hugging Face directory")
      .add("quantize", s.quantize, "KIND", "round the student's linear layers first")
      .choices({"none", "int4", "nf4", "fp4", "mxfp4", "int8", "int3"})
      .add("quantize-rule", s.quantize_rule, "RULE",
           "of int3, int4, int8: scale = max|w|/7.5 (int4) without zero point, affine with one, or asymmetric with an "
           "integer one")
      .choices({"symmetric", "affine", "asymmetric"})
      .add("group-size", s.group_size, "N", "weights that share a scale (mxfp4: 32)")
      .at_least(1)
      .add("double-quant", s.double_quant, "nf4, fp4: keep the scales themselves in 8 bits")
      .add("train", s.train, "WHAT",
           "what is trained: lora, an adapter beside the (rounded) weights; qat_lora, an adapter inside the rounding, "
           "Q(W + BA); all, every weight, linear layers through "
           "the rounding; scales, those of the codes")
      .choices({"lora", "qat_lora", "all", "scales"})
      .add("straight-through", s.straight_through, "RULE",
           "gradient of the rounding for qat_lora and all: 1 everywhere, or 0 at the lowest and highest integer code")
      .choices({"identity", "clipped"})
      .add("merge", s.merge,
           "lora with --quantize: at the end also round weights and adapter together into model/, and say what that "
           "costs")
      .add("lora-rank", s.lora_rank, "N", "rank of the adapters")
      .at_least(1)
      .add("lora-alpha", s.lora_alpha, "X", "adapters are scaled by alpha / rank")
      .above(0)
      .add("lora-targets", s.lora_targets, "LIST",
           "module names that get an adapter, or all-linear; routers adds those of a mixture");
  o.group("Loss")
      .add("loss", s.loss, "NAME", "divergence of each answer token")
      .choices({"forward_kl", "reverse_kl", "jsd"})
      .add("beta", s.beta, "X", "jsd: weight of the teacher in the mixture; 0 and 1 are forward and reverse KL")
      .at_least(0)
      .at_most(1)
      .add("temperature", s.temperature, "T", "of the loss: both models' logits are divided by it")
      .above(0)
      .add("t-squared", s.t_squared, "multiply loss and gradient by T^2 (auto: on where T is not 1)");
  o.group("Text")
      .add("lambda", s.lambda, "X",
           "share of steps whose answers the student writes (on-policy); the others use given or teacher-written text")
      .at_least(0)
      .at_most(1)
      .add("sample-temperature", s.sample_temperature, "T", "of the sampler that writes answers; 0: greedy")
      .at_least(0)
      .add("top-k", s.top_k, "N", "sampler: keep the N likeliest tokens; 0: all")
      .at_least(0)
      .add("top-p", s.top_p, "X", "sampler: keep the likeliest tokens up to this mass")
      .above(0)
      .at_most(1)
      .add("min-p", s.min_p, "X", "sampler: drop tokens below this share of the likeliest")
      .at_least(0)
      .at_most(1)
      .add("prompts", s.prompts, "FILE", "prompts, JSON lines (default: the bundled ones)")
      .add("data", s.data, "FILE", "given text for the offline part, JSON lines (default: the teacher writes it)")
      .add("validation", s.validation, "FILE", "held-out prompts or text, JSON lines (default: the bundled ones)")
      .add("max-length", s.max_length, "N", "longest prompt and answer together", "tokens")
      .at_least(2)
      .add("max-new-tokens", s.max_new_tokens, "N", "longest answer", "tokens")
      .at_least(1)
      .add("replay-routing", s.replay_routing,
           "mixtures of experts: train on student-written text with the experts that wrote it");
  o.group("Training")
      .add("steps", s.steps, "N", "optimiser steps")
      .at_least(1)
      .add("batch", s.batch, "N", "sequences of a micro-batch")
      .at_least(1)
      .add("micro-batches", s.micro_batches, "N", "micro-batches of a step; their gradients are summed")
      .at_least(1)
      .add("learning-rate", s.learning_rate, "X", "peak rate of AdamW")
      .above(0)
      .add("schedule", s.schedule, "NAME", "course of the rate after the warm-up")
      .choices({"constant", "linear", "cosine"})
      .add("warmup", s.warmup, "N", "steps over which the rate rises to its peak", "steps")
      .at_least(0)
      .add("weight-decay", s.weight_decay, "X", "AdamW, on tensors of two or more dimensions")
      .at_least(0)
      .add("beta1", s.beta1, "X", "AdamW")
      .at_least(0)
      .at_most(0.999999)
      .add("beta2", s.beta2, "X", "AdamW")
      .at_least(0)
      .at_most(0.999999999)
      .add("clip", s.clip, "X", "largest global gradient norm; 0: no clipping")
      .at_least(0)
      .add("recompute", s.recompute, "run each layer again in the backward pass instead of keeping its activations")
      .add("workspace", s.workspace, "N", "memory for chunks of logits", "MiB")
      .at_least(1);
  o.group("Output")
      .add("out", s.out, "DIR", "folder for config.yaml, metrics.jsonl, checkpoints, adapter, report.html, result.json")
      .add("save-every", s.save_every, "N", "checkpoint every N steps; 0: only at the end", "steps")
      .at_least(0)
      .add("keep", s.keep, "N", "newest checkpoints that are kept")
      .at_least(1)
      .add("evaluate-every", s.evaluate_every, "N", "held-out evaluation every N steps; 0: only before and after",
           "steps")
      .at_least(0)
      .add("resume", s.resume, "WHEN",
           "auto: continue what --out holds; no: start over and remove what an earlier run left there")
      .choices({"auto", "no"})
      .add("dry-run", s.dry_run, "print parameters, operations, predicted memory and time, and stop")
      .add("device", s.device, "NAME",
           "of --dry-run: cpu (rates are measured), or H100, H200, A100, L40S, RTX 4090 (data sheets)");
  o.group("General")
      .presets(s.preset, {"fast", "quality", "lean"}, detail::apply_distil_preset, &s)
      .config_file(read_yaml_settings)
      .common(s.threads, s.seed);
  return o;
}

inline void check_distil_settings(const DistilSettings& s, const Options& options) {
  if (s.quantize != "none") check_quantize_settings(s.quantizer());
  require<ConfigError>(s.quantize != "mxfp4" || !options.given("group-size") || s.group_size == 32,
                       "[distil] --quantize mxfp4 has groups of 32, not of --group-size ", s.group_size);
  require<ConfigError>((s.train != "qat_lora" && s.train != "scales") || s.quantize != "none", "[distil] --train ",
                       s.train, " trains through codes; --quantize none has none");
  require<ConfigError>(s.train != "qat_lora" || !s.adapter().routers,
                       "[distil] --lora-targets routers belongs to --train lora: routers are not rounded");
  require<ConfigError>(!s.merge || (s.train == "lora" && s.quantize != "none"),
                       "[distil] --merge belongs to --train lora with --quantize");
  require<ConfigError>(
      !options.given("straight-through") || (s.quantize != "none" && (s.train == "qat_lora" || s.train == "all")),
      "[distil] --straight-through belongs to --train qat_lora and all with --quantize");
  require<ConfigError>(
      s.adapts() || !(options.given("lora-rank") || options.given("lora-targets") || options.given("lora-alpha")),
      "[distil] --train ", s.train, " has no adapter; leave out the --lora-* options or use --train lora or qat_lora");
  require<ConfigError>(!options.given("beta") || s.loss == "jsd", "[distil] --beta belongs to --loss jsd, not to ",
                       s.loss);
  require<ConfigError>(!s.replay_routing || s.lambda > 0,
                       "[distil] --replay-routing follows the experts that wrote the student's text; with --lambda 0 "
                       "the student writes none: leave it out, or --replay-routing=off");
  require<ConfigError>(s.dry_run || s.device == "cpu", "[distil] --device ", s.device,
                       " is for --dry-run alone: kdlib trains whole models on the CPU");
  require<ConfigError>(s.max_new_tokens < s.max_length, "[distil] --max-new-tokens ", s.max_new_tokens,
                       " leaves no room for a prompt within --max-length ", s.max_length);
  require<ConfigError>(s.data.empty() || s.lambda < 1,
                       "[distil] --data is the offline part's text; with --lambda 1 it would never be read");
  require<ConfigError>(s.lambda == 0 || (s.top_k == 0 && s.top_p == 1 && s.min_p == 0),
                       "[distil] --top-k, --top-p and --min-p change the distribution that the student writes from, "
                       "while the loss scores the full one "
                       "(trap C37); with --lambda above 0 leave them out");
}

KDLIB_NAMESPACE_END

#endif
