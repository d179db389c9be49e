// SPDX-License-Identifier: Apache-2.0
// A linear map of a model: dense or packed weight, optional bias, optional LoRA factors.
#ifndef KDLIB_NN_LINEAR_HPP
#define KDLIB_NN_LINEAR_HPP

#include <memory>
#include <string>
#include <vector>

#include "kdlib/autograd/functions.hpp"
#include "kdlib/nn/quantized_weight.hpp"

KDLIB_NAMESPACE_BEGIN

/// y = x W^T + b (+ s (x A^T) B^T). Parameters have stable addresses.
template <class D, class T>
struct Linear {
  std::string path;  // module path, e.g. model.layers.0.self_attn.q_proj
  std::int64_t in = 0, out = 0;
  std::unique_ptr<Parameter<T, D>> weight;  // [out, in]; null where packed, unless `quantized` makes the codes from it
  std::shared_ptr<const PackedMatrix<T, D>> packed;  // [out, in] or null
  std::unique_ptr<QuantizedWeight<D, T>> quantized;  // what is trained through the codes of `packed`, or null
  std::unique_ptr<Parameter<T, D>> bias;             // [out] or null
  std::unique_ptr<LoraPair<D, T>> lora;              // or null
  Tensor<T, D> before_merge;                         // W without s B A while merged, else empty

  Linear() = default;
  Linear(std::string path, std::int64_t in, std::int64_t out, bool has_bias);

  /// The codes are those of the sum with the adapter.
  bool adapter_in_codes() const { return quantized != nullptr && quantized->trains() == TrainedPart::adapter; }
  bool merged() const { return static_cast<bool>(before_merge); }
  /// What autograd multiplies by; the LoRA part only where `adapter` is on and not merged. Where the codes are those of
  /// the sum with an adapter and it is off: the dense weight.
  LinearOperand<T, D> operand(bool adapter) const;
  /// Adds the parameters in file order: weight, bias, A, B, then scale and zero where they are trained.
  void append_parameters(std::vector<Parameter<T, D>*>& out) const;
  /// The same tensors under new parameters (memory shared); without LoRA.
  Linear share() const;
};

/// Parameters that only make the codes of these maps: files hold the codes' values instead.
template <class D, class T>
std::vector<Parameter<T, D>*> parameters_behind_codes(const std::vector<Linear<D, T>*>& linears);

KDLIB_NAMESPACE_END

#include "kdlib/nn/linear_inl.hpp"

#endif
