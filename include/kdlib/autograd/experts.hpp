// SPDX-License-Identifier: Apache-2.0
// Functions of a mixture of experts with hand-written backward passes. N tokens, H width, E experts, K active, I an
// expert's inner width, R = N K rows sorted by expert.
#ifndef KDLIB_AUTOGRAD_EXPERTS_HPP
#define KDLIB_AUTOGRAD_EXPERTS_HPP

#include "kdlib/autograd/functions.hpp"
#include "kdlib/tensor/pending_routing.hpp"

KDLIB_NAMESPACE_BEGIN

/// What regularisers of routers need, summed over the layers of one forward pass; its backward pass reads the totals,
/// which stay on the device. balance: E sum_e F_e P_e with F_e = choices of expert e / tokens, P_e = mean softmax
/// probability, both over all layers' tokens together (Switch Transformer as transformers writes it; K when even);
/// gradient through P alone. z: mean squared log-sum-exp (ST-MoE).
template <class D>
class RouterSums {
 public:
  double balance_weight = 0;  // of the objective's terms; both 0: nothing is summed
  double z_weight = 0;

  bool wanted() const { return balance_weight != 0 || z_weight != 0; }
  /// Starts a pass over `layers` mixtures.
  void begin(std::int64_t layers) {
    tokens_.assign(static_cast<std::size_t>(layers), 0);
    table_.reset(), totals_.reset();
  }
  /// Where layer `layer`, which sees `tokens` tokens, puts its sums [2 E + 1], or puts them again when it is
  /// recomputed.
  double* put(std::int64_t layer, std::int64_t tokens, std::int64_t experts) {
    const auto layers = static_cast<std::int64_t>(tokens_.size());
    if (!table_) table_ = Tensor<double, D>::zeros(Shape{layers, 2 * experts + 1});
    tokens_[static_cast<std::size_t>(layer)] = tokens;
    return table_.data() + layer * table_[1];
  }
  std::int64_t tokens() const;  // of all layers
  /// Over all layers [2 E + 1], on the device; asked for when the last layer has put its sums. Empty where none did.
  template <class T>
  const Tensor<double, D>& totals();
  template <class T>
  PendingRouterTotals<D> pending() {
    return {totals<T>(), {tokens(), {}}};
  }
  /// The factors of the choices of an expert and of each squared log-sum-exp in d(objective)/d(logits).
  double push() const;
  double square() const { return tokens() > 0 ? z_weight / static_cast<double>(tokens()) : 0; }

 private:
  std::vector<std::int64_t> tokens_;  // [layers]
  Tensor<double, D> table_;           // [layers, 2 E + 1]
  Tensor<double, D> totals_;
};

/// Where the choices of one layer stand.
template <class T, class D>
struct Routing {
  RouterRule rule;
  Var<T, D> weights;                // [N, K]
  Tensor<std::int32_t, D> ids;      // [N, K]
  Tensor<std::int64_t, D> offsets;  // [E + 1]
  Tensor<std::int64_t, D> token;    // [R] token of a sorted row
  Tensor<std::int64_t, D> place;    // [N, K] sorted row of a choice

  ExpertRanges ranges() const { return {offsets.data(), rule.experts, token[0]}; }
  /// The weight of each sorted row, [R].
  Tensor<T, D> sorted_weights() const {
    Tensor<T, D> sorted = Tensor<T, D>::zeros(Shape{token[0]});
    Kernels<D, T>::scatter_add_rows(weights.value.data(), place.data(), token[0], 1, sorted.data());
    return sorted;
  }
};

/// Chooses experts by logits [N, E]. `given` [N, K]: these experts instead (replay), or an empty tensor. With `sums`
/// the gradient of its terms is added to the logits', and its layer `layer` is filled.
template <class T, class D>
Routing<T, D> route(Tape<T, D>& tape, const RouterRule& rule, const Var<T, D>& logits,
                    const Tensor<std::int32_t, D>& given = {}, RouterSums<D>* sums = nullptr, std::int64_t layer = 0);

/// The weights of all experts of a layer. Instead of gate_up and down, which are null then, packed_gate_up [E * 2I, H]
/// and packed_down [E * H, I], which are frozen.
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

/// residual + sum over the chosen experts of weight * expert(x), x and residual [N, H]. Keeps x and gate_up's result
/// [R, 2I].
template <class T, class D>
Var<T, D> experts(Tape<T, D>& tape, const ExpertOperand<T, D>& operand, const Routing<T, D>& routing,
                  const Var<T, D>& x, const Var<T, D>& residual);

/// residual + sigmoid(gate) x, gate [N, 1], x and residual [N, H].
template <class T, class D>
Var<T, D> add_gated(Tape<T, D>& tape, const Var<T, D>& gate, const Var<T, D>& x, const Var<T, D>& residual);

KDLIB_NAMESPACE_END

#include "kdlib/autograd/experts_inl.hpp"

#endif
