// SPDX-License-Identifier: Apache-2.0
// Bodies of experts.hpp.
#ifndef KDLIB_NN_EXPERTS_INL_HPP
#define KDLIB_NN_EXPERTS_INL_HPP

#include <algorithm>

#include "kdlib/nn/experts.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D, class T>
ExpertFeedForward<D, T>::ExpertFeedForward(const std::string& path, std::int64_t hidden, const ExpertSettings& settings,
                                           std::int64_t mixture)
    : settings_(settings),
      mixture_(mixture),
      router_(path + "." + settings.router, hidden, settings.experts, settings.biases) {
  const std::int64_t e = settings.experts, i = settings.intermediate;
  if (settings.shares_cores()) {
    cores_ = std::make_unique<SharedCoreExperts<D, T>>(path + ".experts", e, hidden, i, settings.core_form,
                                                       settings.core_rank);
  } else {
    gate_up_ = detail::make_parameter<D, T>(path + ".experts.gate_up_proj", Shape{e, 2 * i, hidden});
    down_ = detail::make_parameter<D, T>(path + ".experts.down_proj", Shape{e, hidden, i});
  }
  if (settings.biases) {
    gate_up_bias_ = detail::make_parameter<D, T>(path + ".experts.gate_up_proj_bias", Shape{e, 2 * i});
    down_bias_ = detail::make_parameter<D, T>(path + ".experts.down_proj_bias", Shape{e, hidden});
  }
  if (settings.shared == 0) return;
  shared_ =
      std::make_unique<GatedFeedForward<D, T>>(path + ".shared_expert", hidden, settings.shared, FeedForwardBias{});
  shared_gate_ = Linear<D, T>(path + ".shared_expert_gate", hidden, 1, false);
}

/// True where the choice of every token is known.
template <class D, class T>
bool ExpertFeedForward<D, T>::check_replay(const RoutingRecord& r, std::int64_t tokens) const {
  const std::size_t at = static_cast<std::size_t>(mixture_);
  const std::int64_t k = settings_.active;
  require<InputError>(r.tokens == tokens && r.active == k && at < r.ids.size() &&
                          static_cast<std::int64_t>(r.ids[at].size()) == tokens * k,
                      "[experts] ", router_.path, ": the routing to replay is for ", r.tokens, " tokens and ", r.active,
                      " experts each in ", r.ids.size(), " layers; the batch has ", tokens, " tokens, the model ", k,
                      " experts each");
  bool all_known = true;
  for (std::int64_t i = 0; i < tokens; ++i) {
    const std::int32_t* ids = r.ids[at].data() + i * k;
    const std::int64_t unknown = std::count(ids, ids + k, RoutingRecord::unknown);
    all_known = all_known && unknown == 0;
    if (unknown == k) continue;
    for (std::int64_t j = 0; j < k; ++j) {
      require<InputError>(ids[j] >= 0 && ids[j] < settings_.experts, "[experts] ", router_.path,
                          ": the routing to replay names expert ", ids[j], " for token ", i, "; expected 0 to ",
                          settings_.experts - 1);
      require<InputError>(std::find(ids, ids + j, ids[j]) == ids + j, "[experts] ", router_.path,
                          ": the routing to replay names expert ", ids[j], " twice for token ", i, "; expected ", k,
                          " different ones");
    }
  }
  return all_known;
}

/// The experts to go to, or an empty tensor where the router chooses all of them.
template <class D, class T>
Tensor<std::int32_t, D> ExpertFeedForward<D, T>::replayed(const LayerContext<D, T>& context, const RouterRule& rule,
                                                          const Tensor<T, D>& logits) const {
  if (context.replay == nullptr) return {};
  const std::int64_t tokens = logits[0], k = rule.active;
  const bool all_known = check_replay(*context.replay, tokens);
  const std::vector<std::int32_t>& ids = context.replay->ids[static_cast<std::size_t>(mixture_)];
  const auto copy = [&ids](const Tensor<std::int32_t, D>& to) {
    Memory<D>::from_host(to.data(), ids.data(), ids.size() * sizeof(std::int32_t));
  };
  Tensor<std::int32_t, D> out(Shape{tokens, k});
  if (all_known) {
    copy(out);
    return out;
  }
  const Tensor<T, D> weights(Shape{tokens, k});
  const Tensor<std::int32_t, D> given(out.shape());
  copy(given);
  Kernels<D, T>::route(rule, logits.data(), tokens, out.data(), weights.data());
  Kernels<D, T>::take_known(given.data(), given.count(), out.data());
  return out;
}

