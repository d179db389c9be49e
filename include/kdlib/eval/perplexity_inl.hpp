// SPDX-License-Identifier: Apache-2.0
// Bodies of perplexity.hpp, and the walk over documents that evaluations share.
#ifndef KDLIB_EVAL_PERPLEXITY_INL_HPP
#define KDLIB_EVAL_PERPLEXITY_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kdlib/core/stop.hpp"
#include "kdlib/eval/perplexity.hpp"
#include "kdlib/loss/cross_entropy.hpp"
#include "kdlib/loss/head_loss.hpp"
#include "kdlib/tensor/take_rows.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Calls f(batch) for groups of neighbouring documents of at most `tokens` tokens (or one document), in order.
template <class F>
void each_group(const TokenBatch& documents, std::int64_t tokens, F&& f) {
  require<ConfigError>(tokens >= 1, "[evaluate] tokens is ", tokens, "; it must be 1 or more");
  for (std::int64_t first = 0; first < documents.documents();) {
    std::int64_t last = first + 1;
    const auto begin = documents.offsets[static_cast<std::size_t>(first)];
    while (last < documents.documents() && documents.offsets[static_cast<std::size_t>(last + 1)] - begin <= tokens)
      ++last;
    TokenBatch group = documents.part(first, last - first);
    f(group);
    first = last;
  }
}

/// Calls f(group, add) for this rank's share of the groups; add(part) keeps a sum of it. Answers the parts of all ranks
/// in the order in which one rank would make them. StopRequested on every rank where one was asked to stop.
template <class Part, class F>
std::vector<Part> parts_of_groups(const TokenBatch& documents, const EvaluationSettings& settings, F&& f) {
  struct Placed {
    std::int64_t group;
    Part part;
  };
  static_assert(std::is_trivially_copyable_v<Placed>);
  AnyCommunicator ranks = settings.ranks;
  std::vector<Placed> parts;
  std::int64_t number = 0;
  bool stopped = false;
  try {
    each_group(documents, settings.tokens, [&](const TokenBatch& group) {
      const std::int64_t at = number++;
      if (at % ranks.size() == ranks.rank()) f(group, [&](const Part& part) { parts.push_back({at, part}); });
    });
  } catch (const StopRequested&) {
    if (ranks.size() == 1) throw;
    stopped = true;  // the others wait for this rank's parts
  }
  if (ranks.size() > 1) {
    if (ranks.any(stopped)) throw StopRequested("[evaluate] a rank was asked to stop");
    std::vector<Placed> all;
    for (const Bytes& theirs : ranks.gather_parts(std::as_bytes(std::span(parts)))) {
      const std::size_t before = all.size();
      all.resize(before + theirs.size() / sizeof(Placed));
      if (!theirs.empty()) std::memcpy(all.data() + before, theirs.data(), theirs.size());
    }
    std::stable_sort(all.begin(), all.end(), [](const Placed& a, const Placed& b) { return a.group < b.group; });
    parts = std::move(all);
  }
  std::vector<Part> out;
  out.reserve(parts.size());
  for (const Placed& placed : parts) out.push_back(placed.part);
  return out;
}

/// The hidden states [N, H] of a group; with EvaluationSettings::replay_routing of the recorded experts.
template <class M>
Tensor<typename M::scalar_type, typename M::device_type> evaluated(M& model, const TokenBatch& group, bool replay) {
  using Hidden = Tensor<typename M::scalar_type, typename M::device_type>;
  if (!replay) return Hidden(model.forward(group));
  if constexpr (requires(RoutingRecord * none) {
                  model.set_routing(none, &group.routing);
                  model.experts();
                }) {
    require<ConfigError>(model.experts() > 0,
                         "[evaluate] replay_routing is set, but the model has no mixture of experts; unset it");
    struct Scope {
      M& model;
      ~Scope() { model.set_routing(nullptr, nullptr); }
    } const scope{model};
    model.set_routing(nullptr, group.routing.empty() ? nullptr : &group.routing);
    return Hidden(model.forward(group));
  } else {
    fail<ConfigError>("[evaluate] replay_routing is set, but the model has no set_routing(); unset it");
  }
}

