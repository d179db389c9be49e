// SPDX-License-Identifier: Apache-2.0
// The feed-forward part of a layer behind a small interface, with one virtual call for each layer and step. This header
// has the dense part; nn/experts.hpp has mixtures.
#ifndef KDLIB_NN_FEED_FORWARD_HPP
#define KDLIB_NN_FEED_FORWARD_HPP

#include "kdlib/nn/layer_context.hpp"
#include "kdlib/nn/linear.hpp"

KDLIB_NAMESPACE_BEGIN

/// The interface of the feed-forward part of one layer: dense (GatedFeedForward) or a mixture of experts.
template <class D, class T>
class FeedForward {
 public:
  virtual ~FeedForward() = default;
  /// Returns residual + f(x) for x [N, H] and residual [N, H] or nullptr.
  virtual Var<T, D> forward(Tape<T, D>& tape, const Var<T, D>& x, const Var<T, D>* residual,
                            const LayerContext<D, T>& context) const = 0;
  /// Returns every linear map that LoRA and packing may use, in the order of the file, without routers and experts.
  virtual std::vector<Linear<D, T>*> linears() = 0;
  /// Returns the router, if there is one. LoRA may use the router; packing leaves it dense.
  virtual std::vector<Linear<D, T>*> routers() { return {}; }
  /// Adds every parameter to `out`, LoRA factors included.
  virtual void append_parameters(std::vector<Parameter<T, D>*>& out) const = 0;
  /// Returns a new, frozen object over the same weights, without LoRA.
  virtual std::unique_ptr<FeedForward> share() const = 0;
};

/// Which maps of a dense feed-forward part have a bias vector.
struct FeedForwardBias {
  bool gate = false, up = false, down = false;
};

/// The dense feed-forward part: down(act(gate(x)) * up(x)).
template <class D, class T>
class GatedFeedForward final : public FeedForward<D, T> {
 public:
  GatedFeedForward() = default;
  /// `path` is as in model.layers.0.mlp.
  GatedFeedForward(const std::string& path, std::int64_t hidden, std::int64_t intermediate, const FeedForwardBias& bias,
                   GateActivation activation = GateActivation::silu)
      : gate_(path + ".gate_proj", hidden, intermediate, bias.gate),
        up_(path + ".up_proj", hidden, intermediate, bias.up),
        down_(path + ".down_proj", intermediate, hidden, bias.down),
        activation_(activation) {}

  Var<T, D> forward(Tape<T, D>& tape, const Var<T, D>& x, const Var<T, D>* residual,
                    const LayerContext<D, T>& context) const override {
    const bool adapter = context.adapter;
    context.observe(gate_, x.value);
    context.observe(up_, x.value);
    const Var<T, D> gate = linear(tape, gate_.operand(adapter), x);
    const Var<T, D> up = linear(tape, up_.operand(adapter), x);
    if (context.observer != nullptr) {
      Tensor<T, D> product(gate.value.shape());
      detail::gate_product(activation_, gate, up, product.data());
      context.observe(down_, product);
    }
    return gated_down(tape, down_.operand(adapter), gate, up, residual, activation_);
  }
  std::vector<Linear<D, T>*> linears() override { return {&gate_, &up_, &down_}; }
  void append_parameters(std::vector<Parameter<T, D>*>& list) const override {
    for (const Linear<D, T>* l : {&gate_, &up_, &down_}) l->append_parameters(list);
  }
  std::unique_ptr<FeedForward<D, T>> share() const override {
    auto copy = std::make_unique<GatedFeedForward>();
    copy->gate_ = gate_.share();
    copy->up_ = up_.share();
    copy->down_ = down_.share();
    copy->activation_ = activation_;
    return copy;
  }

 private:
  Linear<D, T> gate_, up_, down_;
  GateActivation activation_ = GateActivation::silu;
};

KDLIB_NAMESPACE_END

#endif
