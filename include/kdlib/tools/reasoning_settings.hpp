// SPDX-License-Identifier: Apache-2.0
// Settings and flags of a training on texts with thoughts in three stages (vpmoe_student --stage).
#ifndef KDLIB_TOOLS_REASONING_SETTINGS_HPP
#define KDLIB_TOOLS_REASONING_SETTINGS_HPP

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/data/confidence.hpp"
#include "kdlib/rollout/plan_buffer.hpp"
#include "kdlib/tools/options.hpp"

KDLIB_NAMESPACE_BEGIN

/// The values of the flags. Texts with several numbers are read by reasoning_numbers().
struct ReasoningSettings {
  std::string stage = "all", out = "vpmoe";
  bool dry_run = false;
  std::string device = "H200";                   // accelerator for the plan
  std::string data, rescored, teacher, student;  // folders
  bool random_weights = false;
  std::string tokenizer;  // tokenizer of random models
  std::string steps = "200,200,200", span_weights = "1,1";
  std::int64_t batch_tokens = 8192, micro_batches = 1, warmup = 10, save_every = 50, evaluate_every = 50;
  std::int64_t evaluate_documents = 64, evaluate_prompts = 256, evaluate_tokens = 2048;
  double learning_rate = 1e-3, rollout_learning_rate = 1e-4, clip_norm = 1, balance = 0.01;
  std::string rescore_fraction = "0.2";
  std::int64_t min_reasoning = 1;
  /// Whether --fraction and --min-reasoning were given: stage 2b then refuses parts that were selected with other
  /// values.
  bool fraction_given = false, min_reasoning_given = false;
  double rescored_share = 0.65;
  ConfidenceSettings confidence{};
  std::string center = "all";
  PlanBufferSettings plans{};
  std::int64_t rollouts = 64, max_prompt_length = 1024;
  double opd_tokens = 8e9;
  std::string caps = "1024,2048,4096";
  std::string canary;
  std::int64_t canary_every = 0;
  int threads = 0;
  std::uint64_t seed = 1;

  /// True if --stage includes the stage `name`. --stage is 1, 2 (2a and 2b), 2a, 2b, 3 or all.
  bool has_stage(const std::string& name) const;
};

/// Adds every flag of vpmoe_student --stage, including --threads and --seed.
void add_reasoning_options(Options& options, ReasoningSettings& s);

/// Reads `count` numbers with commas between them, each at least `least`. UsageError names the flag.
std::vector<double> reasoning_numbers(const char* flag, const std::string& text, std::size_t count, double least);

/// Throws UsageError if a folder that the stages need was not named.
void check_reasoning_settings(const ReasoningSettings& s);

/// Returns the plan of the full-size training on 1 + 7 devices: tokens, operations, hours and bytes of each stage, with
/// the calculation of each number. The student is vpmoe_config() and the teacher gpt_oss_20b_config(); `device` is a
/// name that find_accelerator() knows.
std::string reasoning_plan(const ReasoningSettings& s);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/reasoning_plan_inl.hpp"
#include "kdlib/tools/reasoning_settings_inl.hpp"
#endif

#endif
