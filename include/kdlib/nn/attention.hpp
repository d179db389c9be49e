// SPDX-License-Identifier: Apache-2.0
// Grouped-query self-attention of one layer, for batches of documents and for decoding with a cache.
#ifndef KDLIB_NN_ATTENTION_HPP
#define KDLIB_NN_ATTENTION_HPP

#include "kdlib/nn/layer_context.hpp"
#include "kdlib/nn/linear.hpp"

KDLIB_NAMESPACE_BEGIN

/// The attention of one layer: the maps q, k, v and o, and where a family has them the norms of the heads and the
/// sinks.
template <class D, class T>
class SelfAttention {
 public:
  Linear<D, T> q, k, v, o;
  std::unique_ptr<Parameter<T, D>> q_norm, k_norm;  // [head_size] or null (Qwen3 and Gemma 3 only)
  std::unique_ptr<Parameter<T, D>> sinks;           // [query_heads] or null (gpt-oss only)
  AttentionHeads heads;
  bool sliding_rope = false;  // true: rotate by LayerContext::sliding_rope

  /// Returns residual + o(attention(q(x), k(x), v(x))) for x [N, H] and residual [N, H] or nullptr.
  Var<T, D> forward(Tape<T, D>& tape, const Var<T, D>& x, const Var<T, D>* residual,
                    const LayerContext<D, T>& context) const {
    const Var<T, D> mixed = mix(tape, x, context);
    context.observe(o, mixed.value);
    return linear(tape, o.operand(context.adapter), mixed, residual);
  }

 private:
  Var<T, D> rotated(Tape<T, D>& tape, const Linear<D, T>& map, Parameter<T, D>* norm, const Var<T, D>& x,
                    const LayerContext<D, T>& context) const {
    context.observe(map, x.value);
    Var<T, D> y = linear(tape, map.operand(context.adapter), x);
    if (norm != nullptr) y = rms_norm(tape, *norm, y, context.norm_epsilon, context.norm_ones);
    return rope(tape, std::move(y), sliding_rope ? context.sliding_rope : context.rope, context.layout,
                heads.head_size);
  }

  Var<T, D> mix(Tape<T, D>& tape, const Var<T, D>& x, const LayerContext<D, T>& context) const {
    const Var<T, D> queries = rotated(tape, q, q_norm.get(), x, context),
                    keys = rotated(tape, k, k_norm.get(), x, context);
    context.observe(v, x.value);
    const Var<T, D> values = linear(tape, v.operand(context.adapter), x);
    if (context.cache == nullptr) return attention(tape, heads, context.layout, queries, keys, values, sinks.get());
    Tensor<T, D> out(queries.value.shape());
    Tensor<accumulate_t<T>, D> sums;
    if (sinks != nullptr) sums = Tensor<accumulate_t<T>, D>(Shape{queries.value[0], heads.query_heads});
    Kernels<D, T>::attention_decode(heads, context.layout.ranges(), *context.cache, queries.value.data(),
                                    keys.value.data(), values.value.data(), out.data(), sums.data());
    if (sinks != nullptr)
      Kernels<D, T>::attention_sinks(queries.value[0], heads.query_heads, heads.head_size, sinks->value.data(),
                                     out.data(), sums.data());
    return tape.variable(std::move(out), false);
  }
};

KDLIB_NAMESPACE_END

#endif