/// Rows of hidden states [N, H] as a tensor of their own: [R, H].
template <class T, class D>
Tensor<T, D> hidden_rows(const Tensor<T, D>& hidden, const std::vector<std::int64_t>& token) {
  Tensor<T, D> out(Shape{static_cast<std::int64_t>(token.size()), hidden[1]});
  take_rows<T, D>(hidden, token, out);
  return out;
}

/// The sum of a loss over the rows that count. `targets_of(group, count)` gives the targets of a group's rows.
template <class M, class Loss, class TargetsOf>
LossSum loss_of_rows(M& model, const TokenBatch& documents, const Loss& loss, const EvaluationSettings& settings,
                     TargetsOf&& targets_of) {
  using T = typename M::scalar_type;
  using D = typename M::device_type;
  documents.check(model.vocab_size());
  LossSum sum;
  for (const LossSum& part : parts_of_groups<LossSum>(documents, settings, [&](const TokenBatch&group, const auto&add) {
         const TokenBatch::Rows rows = group.rows();
         if (rows.token.empty()) return;
         const auto targets = targets_of(group, static_cast<std::int64_t>(rows.token.size()));
         const Tensor<T, D> hidden = hidden_rows(evaluated(model, group, settings.replay_routing), rows.token);
         add(head_loss(loss, model.head(), hidden.view(), targets, RowInputs{rows.label, rows.weight, {}}, 1.0,
                       View<T, D>{}, static_cast<Parameter<T, D>*>(nullptr),
                       {.workspace_bytes = settings.workspace_bytes})
                 .loss);
       }))
    sum += part;
  return sum;
}

}  // namespace detail

inline double Perplexity::value() const { return std::exp(-log_prob); }

template <class M, class Loss>
LossSum label_loss(M& model, const TokenBatch& documents, const Loss& loss, const EvaluationSettings& settings) {
  return detail::loss_of_rows(model, documents, loss, settings,
                              [](const TokenBatch&, std::int64_t) { return NoTargets{}; });
}

template <class M>
Perplexity perplexity(M& model, const TokenBatch& documents, const EvaluationSettings& settings) {
  const LossSum sum = label_loss(model, documents, CrossEntropy{}, settings);
  return {sum.weight, -sum.mean()};
}

template <class M>
std::vector<double> token_log_probs(M& model, const TokenBatch& documents, const EvaluationSettings& settings) {
  using T = typename M::scalar_type;
  using D = typename M::device_type;
  documents.check(model.vocab_size());
  std::vector<double> out;
  detail::each_group(documents, settings.tokens, [&](TokenBatch& group) {
    group.weights.clear();  // every token that has one before it
    const TokenBatch::Rows rows = group.rows();
    if (rows.token.empty()) return;
    const Tensor<T, D> hidden =
        detail::hidden_rows(detail::evaluated(model, group, settings.replay_routing), rows.token);
    const std::vector<double> part =
        row_log_probs(model.head(), View<const T, D>(hidden), std::span<const std::int32_t>(rows.label), settings);
    out.insert(out.end(), part.begin(), part.end());
  });
  return out;
}

template <class T, class D>
std::vector<double> row_log_probs(const HeadView<T, D>& head, View<const T, D> hidden,
                                  std::span<const std::int32_t> labels, const EvaluationSettings& settings) {
  if (labels.empty()) return {};
  std::vector<double> out = head_loss(CrossEntropy{}, head, hidden, NoTargets{}, RowInputs{labels, {}, {}}, 1.0,
                                      View<T, D>{}, static_cast<Parameter<T, D>*>(nullptr),
                                      {.workspace_bytes = settings.workspace_bytes, .row_values = true})
                                .row_values;
  for (double& x : out) x = -x;
  return out;
}

KDLIB_NAMESPACE_END

#endif
