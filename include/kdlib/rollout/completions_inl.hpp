// SPDX-License-Identifier: Apache-2.0
// Bodies of generate.hpp that do not depend on a model.
#ifndef KDLIB_ROLLOUT_COMPLETIONS_INL_HPP
#define KDLIB_ROLLOUT_COMPLETIONS_INL_HPP

#include <algorithm>
#include <utility>

#include "kdlib/core/error.hpp"
#include "kdlib/rollout/generate.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC void check_prompt(std::span<const std::int32_t> prompt, std::string_view source, std::int64_t vocabulary,
                             std::int64_t context_length) {
  const std::string_view name = source.empty() ? std::string_view("the prompt") : source;
  require<InputError>(!prompt.empty(), "[prompt] ", name, " is empty: give it at least one token");
  for (std::size_t i = 0; i < prompt.size(); ++i)
    require<InputError>(prompt[i] >= 0 && prompt[i] < vocabulary, "[prompt] ", name, ": id ", prompt[i],
                        " at position ", i, " is outside the model's vocabulary of ", vocabulary,
                        "; make the ids with this model's tokenizer");
  require<InputError>(static_cast<std::int64_t>(prompt.size()) < context_length, "[prompt] ", name, " has ",
                      prompt.size(), " tokens and the context holds ", context_length,
                      ": shorten it until at least one new token fits");
}

KDLIB_FUNC void Completion::check(std::string_view operation) const {
  require<ShapeError>(log_probs.size() == ids.size(), operation, " the completion has ", ids.size(), " ids and ",
                      log_probs.size(),
                      " log_probs; it needs one for each id: Completion::cut(n) shortens a text and all that belongs "
                      "to its ids");
  const auto fits = [&](std::size_t size, const char* name) {
    require<ShapeError>(size == 0 || size == ids.size(), operation, " the completion has ", ids.size(), " ids and ",
                        size, " values of ", name, "; it needs one for each id, or none");
  };
  fits(full_log_probs.size(), "full_log_probs");
  fits(given.size(), "given");
}

KDLIB_FUNC void Completion::cut(std::size_t length) {
  check("[Completion::cut]");
  require<ShapeError>(length >= 1 && length <= ids.size(), "[Completion::cut] length is ", length, " and the text has ",
                      ids.size(), " ids; give 1 to ", ids.size());
  const std::size_t removed = ids.size() - length;
  if (removed == 0) return;
  ids.resize(length);
  log_probs.resize(length);
  if (!full_log_probs.empty()) full_log_probs.resize(length);
  if (!given.empty()) given.resize(length);
  stopped = false;
  if (routing.empty()) return;
  RoutingRecord kept;
  kept.append(routing, 0, routing.tokens - static_cast<std::int64_t>(removed));
  routing = std::move(kept);
}

KDLIB_FUNC void append_completion(TokenBatch& batch, std::span<const std::int32_t> prompt, const Completion& completion,
                                  std::string_view source) {
  require<InputError>(!prompt.empty() && !completion.ids.empty(), "[append_completion] a prompt of ", prompt.size(),
                      " and a text of ", completion.ids.size(), " tokens: both need one or more");
  completion.check("[append_completion]");
  require<ShapeError>(batch.documents() == 0 || !batch.behaviour_log_probs.empty(),
                      "[append_completion] the batch holds documents without log-probs");
  const auto run =
      static_cast<std::int64_t>(prompt.size() + completion.ids.size()) - 1;  // the last token was never run
  require<ShapeError>(batch.documents() == 0 || batch.routing.empty() == completion.routing.empty(),
                      "[append_completion] some documents have routing, others none");
  require<ShapeError>(completion.routing.empty() || completion.routing.tokens == run, "[append_completion] routing of ",
                      completion.routing.tokens, " tokens; ", run, " were run");
  std::vector<std::int32_t> document(prompt.begin(), prompt.end());
  document.insert(document.end(), completion.ids.begin(), completion.ids.end());
  std::vector<float> weights(document.size(), 0.0f), log_probs(document.size(), 0.0f);
  for (std::size_t i = 0; i < completion.ids.size();
       ++i) {  // token i of the text is predicted by the row one before it
    if (!completion.given.empty() && completion.given[i] != 0) continue;
    weights[prompt.size() + i - 1] = 1.0f;
    log_probs[prompt.size() + i - 1] = completion.log_probs[i];
  }
  batch.append(document, weights);
  batch.behaviour_log_probs.insert(batch.behaviour_log_probs.end(), log_probs.begin(), log_probs.end());
  if (!completion.routing.empty()) {
    batch.routing.append(completion.routing, 0, run);
    batch.routing.append_unknown(1);
  }
  if (!source.empty()) {
    batch.sources.resize(static_cast<std::size_t>(batch.documents() - 1));
    batch.sources.emplace_back(source);
  }
}

KDLIB_NAMESPACE_END

#endif
