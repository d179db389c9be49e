// SPDX-License-Identifier: Apache-2.0
// Bodies of distil_options.hpp.
#ifndef KDLIB_TOOLS_DISTIL_OPTIONS_INL_HPP
#define KDLIB_TOOLS_DISTIL_OPTIONS_INL_HPP

#include <algorithm>

#include "kdlib/recipe/objective.hpp"
#include "kdlib/tools/distil_options.hpp"
#include "kdlib/tools/model_folders.hpp"
#include "kdlib/tools/yaml_settings.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
void schema_of_losses(JsonWriter& json);
}  // namespace detail

KDLIB_TOOLS_FUNC void RoundingWords::apply(QuantizeSettings& format) const {
  if (rounds()) format.kind = packed_kind(kind);
  format.rule = rule == "affine" ? Int4Rule::affine : rule == "asymmetric" ? Int4Rule::asymmetric : Int4Rule::symmetric;
}

KDLIB_TOOLS_FUNC QuantizeSettings RoundingWords::format(QuantizeSettings numbers) const {
  RecipeStudent student{.rounded = rounds(), .format = numbers};
  apply(student.format);
  return student.rounding();
}

KDLIB_TOOLS_FUNC std::vector<OptionNeeds> RoundingWords::needs(const char* unrounded) const {
  const bool integer = kind == "int3" || kind == "int4" || kind == "int8", floats = kind == "nf4" || kind == "fp4";
  return {{{"quantize-rule", "group-size", "double-quant"}, rounds(), unrounded},
          {{"quantize-rule"}, integer, "it is the rule of --quantize int3, int4 and int8"},
          {{"double-quant"}, floats, "it belongs to --quantize nf4 and fp4"}};
}

KDLIB_TOOLS_FUNC DistilCommand::DistilCommand(const DistilProgram& program, RecipeSettings defaults)
    : settings_(std::move(defaults)), needs_teacher_(program.needs_teacher), options_(program.name, program.purpose) {
  const RecipeStudent& student = settings_.student;
  rounding_ = {student.rounded ? packed_kind_name(student.format.kind) : "none", int4_rule_name(student.format.rule)};
  if (needs_teacher_ && rounding_.kind == "int4") rounding_.kind = "auto";
  train_ = recipe_word(student.trains);
  straight_through_ = recipe_word(student.straight_through);
  lora_targets_ = detail::target_words(student.adapter);
  lora_init_ = recipe_word(student.start);
  loss_ = {settings_.objective.loss.text()};
  schedule_ = recipe_word(settings_.training.schedule);
  reduce_ = recipe_word(settings_.training.reduce);
  resume_ = recipe_word(settings_.output.resume);
  too_long_ = recipe_word(settings_.text.too_long);
  save_ = recipe_word(settings_.output.save);
  export_ = settings_.output.gguf ? "gguf" : "none";
  teacher_api_ = setting_text(settings_.models.remote.dialect);
  teacher_dtype_ = setting_text(settings_.models.remote.precision);
  missing_ = settings_.models.cache.skip_missing ? "skip" : "error";
  mass_ = recipe_word(settings_.models.cache.mass);
  add_models(program.needs_teacher);
  add_cache();
  add_remote();
  add_objective();
  add_text();
  add_training();
  add_ranks();
  add_output();
  options_.schema_also(detail::schema_of_losses);
  options_.group("General")
      .presets(
          preset_, {"fast", "quality", "lean"},
          [](void* self, const std::string& name) { static_cast<DistilCommand*>(self)->apply_preset(name); }, this)
      .config_file(read_yaml_settings)
      .common(threads_, settings_.seed);
}

