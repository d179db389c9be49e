// SPDX-License-Identifier: Apache-2.0
// Bodies of reasoning_settings.hpp but for the plan.
#ifndef KDLIB_TOOLS_REASONING_SETTINGS_INL_HPP
#define KDLIB_TOOLS_REASONING_SETTINGS_INL_HPP

#include <charconv>

#include "kdlib/io/blake2b.hpp"
#include "kdlib/tools/reasoning_settings.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_TOOLS_FUNC void add_reasoning_training(Options& options, ReasoningSettings& s) {
  options.group("Training")
      .add("steps", s.steps, "A,B,C", "of stages 1, 2b and 3")
      .add("batch-tokens", s.batch_tokens, "N", "of given text in a batch; whole documents", "tokens")
      .at_least(2)
      .add("micro-batches", s.micro_batches, "N", "batches a step")
      .at_least(1)
      .add("learning-rate", s.learning_rate, "X", "highest rate of stages 1 and 2b")
      .above(0)
      .add("rollout-learning-rate", s.rollout_learning_rate, "X", "highest rate of stage 3")
      .above(0)
      .add("warmup", s.warmup, "N", "of each stage", "steps")
      .at_least(0)
      .add("clip-norm", s.clip_norm, "X", "limit of the gradient's norm; 0: none")
      .at_least(0)
      .add("balance", s.balance, "X", "weight of the term that spreads tokens over experts")
      .at_least(0)
      .add("span-weights", s.span_weights, "R,F", "of the thought's and the answer's mean in the loss")
      .add("save-every", s.save_every, "N", "between checkpoints; 0: only at the end of a stage", "steps")
      .at_least(0)
      .add("evaluate-every", s.evaluate_every, "N", "between evaluations; 0: none", "steps")
      .at_least(0)
      .add("evaluate-documents", s.evaluate_documents, "N", "held-out documents")
      .at_least(1)
      .add("evaluate-prompts", s.evaluate_prompts, "N", "held-out questions that are answered")
      .at_least(0)
      .add("evaluate-tokens", s.evaluate_tokens, "N", "longest answer to one of them", "tokens")
      .at_least(1)
      .add("canary", s.canary, "FILE", "JSON lines of \"text\" or \"prompt\" that are never trained on")
      .add("canary-every", s.canary_every, "N", "between looks at them; 0: with every evaluation", "steps")
      .at_least(0);
}

KDLIB_TOOLS_FUNC void add_reasoning_rescored(Options& options, ReasoningSettings& s) {
  options.group("Stage 2: documents scored by the teacher")
      .add("rescored", s.rescored, "DIR", "the parts; OUT/rescored where it is left out")
      .add("fraction", s.rescore_fraction, "SHARE", "of the documents that stage 2a scores")
      .add("min-reasoning", s.min_reasoning, "N", "of the thought of a scored document", "tokens")
      .at_least(0)
      .add("rescored-share", s.rescored_share, "X", "of steps on scored documents")
      .at_least(0)
      .at_most(1)
      .add("confidence-min", s.confidence.least, "X", "least weight of a token")
      .above(0)
      .at_most(1)
      .add("confidence-max", s.confidence.most, "X", "largest weight of a token")
      .at_least(1)
      .add("confidence-temperature", s.confidence.temperature, "X", "larger: weights are more equal", "nats")
      .above(0)
      .add("confidence-decay", s.confidence.decay, "X", "of the running mean's sums; 1: all steps count alike")
      .above(0)
      .at_most(1)
      .add("center", s.center, "OF", "the running mean: of all tokens, or one for each span")
      .choices({"all", "span"});
}

KDLIB_TOOLS_FUNC void add_reasoning_rollouts(Options& options, ReasoningSettings& s) {
  options.group("Stage 3: text that the student writes")
      .add("anchor", s.plans.anchor_share, "X", "of steps on given text")
      .at_least(0)
      .at_most(1)
      .add("staleness", s.plans.staleness, "N", "most updates between the weights that write and those that train")
      .at_least(0)
      .at_most(8)
      .add("sync-every", s.plans.sync_every, "N", "updates between two weights that write")
      .at_least(1)
      .add("rollouts", s.rollouts, "N", "texts a step")
      .at_least(1)
      .add("side-by-side", s.plans.side_by_side, "N", "questions answered together; 0: an eighth of a step's")
      .at_least(0)
      .add("max-prompt-length", s.max_prompt_length, "N", "longer questions are not asked", "tokens")
      .at_least(1)
      .add("opd-tokens", s.opd_tokens, "N", "of the stage, by which its phases are counted", "tokens")
      .above(0)
      .add("caps", s.caps, "L,M,H", "longest texts of the modes low, medium and high", "tokens")
      .add("deterministic", s.plans.deterministic, "equal bits in every run, at the price of waiting")
      .add("drain-seconds", s.plans.drain_seconds, "X", "that a checkpoint waits for texts under way", "s")
      .at_least(0);
}

