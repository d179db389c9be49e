// SPDX-License-Identifier: Apache-2.0
// The functions a decoder is made of, with hand-written backward passes. Each runs Kernels<D, T> and, on a recording
// tape, keeps as little as its backward pass needs; what is frozen keeps nothing. N tokens, H width, R rank.
#ifndef KDLIB_AUTOGRAD_FUNCTIONS_HPP
#define KDLIB_AUTOGRAD_FUNCTIONS_HPP

#include <span>
#include <type_traits>

#include "kdlib/autograd/tape.hpp"
#include "kdlib/backend/concepts.hpp"
#include "kdlib/quant/packed_matrix.hpp"
#include "kdlib/tensor/parameter.hpp"

KDLIB_NAMESPACE_BEGIN

/// What x is multiplied by: y = x W^T + b + s (x A^T) B^T. Exactly one of weight and packed is set; a packed weight
/// passes no gradient on but to `packed_gradient`. With `lora_in_codes` the packed weight holds s B A already: A and B
/// get the gradient of a sum that was never rounded.
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
  /// The backward pass reads x.
  bool needs_input() const {
    return gradient_of_codes() || (weight != nullptr && weight->trainable) ||
           (has_lora() && (lora_a->trainable || (lora_in_codes && lora_b->trainable)));
  }
};

/// Angles of rotary embeddings by position: cosine, sine [positions, head_size / 2].
template <class T, class D>
struct RopeTable {
  Tensor<accumulate_t<T>, D> cosine, sine;
};

/// Where the tokens of a batch stand, on the device. Shared by every layer and kept by the tape.
template <class D>
struct TokenLayout {
  Tensor<std::int32_t, D> ids;        // [N]
  Tensor<std::int32_t, D> positions;  // [N]
  Tensor<std::int64_t, D> offsets;    // [B + 1]
  std::int64_t documents = 0;
  std::int64_t shortest = 0, longest = 0;  // of the documents

  DocumentRanges ranges() const { return {offsets.data(), documents, ids[0], shortest, longest}; }
};

/// rows of `table` [V, H] by id: [N, H].
template <class T, class D>
Var<T, D> embedding(Tape<T, D>& tape, Parameter<T, D>& table, const TokenLayout<D>& layout);

/// The same with a packed table, which is frozen.
template <class T, class D>
Var<T, D> embedding(Tape<T, D>& tape, const PackedMatrix<T, D>& table, const TokenLayout<D>& layout);

/// y = x W^T + b + s (x A^T) B^T (+ residual): x [N, in] to [N, out]. Keeps x where W or A is trained.
template <class T, class D>
Var<T, D> linear(Tape<T, D>& tape, const LinearOperand<T, D>& operand, const Var<T, D>& x,
                 const Var<T, D>* residual = nullptr);

/// y = x / rms(x) * weight over the last axis of x [rows, width] (any split of N x H into rows). Keeps x and 1/rms.
/// With `ones`, a vector of at least `width` ones, the factor is 1 + weight (Gemma).
template <class T, class D>
Var<T, D> rms_norm(Tape<T, D>& tape, Parameter<T, D>& weight, const Var<T, D>& x, double epsilon,
                   const Tensor<T, D>& ones = {});

/// factor * x in x's own memory: x must not be used afterwards.
template <class T, class D>
Var<T, D> scaled(Tape<T, D>& tape, Var<T, D> x, std::type_identity_t<accumulate_t<T>> factor);

/// Rotates x [N, heads * head_size] in its own memory: x must not be used afterwards.
template <class T, class D>
Var<T, D> rope(Tape<T, D>& tape, Var<T, D> x, const RopeTable<T, D>& table, const TokenLayout<D>& layout,
               std::int64_t head_size);

/// Causal attention inside each document: q [N, nh d], k, v [N, nkv d] to [N, nh d]. Keeps q, k, v, the result and one
/// number a row and head. `sinks` [nh] or nullptr: exp(sink) joins a head's denominators and takes no value (gpt-oss).
template <class T, class D>
Var<T, D> attention(Tape<T, D>& tape, const AttentionHeads& heads, const TokenLayout<D>& layout, const Var<T, D>& q,
                    const Var<T, D>& k, const Var<T, D>& v, Parameter<T, D>* sinks = nullptr);

/// y = residual + down(act(gate) * up): the product is formed again in the backward pass. gate, up [N, I] to [N, H];
/// residual [N, H] or nullptr.
template <class T, class D>
Var<T, D> gated_down(Tape<T, D>& tape, const LinearOperand<T, D>& down, const Var<T, D>& gate, const Var<T, D>& up,
                     const std::type_identity_t<Var<T, D>>* residual, GateActivation activation = GateActivation::silu);

/// silu(gate) * up, [N, I].
template <class T, class D>
Var<T, D> swiglu(Tape<T, D>& tape, const Var<T, D>& gate, const Var<T, D>& up);

/// a + b.
template <class T, class D>
Var<T, D> add(Tape<T, D>& tape, const Var<T, D>& a, const Var<T, D>& b);

KDLIB_NAMESPACE_END

#include "kdlib/autograd/functions_inl.hpp"

#endif