KDLIB_TOOLS_FUNC void DistilCommand::add_models(bool needs_teacher) {
  Options& o = options_;
  RecipeStudent& student = settings_.student;
  o.group("Models").add("teacher", settings_.models.teacher, "MODEL",
                        needs_teacher
                            ? "frozen teacher: Hugging Face directory, GGUF file, a finished run's folder, or "
                              "http(s) URL[,URL...] of servers that have it; without one --student learns --data by "
                              "--loss cross_entropy: plain fine-tuning"
                            : "frozen teacher: Hugging Face directory");
  o.add("student", settings_.models.student, "MODEL",
        needs_teacher ? "student, which may be a finished run's folder (default: a copy of the teacher)"
                      : "student: Hugging Face directory")
      .add("teacher-adapter", settings_.models.teacher_adapter, "DIR",
           "adapter in PEFT's form that is merged into the teacher's weights")
      .add("student-adapter", settings_.models.student_adapter, "DIR",
           "adapter in PEFT's form that the student starts from and that is trained on (default: a new one)")
      .add("quantize", rounding_.kind, "KIND",
           "round the student's linear layers first; auto: int4 where the student is the model that --teacher names, "
           "else "
           "none (so with --cache alone, or a teacher on a server)")
      .choices({"auto", "none", "int4", "nf4", "fp4", "mxfp4", "int8", "int3"})
      .add("quantize-rule", rounding_.rule, "RULE",
           "of int3, int4, int8: scale = max|w|/7.5 (int4) without zero point, affine with one, or asymmetric with an "
           "integer one")
      .choices({"symmetric", "affine", "asymmetric"})
      .add("group-size", student.format.group_size, "N", "weights that share a scale (mxfp4: 32)")
      .at_least(1)
      .add("double-quant", student.format.double_quantized, "nf4, fp4: keep the scales themselves in 8 bits")
      .add("train", train_, "WHAT",
           "what is trained: lora, an adapter beside the (rounded) weights; qat_lora, an adapter inside the rounding, "
           "Q(W + BA); all, every weight, linear layers through "
           "the rounding; scales, those of the codes")
      .choices({"lora", "qat_lora", "all", "scales"})
      .add("straight-through", straight_through_, "RULE",
           "gradient of the rounding for qat_lora and all: 1 everywhere, or 0 at the lowest and highest integer code")
      .choices({"identity", "clipped"})
      .add("merge", student.merge,
           "lora with --quantize: at the end also round weights and adapter together into model/, and say what that "
           "costs")
      .add("lora-rank", student.adapter.rank, "N", "rank of the adapters")
      .at_least(1)
      .at_most(65535)
      .add("lora-alpha", student.adapter.alpha, "X", "adapters are scaled by alpha / rank")
      .above(0)
      .add("lora-targets", lora_targets_, "LIST",
           "module names that get an adapter, or all-linear; routers adds those of a mixture")
      .names()
      .add(
          "lora-init", lora_init_, "START",
          "where a new adapter starts: zero (B is zero: the student as it is), compensate (where it undoes most of the "
          "rounding, for the inputs that text gives), auto: compensate beside codes")
      .choices({"auto", "zero", "compensate"});
}

KDLIB_TOOLS_FUNC void DistilCommand::add_cache() {
  RecipeCache& cache = settings_.models.cache;
  options_.group("Cache of the teacher")
      .add("cache", cache.folder, "DIR",
           "learn from what cache_logits wrote: no teacher is loaded; one that is named is compared with the cache. "
           "Without --data its text is learned")
      .add("validation-cache", cache.validation, "DIR",
           "a cache of the held-out text (default: --cache, where it holds that text; else perplexity alone is "
           "measured)")
      .add("missing", missing_, "RULE", "given text that the cache does not hold: error, or skip (leave it out)")
      .choices({"error", "skip"})
      .add(
          "teacher-top-k", cache.top_k, "N",
          "tokens of a row that are used of a top-k cache, or asked of --teacher URL; 0: all, or what the server gives")
      .at_least(0)
      .add("mass", mass_, "RULE",
           "from a top-k cache, where forward_kl and reverse_kl mean their top-k forms: what becomes of the mass "
           "outside "
           "it")
      .choices({"tail", "renormalised", "raw"});
}

KDLIB_TOOLS_FUNC void DistilCommand::add_objective() {
  Options& o = options_;
  o.group("Loss")
      .add(
          "loss", loss_, "SUM",
          "loss of each answer token, or a weighted sum: \"0.8 reverse_kl(temperature=2) + 0.2 cross_entropy\", a list "
          "of terms in YAML; names and fields: docs/losses.md")
      .add("beta", beta_, "X",
           "of a jsd that leaves it open: weight of the teacher; 0 and 1 are forward and reverse KL")
      .at_least(0)
      .at_most(1)
      .add("temperature", temperature_, "T", "of divergences that leave it open: both models' logits are divided by it")
      .above(0)
      .add("t-squared", t_squared_, "of divergences that leave it open: multiply loss and gradient by T^2 (auto: on)")
      .add("alpha", alpha_, "X", "blend with the labels: X times --loss and 1 - X times cross_entropy")
      .above(0)
      .at_most(1);
}

