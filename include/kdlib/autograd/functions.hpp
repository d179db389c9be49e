// SPDX-License-Identifier: Apache-2.0
// The functions that a decoder is made of, with hand-written backward passes. Each function runs Kernels<D, T>. On a
// recording tape it keeps as little as its backward pass needs, and nothing if no gradient is wanted. N is the number
// of tokens, H the width, R the rank of a LoRA adapter.
#ifndef KDLIB_AUTOGRAD_FUNCTIONS_HPP
#define KDLIB_AUTOGRAD_FUNCTIONS_HPP

#include <span>
#include <type_traits>

#include "kdlib/autograd/tape.hpp"
#include "kdlib/backend/concepts.hpp"
#include "kdlib/quant/packed_matrix.hpp"
#include "kdlib/tensor/parameter.hpp"

KDLIB_NAMESPACE_BEGIN

/// The operand of linear(): y = x W^T + b + s (x A^T) B^T. Exactly one of `weight` and `packed` is set. The gradient of
/// a packed weight goes to `packed_gradient` if that is set, and nowhere otherwise. With `lora_in_codes` the codes of
/// the packed weight already contain s B A, so the LoRA product is not added again; A and B get the gradient as if W +
/// s B A had not been rounded to codes.
template <class T, class D>
struct LinearOperand {
  Parameter<T, D>* weight = nullptr;           // [out, in]
  const PackedMatrix<T, D>* packed = nullptr;  // [out, in]
  WeightGradient<T, D>* packed_gradient = nullptr;
  Parameter<T, D>* bias = nullptr;    // [out] or nullptr
  Parameter<T, D>* lora_a = nullptr;  // [R, in] or nullptr
  Parameter<T, D>* lora_b = nullptr;  // [out, R]
  accumulate_t<T> lora_scale{};       // s = alpha / R as a rule
  bool lora_in_codes = false;

  std::int64_t out() const { return packed != nullptr ? packed->rows() : weight->value[0]; }
  std::int64_t in() const { return packed != nullptr ? packed->columns() : weight->value[1]; }
  bool has_lora() const { return lora_a != nullptr; }
  bool gradient_of_codes() const { return packed_gradient != nullptr && packed_gradient->wanted(); }
  bool trains() const {
    return gradient_of_codes() || (weight != nullptr && weight->trainable) || (bias != nullptr && bias->trainable) ||
           (has_lora() && (lora_a->trainable || lora_b->trainable));
  }
  /// Whether the backward pass reads x.
  bool needs_input() const {
    return gradient_of_codes() || (weight != nullptr && weight->trainable) ||
           (has_lora() && (lora_a->trainable || (lora_in_codes && lora_b->trainable)));
  }
};

/// Cosine and sine of the angles of rotary embeddings for each position, both [positions, head_size / 2].
template <class T, class D>
struct RopeTable {
  Tensor<accumulate_t<T>, D> cosine, sine;
};

/// The ids, positions and documents of the tokens of a batch, on the device. Every layer shares the layout, and the
/// tape keeps it.
template <class D>
struct TokenLayout {
  Tensor<std::int32_t, D> ids;        // [N]
  Tensor<std::int32_t, D> positions;  // [N]
  Tensor<std::int64_t, D> offsets;    // [B + 1]
  std::int64_t documents = 0;
  std::int64_t shortest = 0, longest = 0;  // lengths of documents, in tokens

  DocumentRanges ranges() const { return {offsets.data(), documents, ids[0], shortest, longest}; }
};

/// Returns the rows of `table` [V, H] that the ids of `layout` name: [N, H].
template <class T, class D>
Var<T, D> embedding(Tape<T, D>& tape, Parameter<T, D>& table, const TokenLayout<D>& layout);

/// Does the same with a packed table, which is frozen.
template <class T, class D>
Var<T, D> embedding(Tape<T, D>& tape, const PackedMatrix<T, D>& table, const TokenLayout<D>& layout);

/// Returns y = x W^T + b + s (x A^T) B^T (+ residual), [N, out], for x [N, in] and residual [N, out]. The tape keeps x
/// if LinearOperand::needs_input(), and x A^T if there is a LoRA adapter outside the codes. ShapeError: x or the
/// residual has another shape.
template <class T, class D>
Var<T, D> linear(Tape<T, D>& tape, const LinearOperand<T, D>& operand, const Var<T, D>& x,
                 const Var<T, D>* residual = nullptr);

/// Returns y = x / rms(x) * weight for each row of x [rows, width], with rms(x)^2 = mean(x^2) + epsilon. A row may be
/// the whole width H of a token or one head of it. The tape keeps x and 1/rms. With `ones`, a vector of at least
/// `width` ones, the factor is 1 + weight (Gemma). ShapeError: x has no whole number of rows.
template <class T, class D>
Var<T, D> rms_norm(Tape<T, D>& tape, Parameter<T, D>& weight, const Var<T, D>& x, double epsilon,
                   const Tensor<T, D>& ones = {});

/// Returns factor * x in the memory of x, which must not be used afterwards.
template <class T, class D>
Var<T, D> scaled(Tape<T, D>& tape, Var<T, D> x, std::type_identity_t<accumulate_t<T>> factor);

/// Rotates the heads of x [N, heads * head_size] by the angles of their positions, in the memory of x, which must not
/// be used afterwards.
template <class T, class D>
Var<T, D> rope(Tape<T, D>& tape, Var<T, D> x, const RopeTable<T, D>& table, const TokenLayout<D>& layout,
               std::int64_t head_size);

/// Returns causal attention inside each document, [N, nh d], for q [N, nh d] and k, v [N, nkv d], with nh query heads,
/// nkv key/value heads and head size d. The tape keeps q, k, v, the result and one number for each row and head. With
/// `sinks` [nh], exp(sink) is added to the softmax denominator of a head but has no value to attend to (gpt-oss).
template <class T, class D>
Var<T, D> attention(Tape<T, D>& tape, const AttentionHeads& heads, const TokenLayout<D>& layout, const Var<T, D>& q,
                    const Var<T, D>& k, const Var<T, D>& v, Parameter<T, D>* sinks = nullptr);

/// Returns y = residual + down(act(gate) * up), [N, H], for gate, up [N, I] and residual [N, H] or nullptr. The
/// backward pass forms the product act(gate) * up again instead of keeping it.
template <class T, class D>
Var<T, D> gated_down(Tape<T, D>& tape, const LinearOperand<T, D>& down, const Var<T, D>& gate, const Var<T, D>& up,
                     const std::type_identity_t<Var<T, D>>* residual, GateActivation activation = GateActivation::silu);

/// Returns silu(gate) * up, [N, I].
template <class T, class D>
Var<T, D> swiglu(Tape<T, D>& tape, const Var<T, D>& gate, const Var<T, D>& up);

/// Returns a + b. ShapeError: the shapes differ.
template <class T, class D>
Var<T, D> add(Tape<T, D>& tape, const Var<T, D>& a, const Var<T, D>& b);

KDLIB_NAMESPACE_END

#include "kdlib/autograd/functions_inl.hpp"

#endif
