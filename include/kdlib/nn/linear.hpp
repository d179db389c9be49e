// SPDX-License-Identifier: Apache-2.0
// A linear map of a model: dense or packed weight, optional bias, optional LoRA factors.
#ifndef KDLIB_NN_LINEAR_HPP
#define KDLIB_NN_LINEAR_HPP

#include <memory>
#include <string>
#include <vector>

#include "kdlib/autograd/functions.hpp"

KDLIB_NAMESPACE_BEGIN

/// A low-rank addition s B A to a weight (Hu et al., 2021). A [rank, in], B [out, rank], scale s = alpha / rank, or alpha / sqrt(rank)
/// (rsLoRA, Kalajdzievski 2023).
template <class D, class T>
struct LoraPair {
  Parameter<T, D> a, b;
  std::int64_t rank = 0;
  double alpha = 0;
  double scale = 0;
};

/// y = x W^T + b (+ s (x A^T) B^T). Parameters have stable addresses.
template <class D, class T>
struct Linear {
  std::string path;  // module path, e.g. model.layers.0.self_attn.q_proj
  std::int64_t in = 0, out = 0;
  std::unique_ptr<Parameter<T, D>> weight;             // [out, in]; null where packed
  std::shared_ptr<const PackedMatrix<T, D>> packed;    // [out, in] or null
  std::unique_ptr<Parameter<T, D>> bias;               // [out] or null
  std::unique_ptr<LoraPair<D, T>> lora;                // or null
  Tensor<T, D> before_merge;                           // W without s B A while merged, else empty

  Linear() = default;
  Linear(std::string path, std::int64_t in, std::int64_t out, bool has_bias);

  bool merged() const { return static_cast<bool>(before_merge); }
  /// What autograd multiplies by; the LoRA part only where `adapter` is on and not merged.
  LinearOperand<T, D> operand(bool adapter) const;
  /// Adds the parameters in file order: weight, bias, A, B.
  void append_parameters(std::vector<Parameter<T, D>*>& out) const;
  /// The same tensors under new parameters (memory shared); without LoRA.
  Linear share() const;
};

KDLIB_NAMESPACE_END

#include "kdlib/nn/linear_inl.hpp"

#endif