KDLIB_TOOLS_FUNC void DistilCommand::add_text() {
  Options& o = options_;
  RecipeText& s = settings_.text;
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
      .add("accept-truncated-text", s.accept_truncated_text,
           "with --lambda above 0: let the sampler's filters cut the student's text under a loss over the whole "
           "vocabulary")
      .add("prompts", s.prompts.path, "FILE", "prompts, JSON lines (default: the bundled ones)")
      .add("max-prompts", s.max_prompts, "N", "use the first N prompts alone, again and again; 0: all")
      .at_least(0)
      .add("samples", s.samples, "N", "answers to each prompt, written one after the other; must divide --batch")
      .at_least(1)
      .add("data", s.data.path, "FILE", "given text for the offline part, JSON lines (default: the teacher writes it)")
      .add("validation", s.validation.path, "FILE", "held-out prompts or text, JSON lines (default: the bundled ones)")
      .add("validation-share", s.validation_share, "X",
           "hold out this share (below 1) of --data, else of the prompts; the content of each line decides, whatever "
           "the seed, "
           "and "
           "few lines may give none; 0: --validation")
      .at_least(0)
      .add("teacher-cache", s.answers, "DIR",
           "keep the teacher's answers there for other runs with the same teacher, prompts and sampler; off: none")
      .add("teacher-cache-mb", s.answers_mb, "N", "its limit; the least recently used answers are removed", "MiB")
      .at_least(1)
      .add("tools", s.tools, "LIST",
           "what answers calls of tools in written text, and is told to the chat template where a line has no tools: "
           "calculator, or files of canned answers (docs/formats.md); answers never count in the loss")
      .add("tool-rounds", s.tool_rounds, "N", "turns of a text whose calls are answered")
      .at_least(1)
      .add("tool-tokens", s.tool_tokens, "N", "longest answer of a tool; a longer one is cut", "tokens")
      .at_least(1)
      .add("template", s.chat_template, "NAME|FILE", "chat template for turns (default: the tokenizer's)")
      .add("raw", s.raw,
           "{\"prompt\"} is plain text to continue, not a user's turn: for models without a chat template")
      .add("too-long", too_long_, "RULE",
           "given text longer than --max-length or the models' context: refuse it, cut its end off, or drop it; "
           "prompts are refused or dropped")
      .choices({"refuse", "cut", "drop"})
      .add("max-length", s.max_length, "N", "longest prompt and answer together", "tokens")
      .at_least(2)
      .add("max-new-tokens", s.max_new_tokens, "N", "longest answer", "tokens")
      .at_least(1)
      .add("replay-routing", s.replay_routing,
           "mixtures of experts: train on student-written text with the experts that wrote it");
}

KDLIB_TOOLS_FUNC void DistilCommand::add_training() {
  Options& o = options_;
  RecipeTraining& s = settings_.training;
  o.group("Training")
      .add("steps", s.steps, "N", "optimiser steps")
      .at_least(1)
      .add("batch", s.batch, "N", "sequences of a micro-batch")
      .at_least(1)
      .add("micro-batches", s.micro_batches, "N", "micro-batches of a step; their gradients are summed")
      .at_least(1)
      .add("learning-rate", s.learning_rate, "X",
           "peak rate of AdamW; 0: 0.001, or 0.0002 where the adapter starts compensated (--lora-init)")
      .at_least(0)
      .add("schedule", schedule_, "NAME", "course of the rate after the warm-up")
      .choices({"constant", "linear", "cosine"})
      .add("warmup", s.warmup, "N", "steps over which the rate rises to its peak, at most --steps", "steps")
      .at_least(0)
      .add("warmup-ratio", s.warmup_ratio, "X", "the same as a share of the steps, rounded up; 0: --warmup")
      .at_least(0)
      .at_most(1)
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
      .at_least(1)
      .add(
          "gradient-threshold", s.gradient_threshold, "X",
          "leaves columns of the logits' gradient out of the backward products of the head where 128 rows hold nothing "
          "from X of each row's largest entry on; 0: nothing")
      .at_least(0)
      .at_most(0.5)
      .add("groups", s.groups_file, "F.yaml", "parameters by patterns with multipliers of the rate; 0 freezes")
      .add("stages", s.stages_file, "F.yaml",
           "trainings that follow each other, each with steps or epochs, patterns and a rate of its own; instead of "
           "--steps");
}

