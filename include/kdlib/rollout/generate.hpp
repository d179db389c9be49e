// SPDX-License-Identifier: Apache-2.0
// Writes the continuations of many prompts at once: a fixed number of sequences is decoded together, and a prompt that
// waits takes the place of a sequence that has ended.
#ifndef KDLIB_ROLLOUT_GENERATE_HPP
#define KDLIB_ROLLOUT_GENERATE_HPP

#include <functional>
#include <string_view>

#include "kdlib/rollout/concepts.hpp"
#include "kdlib/rollout/sampler.hpp"
#include "kdlib/tensor/graph_use.hpp"

KDLIB_NAMESPACE_BEGIN

/// One sequence to write. Its random numbers are those of (seed, purpose, step, row), so its text does not depend on
/// what else is written, in which order or how many at once (up to the last bits of the logits, which batched products
/// may change unless set_batch_invariant is on).
struct WritingRequest {
  std::span<const std::int32_t> prompt{};  // ids, at least one
  std::uint32_t step = 0, row = 0;
  std::string_view source{};        // opens messages about this prompt, e.g. "prompts.jsonl:12"
  std::int64_t max_new_tokens = 0;  // of this text; 0: the sampler's
};

/// What was written after one prompt. Log-probabilities as in SampledToken; `stopped`: by a stop id, which is the last
/// of `ids`.
struct Completion {
  std::vector<std::int32_t> ids;      // 1 to max_new_tokens, and what was given
  std::vector<float> log_probs;       // under the distribution each id was drawn from
  std::vector<float> full_log_probs;  // under the model's own softmax at temperature 1
  bool stopped = false;
  std::vector<std::uint8_t> given{};  // 1: id i was put there by GenerateSettings::reply, its log-probs are 0; empty:
                                      // all ids were written
  RoutingRecord routing{};  // with record_routing: of every token that was run: the prompt and all ids but the last
};

/// How far generate() has come.
struct GenerationProgress {
  std::int64_t sequences = 0, finished = 0;
  std::int64_t prompt_tokens = 0, new_tokens = 0;   // so far; a prompt that several sequences share counts once
  double prompt_seconds = 0, decoding_seconds = 0;  // the first new token of a sequence counts as part of its prompt
};

/// How generate() puts sequences together.
struct GenerateSettings {
  std::int64_t batch = 16;            // sequences decoded together, >= 1
  std::int64_t prompt_tokens = 1024;  // prompt tokens run together (one longer prompt still runs as a whole)
  std::int64_t context_length = 0;    // tokens of prompt and text together; 0: the model's
  RngPurpose purpose = RngPurpose::sample_student;
  bool record_routing = false;  // keep the experts of each token (ConfigError where the model has no mixture); ends an
                                // earlier set_routing
  GraphUse graphs = GraphUse::automatic;  // same tokens either way, but for the last bits of logits
  /// Called where a text has ended with a stop id: the ids that it answers are put behind the text and the model goes
  /// on (the answers of tools: ToolTurns). No ids: the text is complete. It is complete, too, where they leave no room
  /// for a new token or are more than what is left of `reply_tokens`, and after max_new_tokens written ones.
  using Reply = std::function<std::vector<std::int32_t>(std::size_t request, const Completion& text)>;
  Reply reply{};
  std::int64_t reply_tokens = 0;  // most ids that `reply` may put into one text
  /// Called after each step of decoding. What it throws ends the writing; nothing is kept.
  std::function<void(const GenerationProgress&)> progress{};
  /// Called when a text is complete, while others are still written.
  std::function<void(std::size_t request, const Completion& text)> finished{};
};

/// Completions in the order of the requests. Requests that follow each other with one prompt (samples of it) share its
/// first pass where they are admitted together and the model's cache has copy(from, to) for slots. A sequence ends with
/// the first stop id, after max_new_tokens, or where the context is full. InputError for an empty prompt, one that
/// leaves no room in the context, or ids outside the vocabulary; ConfigError for settings.
template <class M>
std::vector<Completion> generate(M& model, std::span<const WritingRequest> requests, const Sampler& sampler,
                                 const GenerateSettings& settings = {});

/// The same for prompts numbered from 0: prompt i has step 0, row i.
template <class M>
std::vector<Completion> generate(M& model, const std::vector<std::vector<std::int32_t>>& prompts,
                                 const Sampler& sampler, const GenerateSettings& settings = {});

/// Throws InputError, saying what to do, unless the prompt is not empty, within [0, vocabulary) and shorter than the
/// context.
void check_prompt(std::span<const std::int32_t> prompt, std::string_view source, std::int64_t vocabulary,
                  std::int64_t context_length);

/// Prompt and text as one document of a batch: a row counts where the next token was written. The batch's behaviour
/// log-probs are those of the draws, its routing is the completion's where it has one (unknown for the last token).
void append_completion(TokenBatch& batch, std::span<const std::int32_t> prompt, const Completion& completion,
                       std::string_view source = {});

KDLIB_NAMESPACE_END

#include "kdlib/rollout/generate_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/rollout/completions_inl.hpp"
#endif

#endif