template <class D, class T>
Var<T, D> ExpertFeedForward<D, T>::forward(Tape<T, D>& tape, const Var<T, D>& x, const Var<T, D>* residual,
                                           const LayerContext<D, T>& context) const {
  const RouterRule rule{settings_.experts, settings_.active, settings_.over_chosen};
  context.observe(router_, x.value);
  const Var<T, D> logits = linear(tape, router_.operand(context.adapter), x);
  const Routing<T, D> routing =
      route(tape, rule, logits, replayed(context, rule, logits.value), context.sums, mixture_);
  if (context.chosen != nullptr) {
    const auto at = static_cast<std::size_t>(mixture_);
    if (context.chosen->size() <= at) context.chosen->resize(at + 1);
    (*context.chosen)[at] = routing.ids;
  }
  const ExpertOperand<T, D> operand{gate_up_.get(),       gate_up_bias_.get(),   down_.get(),       down_bias_.get(),
                                    settings_.activation, packed_gate_up_.get(), packed_down_.get()};
  const Var<T, D> start = residual != nullptr ? *residual : tape.variable(Tensor<T, D>::zeros(x.value.shape()), false);
  const Var<T, D> routed =
      cores_ != nullptr ? cores_->forward(tape, routing, x, start) : experts(tape, operand, routing, x, start);
  if (shared_ == nullptr) return routed;
  context.observe(shared_gate_, x.value);
  const Var<T, D> gate = linear(tape, shared_gate_.operand(context.adapter), x);
  return add_gated(tape, gate, shared_->forward(tape, x, nullptr, context), routed);
}

template <class D, class T>
std::vector<Linear<D, T>*> ExpertFeedForward<D, T>::linears() {
  if (shared_ == nullptr) return {};
  std::vector<Linear<D, T>*> list = shared_->linears();
  list.push_back(&shared_gate_);
  return list;
}

template <class D, class T>
void ExpertFeedForward<D, T>::append_parameters(std::vector<Parameter<T, D>*>& list) const {
  router_.append_parameters(list);
  for (Parameter<T, D>* p : {gate_up_.get(), gate_up_bias_.get(), down_.get(), down_bias_.get()})
    if (p != nullptr) list.push_back(p);
  if (cores_ != nullptr) cores_->append_parameters(list);
  if (shared_ == nullptr) return;
  shared_->append_parameters(list);
  shared_gate_.append_parameters(list);
}

template <class D, class T>
std::unique_ptr<FeedForward<D, T>> ExpertFeedForward<D, T>::share() const {
  auto copy = std::make_unique<ExpertFeedForward>();
  copy->settings_ = settings_;
  copy->mixture_ = mixture_;
  copy->router_ = router_.share();
  copy->gate_up_ = detail::share_parameter<D, T>(gate_up_);
  copy->packed_gate_up_ = packed_gate_up_;
  copy->packed_down_ = packed_down_;
  copy->gate_up_bias_ = detail::share_parameter<D, T>(gate_up_bias_);
  copy->down_ = detail::share_parameter<D, T>(down_);
  copy->down_bias_ = detail::share_parameter<D, T>(down_bias_);
  if (cores_ != nullptr) copy->cores_ = cores_->share();
  if (shared_ == nullptr) return copy;
  copy->shared_.reset(static_cast<GatedFeedForward<D, T>*>(shared_->share().release()));
  copy->shared_gate_ = shared_gate_.share();
  return copy;
}

KDLIB_NAMESPACE_END

#endif
