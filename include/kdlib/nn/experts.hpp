// SPDX-License-Identifier: Apache-2.0
// A mixture of experts as a feed-forward part: router, packed experts or experts that share cores, and a shared expert
// behind a sigmoid gate where the model has one.
#ifndef KDLIB_NN_EXPERTS_HPP
#define KDLIB_NN_EXPERTS_HPP

#include "kdlib/nn/feed_forward.hpp"
#include "kdlib/nn/shared_core_experts.hpp"

KDLIB_NAMESPACE_BEGIN

/// What a mixture is made of. Names follow config.json.
struct ExpertSettings {
  std::int64_t experts = 0;       // E
  std::int64_t active = 0;        // K: num_experts_per_tok
  std::int64_t intermediate = 0;  // I: moe_intermediate_size, or gpt-oss's intermediate_size
  std::int64_t shared = 0;        // inner width of the shared expert, 0: none
  bool over_chosen = true;        // the weights of the chosen experts sum to 1
  bool biases = false;            // router and experts have biases
  ExpertActivation activation{};
  std::string router = "gate";  // the router's name in the file: gate, or gpt-oss's router
  CoreForm core_form{};         // of experts that share cores
  std::int64_t core_rank = 0;   // their factors' inner width: r of wrappers, q of a residual; 0: plain experts

  /// Each of the three maps of the experts is a core for all and low-rank factors for each.
  bool shares_cores() const { return core_rank > 0; }
  /// Numbers in the low-rank factors of one expert, all three maps, for models of width `hidden`.
  std::int64_t factor_values(std::int64_t hidden) const {
    return 3 * (core_form == CoreForm::wrappers ? 2 : 1) * core_rank * (hidden + intermediate);
  }
};

/// residual + sum of weight * expert(x) over the K experts a router chooses (+ sigmoid(shared_gate(x)) * shared(x)).
/// Experts are one tensor for all, as transformers' modules hold them: gate_up [E, 2I, H], down [E, H, I]; or they
/// share cores (ExpertSettings::core_rank).
template <class D, class T>
class ExpertFeedForward final : public FeedForward<D, T> {
 public:
  ExpertFeedForward() = default;
  /// `path` as in model.layers.0.mlp; `mixture`: number of this layer among those with routers.
  ExpertFeedForward(const std::string& path, std::int64_t hidden, const ExpertSettings& settings, std::int64_t mixture);

  Var<T, D> forward(Tape<T, D>& tape, const Var<T, D>& x, const Var<T, D>* residual,
                    const LayerContext<D, T>& context) const override;
  /// The shared expert's maps and its gate.
  std::vector<Linear<D, T>*> linears() override;
  std::vector<Linear<D, T>*> routers() override { return {&router_}; }
  void append_parameters(std::vector<Parameter<T, D>*>& out) const override;
  std::unique_ptr<FeedForward<D, T>> share() const override;

  const ExpertSettings& settings() const { return settings_; }
  Linear<D, T>& router() { return router_; }
  const Linear<D, T>& router() const { return router_; }

  /// A tensor of all experts in a packed format, instead of the parameter: gate_up [E * 2I, H] or down [E * H, I].
  void pack_gate_up(std::shared_ptr<const PackedMatrix<T, D>> packed) {
    packed_gate_up_ = std::move(packed), gate_up_.reset();
  }
  void pack_down(std::shared_ptr<const PackedMatrix<T, D>> packed) { packed_down_ = std::move(packed), down_.reset(); }
  /// The parameter or the packed tensor; the other one is null. Both are where the experts share cores.
  Parameter<T, D>* gate_up() const { return gate_up_.get(); }
  Parameter<T, D>* down() const { return down_.get(); }
  const PackedMatrix<T, D>* packed_gate_up() const { return packed_gate_up_.get(); }
  const PackedMatrix<T, D>* packed_down() const { return packed_down_.get(); }
  /// The maps of experts that share cores, else null.
  const SharedCoreExperts<D, T>* cores() const { return cores_.get(); }
  SharedCoreExperts<D, T>* cores() { return cores_.get(); }

 private:
  Tensor<std::int32_t, D> replayed(const LayerContext<D, T>& context, const RouterRule& rule,
                                   const Tensor<T, D>& logits) const;
  bool check_replay(const RoutingRecord& replay, std::int64_t tokens) const;

  ExpertSettings settings_;
  std::int64_t mixture_ = 0;
  Linear<D, T> router_;
  std::unique_ptr<Parameter<T, D>> gate_up_, gate_up_bias_, down_, down_bias_;
  std::shared_ptr<const PackedMatrix<T, D>> packed_gate_up_, packed_down_;
  std::unique_ptr<SharedCoreExperts<D, T>> cores_;
  std::unique_ptr<GatedFeedForward<D, T>> shared_;
  Linear<D, T> shared_gate_;
};

KDLIB_NAMESPACE_END

#include "kdlib/nn/experts_inl.hpp"

#endif