KDLIB_TOOLS_FUNC void require_folder(bool needed, const std::string& value, const char* flag, const char* why) {
  require<UsageError>(!needed || !value.empty(), "[vpmoe_student] give ", flag, ": ", why);
}

}  // namespace detail

KDLIB_TOOLS_FUNC bool ReasoningSettings::has_stage(const std::string& name) const {
  return stage == "all" || stage == name || (stage == "2" && (name == "2a" || name == "2b"));
}

KDLIB_TOOLS_FUNC void add_reasoning_options(Options& options, ReasoningSettings& s) {
  options.group("What")
      .add("stage", s.stage, "NAME",
           "1: given text; 2a: the teacher scores documents; 2b: given text, weighted by that; 2: both; 3: text that "
           "the student writes; all")
      .choices({"1", "2", "2a", "2b", "3", "all"})
      .add("data", s.data, "DIR", "token files that synth wrote, with a split valid")
      .add("teacher", s.teacher, "DIR", "a Hugging Face folder; for stages 2a and 3")
      .add("student", s.student, "DIR", "a Hugging Face folder, from which the first stage starts")
      .add("random-weights", s.random_weights,
           "make the teacher or student that is not given, tiny, from --seed, in OUT/random")
      .add("tokenizer", s.tokenizer, "DIR|FILE", "of models that --random-weights makes")
      .add("out", s.out, "DIR", "the run: a folder for each stage; a rerun goes on")
      .add("dry-run", s.dry_run, "print the plan for the real thing on 1 + 7 devices and stop")
      .add("device", s.device, "NAME", "the machine of --dry-run: H100, H200, A100, L40S, RTX 4090");
  detail::add_reasoning_training(options, s);
  detail::add_reasoning_rescored(options, s);
  detail::add_reasoning_rollouts(options, s);
  options.group("General").common(s.threads, s.seed);
}

KDLIB_TOOLS_FUNC std::vector<double> reasoning_numbers(const char* flag, const std::string& text, std::size_t count,
                                                       double least) {
  std::vector<double> out;
  const char *at = text.data(), *end = at + text.size();
  while (at != end) {
    double x = 0;
    const auto read = std::from_chars(at, end, x);
    if (read.ec != std::errc() || !(x >= least) || (read.ptr != end && *read.ptr != ',')) break;
    out.push_back(x);
    at = read.ptr == end ? end : read.ptr + 1;
    if (at == end && read.ptr != end) out.clear();  // a comma at the end
  }
  require<UsageError>(at == end && out.size() == count, "[vpmoe_student] --", flag, " is '", text, "'; it takes ",
                      count, " numbers of ", least, " or more with commas between them");
  return out;
}

KDLIB_TOOLS_FUNC void check_reasoning_settings(const ReasoningSettings& s) {
  reasoning_numbers("steps", s.steps, 3, 1);
  reasoning_numbers("span-weights", s.span_weights, 2, 0);
  reasoning_numbers("caps", s.caps, 3, 1);
  static_cast<void>(HashShare(s.rescore_fraction, "[vpmoe_student] --fraction"));
  if (s.dry_run) return;
  detail::require_folder(true, s.data, "--data", "the token files that synth wrote");
  require<UsageError>(!s.random_weights || s.teacher.empty() || s.student.empty(),
                      "[vpmoe_student] --random-weights makes what is not given; --teacher and --student are");
  detail::require_folder(s.random_weights, s.tokenizer, "--tokenizer", "random models need one");
  require<UsageError>(s.random_weights || s.tokenizer.empty(),
                      "[vpmoe_student] --tokenizer belongs to --random-weights; --student has one of its own");
  const bool scores = s.has_stage("2a") || s.has_stage("3");
  detail::require_folder(scores && !s.random_weights, s.teacher, "--teacher", "it scores text in stages 2a and 3");
  const bool first = s.has_stage("1");
  detail::require_folder(first && !s.random_weights, s.student, "--student", "stage 1 starts from it");
}

KDLIB_NAMESPACE_END

#endif
