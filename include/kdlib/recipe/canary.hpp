// SPDX-License-Identifier: Apache-2.0
// A few fixed texts and questions that a model never trains on. If a model forgets, it shows there first.
#ifndef KDLIB_RECIPE_CANARY_HPP
#define KDLIB_RECIPE_CANARY_HPP

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/eval/perplexity.hpp"
#include "kdlib/rollout/generate.hpp"
#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

/// The lines of a canary file as token ids.
struct CanaryLines {
  std::vector<std::vector<std::int32_t>> texts;    // of 2 ids or more each
  std::vector<std::vector<std::int32_t>> prompts;  // questions in the form in which the model is asked
};

/// Reads JSON lines {"text": ...} and {"prompt": ...}. `ask` turns a question into the ids of a prompt. Throws
/// FormatError with file and line for a line that has neither or both, and for a text of fewer than two tokens. Throws
/// InputError if there are no lines.
CanaryLines read_canary(const std::string& path, const Tokenizer& tokenizer,
                        const std::function<std::vector<std::int32_t>(std::string_view question)>& ask);

/// How questions are answered.
struct CanarySettings {
  std::int64_t max_new_tokens = 256;
  std::int64_t context_length = 0;  // tokens of question and answer; 0: the model's
  std::vector<std::int32_t> stop_ids{};
  /// True if the form of an answer is right.
  std::function<bool(std::span<const std::int32_t> text)> valid{};
};

/// What a model makes of canary lines. A number is NaN if there are no lines of its kind.
struct CanaryReport {
  double loss = 0;    // nats: mean of -log p over the tokens of the texts
  double valid = 0;   // share of answers that end with a stop id and are valid
  double length = 0;  // mean number of tokens of an answer
  double repeat = 0;  // share of an answer's runs of four ids that occurred in it before
};

/// Returns the share of the runs of four ids that occur in `text` for the second time or later; 0 for fewer than five
/// ids.
double repeated_fours(std::span<const std::int32_t> text);

/// Measures a model. It answers with the most probable tokens, one by one.
template <class M>
CanaryReport evaluate_canary(M& model, const CanaryLines& lines, const CanarySettings& settings);

KDLIB_NAMESPACE_END

#include "kdlib/recipe/canary_body_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/canary_inl.hpp"
#endif

#endif
