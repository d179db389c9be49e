// SPDX-License-Identifier: Apache-2.0
// Writes continuations of many prompts: a fixed number of sequences is decoded together, and a waiting prompt takes the
// place of each sequence that has ended.
#ifndef KDLIB_ROLLOUT_GENERATE_HPP
#define KDLIB_ROLLOUT_GENERATE_HPP

#include <functional>
#include <string_view>

#include "kdlib/rollout/concepts.hpp"
#include "kdlib/rollout/sampler.hpp"
#include "kdlib/tensor/graph_use.hpp"

KDLIB_NAMESPACE_BEGIN

/// One sequence to write. Its random numbers are those of (seed, purpose, step, row). So its text does not depend on
/// what else is written, in which order, or how many sequences are written at once, up to the last bits of the logits:
/// products of several rows may change these bits unless set_batch_invariant is on.
struct WritingRequest {
  std::span<const std::int32_t> prompt{};  // ids, at least one
  std::uint32_t step = 0, row = 0;
  std::string_view source{};        // name of the prompt in messages, e.g. "prompts.jsonl:12"
  std::int64_t max_new_tokens = 0;  // tokens of this text; 0: the sampler's max_new_tokens
};

/// The text that was written after one prompt. The log-probabilities are those of SampledToken.
struct Completion {
  std::vector<std::int32_t> ids;      // [ids] 1 to max_new_tokens written ids, and given ones
  std::vector<float> log_probs;       // [ids] under the distribution each id was drawn from
  std::vector<float> full_log_probs;  // [ids] under the model's own softmax at temperature 1
  /// True if the text ended with a stop id, which is the last of `ids`.
  bool stopped = false;
  /// [ids] 1 if GenerateSettings::reply put id i there, with log-probs of 0; or empty: all ids were written.
  std::vector<std::uint8_t> given{};
  /// With record_routing: the experts of every token that was run, that is the prompt and all ids but the last.
  RoutingRecord routing{};

  /// Keeps the first `length` ids of the text and what belongs to them, for a text that ends by a rule of your own.
  /// `stopped` stays true only if no id is removed. Throws ShapeError unless the text has 1 to ids.size() ids left, and
  /// for lists that do not have ids.size() values.
  void cut(std::size_t length);
  /// Throws ShapeError, which names `operation` and both lengths, unless log_probs has one value for each of `ids`,
  /// and full_log_probs and `given` have as many or are empty.
  void check(std::string_view operation) const;
};

/// How far generate() has come.
struct GenerationProgress {
  std::int64_t sequences = 0, finished = 0;
  std::int64_t prompt_tokens = 0, new_tokens = 0;   // so far; a prompt that several sequences share counts once
  double prompt_seconds = 0, decoding_seconds = 0;  // the first new token of a sequence is part of its prompt's time
};

/// How generate() decodes sequences together.
struct GenerateSettings {
  std::int64_t batch = 16;            // sequences decoded together, >= 1
  std::int64_t prompt_tokens = 1024;  // prompt tokens run together; one longer prompt runs as a whole
  std::int64_t context_length = 0;    // tokens of prompt and text together; 0: the model's
  RngPurpose purpose = RngPurpose::sample_student;
  /// Keep the experts of each token. This ends an earlier set_routing. ConfigError if the model has no mixture.
  bool record_routing = false;
  GraphUse graphs = GraphUse::automatic;  // the tokens are the same either way, up to the last bits of logits
  /// Called when a text has ended with a stop id. The ids that it returns are put behind the text, and the model
  /// continues (ToolTurns gives the answers of tools). The text is complete if no ids are returned, if they leave no
  /// room for a new token, if they exceed what is left of `reply_tokens`, or if max_new_tokens ids were written.
  using Reply = std::function<std::vector<std::int32_t>(std::size_t request, const Completion& text)>;
  Reply reply{};
  std::int64_t reply_tokens = 0;  // largest number of ids that `reply` may put into one text
  /// Called after each step of decoding. If it throws, the writing ends and nothing is kept.
  std::function<void(const GenerationProgress&)> progress{};
  /// Called when a text is complete, while other texts are still written.
  std::function<void(std::size_t request, const Completion& text)> finished{};
};

/// Writes the requested texts and returns them in the order of the requests. Neighbouring requests with the same prompt
/// (samples of it) share one pass over the prompt if they start together and the model's cache has copy(from, to) for
/// slots. A sequence ends with the first stop id, after max_new_tokens, or when the context is full. Throws InputError
/// for a prompt that is empty or leaves no room in the context and for ids outside the vocabulary, ConfigError for
/// settings.
template <class M>
std::vector<Completion> generate(M& model, std::span<const WritingRequest> requests, const Sampler& sampler,
                                 const GenerateSettings& settings = {});

/// The same for prompts that are numbered from 0: prompt i has step 0 and row i.
template <class M>
std::vector<Completion> generate(M& model, const std::vector<std::vector<std::int32_t>>& prompts,
                                 const Sampler& sampler, const GenerateSettings& settings = {});

/// Throws InputError, which says what to do, unless the prompt is not empty, has ids in [0, vocabulary) and is shorter
/// than the context (`context_length` tokens).
void check_prompt(std::span<const std::int32_t> prompt, std::string_view source, std::int64_t vocabulary,
                  std::int64_t context_length);

/// Appends prompt and text as one document. A row counts if the model wrote its next token. The document's behaviour
/// log-probs are those of the draws. Its routing is that of the completion, if there is one; the last token's experts
/// are unknown. Throws InputError for an empty prompt or text, and ShapeError for a completion whose lists differ in
/// length (Completion::cut shortens all of them) or whose log-probs or routing the batch's other documents do not have.
void append_completion(TokenBatch& batch, std::span<const std::int32_t> prompt, const Completion& completion,
                       std::string_view source = {});

KDLIB_NAMESPACE_END

#include "kdlib/rollout/generate_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/rollout/completions_inl.hpp"
#endif

#endif