KDLIB_TOOLS_FUNC void DistilCommand::add_output() {
  Options& o = options_;
  RecipeOutput& s = settings_.output;
  o.group("Output")
      .add("out", s.folder, "DIR",
           "folder for config.yaml, metrics.jsonl, checkpoints, adapter, report.html, result.json")
      .add("save-every", s.save_every, "N", "checkpoint every N steps; 0: only at the end", "steps")
      .at_least(0)
      .add("keep", s.keep, "N", "newest checkpoints that are kept")
      .at_least(1)
      .add("memory-floor", s.memory_floor, "X",
           "share of free memory below which a checkpoint is saved with a warning; below 0.4 X the run saves and stops "
           "with status 75; 0: never")
      .at_least(0)
      .at_most(1)
      .add("evaluate-every", s.evaluate_every, "N", "held-out evaluation every N steps; 0: only before and after",
           "steps")
      .at_least(0)
      .add("save", save_, "WHICH",
           "which state is exported at the end: last or best (by the held-out objective); all: the last, and every "
           "checkpoint stays, whatever --keep says")
      .choices({"last", "best", "all"})
      .add("export", export_, "FORMAT",
           "gguf: at the end also model.gguf for llama.cpp, the adapter merged, matrices as F16")
      .choices({"none", "gguf"})
      .add("tensorboard", s.tensorboard, "DIR", "folder in which metrics also stand as TensorBoard's event files")
      .add("status-file", status_file_, "FILE",
           "file in which other programs read the phase of the run and its end, as JSON lines")
      .add("evaluate-tasks", tasks_, "LIST",
           "multiple-choice tasks scored at each evaluation: hellaswag, arc_easy, arc_challenge, winogrande, mmlu")
      .names()
      .add("task-data", task_data_, "DIR", "folder of <task>.jsonl")
      .add("task-limit", task_limit_, "N", "first documents of each task; 0: all")
      .at_least(0)
      .add(
          "resume", resume_, "WHEN",
          "auto: continue what --out holds, with the settings that it was begun with (but for --threads, --save-every, "
          "--keep, --memory-floor, --tensorboard); no: start over and remove what an earlier run left there")
      .choices({"auto", "no"})
      .add("dry-run", dry_run_, "print parameters, operations, predicted memory and time, and stop")
      .add("json", json_, "--dry-run: print one JSON object instead of text")
      .add("device", device_, "NAME",
           "cpu, or cuda where the program was built with it; of --dry-run also H100, H200, A100, L40S, RTX 4090 (data "
           "sheets; rates of this machine are measured)")
      .add("dtype", dtype_, "NAME", "scalar type of weights and activations; auto: the best that the device has")
      .choices({"auto", "float32", "bfloat16"});
}

/// The presets of --help: `fast` is the defaults.
KDLIB_TOOLS_FUNC void DistilCommand::apply_preset(const std::string& name) {
  RecipeTraining& training = settings_.training;
  if (name == "quality") {
    training.steps = 300;
    training.learning_rate = 3e-4;
    training.warmup = 20;
    settings_.student.format.group_size = 32;
    settings_.output.save_every = 25;
    settings_.output.evaluate_every = 50;
  } else if (name == "lean") {
    training.batch = 2;
    training.micro_batches = 4;
    training.recompute = true;
    training.workspace = 32;
  }
}

KDLIB_TOOLS_FUNC void DistilCommand::parse(int argc, const char* const* argv) {
  options_.parse(argc, argv);
  RecipeTraining& training = settings_.training;
  if (!options_.given("warmup")) training.warmup = std::min(training.warmup, training.steps);  // a default fits
  const RecipeModels& models = settings_.models;
  require<UsageError>(!needs_teacher_ || models.taught() || models.by_row() || !models.student_path().empty(),
                      "--teacher is needed (or --student, --data and --loss cross_entropy: plain fine-tuning)");
  const bool alone = !models.taught() && !models.apart();
  models_of_runs(settings_.models);
  checking_settings([this] {
    choose_rounding();
    words_to_settings();
    check();
  });
  record();
  RecipeSettings checked = settings_;
  if (!needs_teacher_ && alone) checked.models.teacher = "the program's own";
  check_recipe(checked);
}

KDLIB_NAMESPACE_END

#include "kdlib/tools/distil_checks_inl.hpp"
#include "kdlib/tools/distil_ranks_inl.hpp"

#endif
