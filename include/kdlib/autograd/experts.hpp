// SPDX-License-Identifier: Apache-2.0
// Functions of a mixture of experts with hand-written backward passes. N is the number of tokens, H the width, E the
// number of experts, K the experts that are active for a token, I the inner width of an expert, and R = N K the number
// of rows (token, chosen expert), sorted by expert.
#ifndef KDLIB_AUTOGRAD_EXPERTS_HPP
#define KDLIB_AUTOGRAD_EXPERTS_HPP

#include "kdlib/autograd/functions.hpp"
#include "kdlib/tensor/pending_routing.hpp"

KDLIB_NAMESPACE_BEGIN

/// Sums that the regularisers of routers need, over all layers of one forward pass. The backward pass reads the totals,
/// which stay on the device. The balance term is E sum_e F_e P_e, where F_e is (choices of expert e) / tokens and P_e
/// is the mean softmax probability of expert e, both over the tokens of all layers together (Switch Transformer as the
/// library transformers writes it). The balance term is K when the load is even, and its gradient passes through P
/// alone. The z term is the mean squared log-sum-exp of the router's logits (ST-MoE).
template <class D>
class RouterSums {
 public:
  double balance_weight = 0;  // weights of both terms in the objective; if both are 0, nothing is summed
  double z_weight = 0;

  bool wanted() const { return balance_weight != 0 || z_weight != 0; }
  /// Starts a forward pass over `layers` mixtures of experts.
  void begin(std::int64_t layers) {
    tokens_.assign(static_cast<std::size_t>(layers), 0);
    table_.reset(), totals_.reset();
  }
  /// Returns where layer `layer`, which sees `tokens` tokens, writes its sums [2 E + 1]. A layer that is recomputed
  /// writes the same sums again.
  double* put(std::int64_t layer, std::int64_t tokens, std::int64_t experts) {
    const auto layers = static_cast<std::int64_t>(tokens_.size());
    if (!table_) table_ = Tensor<double, D>::zeros(Shape{layers, 2 * experts + 1});
    tokens_[static_cast<std::size_t>(layer)] = tokens;
    return table_.data() + layer * table_[1];
  }
  std::int64_t tokens() const;  // sum over all layers
  /// Returns the totals over all layers [2 E + 1], on the device. Call totals() only when the last layer has written
  /// its sums. The tensor is empty if no layer wrote any.
  template <class T>
  const Tensor<double, D>& totals();
  template <class T>
  PendingRouterTotals<D> pending() {
    return {totals<T>(), {tokens(), {}}};
  }
  /// push() is the factor of the number of choices of an expert, and square() the factor of each squared log-sum-exp,
  /// in d(objective)/d(logits).
  double push() const;
  double square() const { return tokens() > 0 ? z_weight / static_cast<double>(tokens()) : 0; }

 private:
  std::vector<std::int64_t> tokens_;  // [layers]
  Tensor<double, D> table_;           // [layers, 2 E + 1]
  Tensor<double, D> totals_;
};

/// The experts that one layer chose for its tokens.
template <class T, class D>
struct Routing {
  RouterRule rule;
  Var<T, D> weights;                // [N, K]
  Tensor<std::int32_t, D> ids;      // [N, K]
  Tensor<std::int64_t, D> offsets;  // [E + 1]
  Tensor<std::int64_t, D> token;    // [R] the token of each sorted row
  Tensor<std::int64_t, D> place;    // [N, K] the sorted row of each choice

  ExpertRanges ranges() const { return {offsets.data(), rule.experts, token[0]}; }
  /// Returns the routing weight of each sorted row, [R].
  Tensor<T, D> sorted_weights() const {
    Tensor<T, D> sorted = Tensor<T, D>::zeros(Shape{token[0]});
    Kernels<D, T>::scatter_add_rows(weights.value.data(), place.data(), token[0], 1, sorted.data());
    return sorted;
  }
};

/// Chooses experts by the router's logits [N, E]. If `given` [N, K] is not empty, those experts are taken instead
/// (replay) and only their weights are computed. With `sums`, the sums of layer `layer` are written, and the backward
/// pass adds the gradient of the regularisers to the gradient of the logits. ShapeError: logits, `rule` and `given` do
/// not fit together.
template <class T, class D>
Routing<T, D> route(Tape<T, D>& tape, const RouterRule& rule, const Var<T, D>& logits,
                    const Tensor<std::int32_t, D>& given = {}, RouterSums<D>* sums = nullptr, std::int64_t layer = 0);

/// The weights of all experts of a layer. If the weights are packed, packed_gate_up [E * 2I, H] and packed_down [E * H,
/// I] are set instead of gate_up and down, which are then null. Packed weights are frozen.
template <class T, class D>
struct ExpertOperand {
  Parameter<T, D>* gate_up = nullptr;       // [E, 2I, H]
  Parameter<T, D>* gate_up_bias = nullptr;  // [E, 2I] or nullptr
  Parameter<T, D>* down = nullptr;          // [E, H, I]
  Parameter<T, D>* down_bias = nullptr;     // [E, H] or nullptr
  ExpertActivation activation;
  const PackedMatrix<T, D>* packed_gate_up = nullptr;
  const PackedMatrix<T, D>* packed_down = nullptr;

  std::int64_t inner() const { return packed_down != nullptr ? packed_down->columns() : down->value[2]; }
  Shape gate_up_shape(std::int64_t experts) const {
    return packed_gate_up != nullptr ? Shape{experts, packed_gate_up->rows() / experts, packed_gate_up->columns()}
                                     : gate_up->value.shape();
  }
  std::int64_t out(std::int64_t experts) const {
    return packed_down != nullptr ? packed_down->rows() / experts : down->value[1];
  }
  bool trains() const {
    for (const Parameter<T, D>* p : {gate_up, gate_up_bias, down, down_bias})
      if (p != nullptr && p->trainable) return true;
    return false;
  }
};

/// Returns residual + sum over the chosen experts of weight * expert(x), for x and residual [N, H]. The tape keeps x
/// and the result of gate_up [R, 2I]. ShapeError names the sizes that do not fit.
template <class T, class D>
Var<T, D> experts(Tape<T, D>& tape, const ExpertOperand<T, D>& operand, const Routing<T, D>& routing,
                  const Var<T, D>& x, const Var<T, D>& residual);

/// Returns residual + sigmoid(gate) x, for gate [N, 1], x and residual [N, H]. ShapeError names the sizes that do not
/// fit.
template <class T, class D>
Var<T, D> add_gated(Tape<T, D>& tape, const Var<T, D>& gate, const Var<T, D>& x, const Var<T, D>& residual);

KDLIB_NAMESPACE_END

#include "kdlib/autograd/experts_inl.hpp"

#endif
