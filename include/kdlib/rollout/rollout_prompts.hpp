// SPDX-License-Identifier: Apache-2.0
// The prompts of token files with a mode of reasoning, and how the text that a student writes is read: its spans, and
// whether its form is right.
#ifndef KDLIB_ROLLOUT_ROLLOUT_PROMPTS_HPP
#define KDLIB_ROLLOUT_ROLLOUT_PROMPTS_HPP

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/data/curriculum.hpp"
#include "kdlib/data/token_shards.hpp"

KDLIB_NAMESPACE_BEGIN

/// How a written text is read.
struct RolloutForm {
  std::vector<std::int32_t> prompt_end{};  // ids added to a row's stored prompt: Harmony's <|start|>assistant
  std::vector<std::int32_t> stop_ids{};
  /// Returns [text] the span of each id: 0 for the thought, 1 for the answer.
  std::function<std::vector<std::int32_t>(std::span<const std::int32_t> text)> spans{};
  /// True if the form of the text is right.
  std::function<bool(std::span<const std::int32_t> text)> valid{};

  /// The form of Harmony. The answer is the first message on the channel final, from its <|start|> to its end; all
  /// other ids are the thought. A text is valid if it ends with <|return|> and passes check_harmony as the completion
  /// of a reasoning row. Throws InputError if the tokenizer has no Harmony tokens.
  static RolloutForm harmony(const Tokenizer& tokenizer);
  /// The form of a chat template with <think> thought </think> answer. Everything up to the end of </think> is the
  /// thought; without </think> the whole text is. A text is valid if it ends with stop_ids.front() and has one <think>
  /// at its beginning (none if `opened`: then the prompts end with <think>), one </think>, a thought and an answer.
  static RolloutForm thinking(const Tokenizer& tokenizer, std::vector<std::int32_t> stop_ids, bool opened = false);
  /// Returns the form in which token files were made: Harmony's, or that of their chat template. For a chat template,
  /// texts end with the last id of the first document.
  static RolloutForm of(const TokenShards& files, const Tokenizer& tokenizer);
};

/// The questions of token files.
class RolloutPrompts {
 public:
  /// Throws ConfigError if the documents name no effort, or if none has a whole question of at most `max_length` ids.
  RolloutPrompts(TokenShards shards, std::vector<std::int32_t> prompt_end, std::int64_t max_length);

  std::int64_t count() const { return static_cast<std::int64_t>(prompts_.size()); }
  /// Returns prompt i, with the word of this mode at the place of its effort. May be called from several threads.
  std::vector<std::int32_t> at(std::int64_t i, ReasoningMode mode) const;

 private:
  struct Place {
    std::int64_t document;
    std::int32_t prompt, effort_at;
  };
  TokenShards shards_;
  std::vector<std::int32_t> prompt_end_;
  std::vector<Place> prompts_;
};

/// Counts of written texts, by mode.
class RolloutCounts {
 public:
  void add(ReasoningMode mode, std::span<const std::int32_t> text, bool stopped, const RolloutForm& form);
  double texts() const { return texts_[0] + texts_[1] + texts_[2]; }
  /// Share of the texts that are valid.
  double valid() const { return (valid_[0] + valid_[1] + valid_[2]) / texts(); }
  /// Returns "curriculum/MODE", "rollout/valid", "rollout/valid/MODE", "rollout/truncated", "rollout/length/MODE",
  /// "rollout/length_reasoning/MODE" and "rollout/length_final/MODE". Modes without texts are left out.
  std::vector<std::pair<std::string, double>> metrics() const;

 private:
  std::array<double, 3> texts_{}, valid_{}, tokens_{};
  std::array<std::array<double, 2>, 3> spans_{};
  double truncated_ = 0;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/rollout/rollout_prompts_inl.hpp"
#endif

#endif
