// SPDX-License-Identifier: Apache-2.0
// A mixture of experts as the feed-forward part of a layer: a router, experts (as one tensor, packed, or sharing
// cores), and where the model has one a shared expert behind a sigmoid gate.
#ifndef KDLIB_NN_EXPERTS_HPP
#define KDLIB_NN_EXPERTS_HPP

#include "kdlib/nn/feed_forward.hpp"
#include "kdlib/nn/shared_core_experts.hpp"

KDLIB_NAMESPACE_BEGIN

/// The sizes and choices of a mixture. The names in the comments are those of config.json.
struct ExpertSettings {
  std::int64_t experts = 0;       // E, number of experts
  std::int64_t active = 0;        // K, experts a token goes through: num_experts_per_tok
  std::int64_t intermediate = 0;  // I, inner width: moe_intermediate_size, or gpt-oss's intermediate_size
  std::int64_t shared = 0;        // inner width of the shared expert; 0: there is none
  bool over_chosen = true;        // the weights of the chosen experts sum to 1
  bool biases = false;            // the router and the experts have biases
  ExpertActivation activation{};
  std::string router = "gate";  // name of the router in the file: gate, or gpt-oss's router
  CoreForm core_form{};         // form of experts that share cores
  std::int64_t core_rank = 0;   // rank of their factors: r of wrappers, q of a residual; 0: plain experts

  /// True if each of the three maps of the experts is a shared core with low-rank factors for each expert.
  bool shares_cores() const { return core_rank > 0; }
  /// Number of values in the low-rank factors of one expert, all three maps together. `hidden` is the model's width H.
  std::int64_t factor_values(std::int64_t hidden) const {
    return 3 * (core_form == CoreForm::wrappers ? 2 : 1) * core_rank * (hidden + intermediate);
  }
};

/// Computes residual + the sum of weight * expert(x) over the K experts that the router chooses (+
/// sigmoid(shared_gate(x)) * shared(x)). One tensor holds all experts, as in transformers' modules: gate_up [E, 2I, H]
/// and down [E, H, I]. Or the experts share cores (ExpertSettings::core_rank).
template <class D, class T>
class ExpertFeedForward final : public FeedForward<D, T> {
 public:
  ExpertFeedForward() = default;
  /// `path` is as in model.layers.0.mlp. `mixture` is the number of this layer among the layers with routers.
  ExpertFeedForward(const std::string& path, std::int64_t hidden, const ExpertSettings& settings, std::int64_t mixture);

  Var<T, D> forward(Tape<T, D>& tape, const Var<T, D>& x, const Var<T, D>* residual,
                    const LayerContext<D, T>& context) const override;
  /// The maps of the shared expert and its gate. Empty if there is no shared expert.
  std::vector<Linear<D, T>*> linears() override;
  std::vector<Linear<D, T>*> routers() override { return {&router_}; }
  void append_parameters(std::vector<Parameter<T, D>*>& out) const override;
  std::unique_ptr<FeedForward<D, T>> share() const override;

  const ExpertSettings& settings() const { return settings_; }
  Linear<D, T>& router() { return router_; }
  const Linear<D, T>& router() const { return router_; }

  /// Uses a packed tensor of all experts instead of the parameter: gate_up [E * 2I, H] or down [E * H, I].
  void pack_gate_up(std::shared_ptr<const PackedMatrix<T, D>> packed) {
    packed_gate_up_ = std::move(packed), gate_up_.reset();
  }
  void pack_down(std::shared_ptr<const PackedMatrix<T, D>> packed) { packed_down_ = std::move(packed), down_.reset(); }
  /// Returns the parameter or the packed tensor; the other one of the two is null. Both are null if the experts share
  /// cores.
  Parameter<T, D>* gate_up() const { return gate_up_.get(); }
  Parameter<T, D>* down() const { return down_.get(); }
  const PackedMatrix<T, D>* packed_gate_up() const { return packed_gate_up_.get(); }
  const PackedMatrix<T, D>* packed_down() const { return packed_down_.get(); }
  /// Returns the maps of experts that share cores, or null for plain experts.
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
