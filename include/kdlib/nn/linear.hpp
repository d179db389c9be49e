// SPDX-License-Identifier: Apache-2.0
// A linear map of a model: a weight in one of three states, optional bias, optional LoRA factors.
#ifndef KDLIB_NN_LINEAR_HPP
#define KDLIB_NN_LINEAR_HPP

#include <memory>
#include <string>
#include <vector>

#include "kdlib/autograd/functions.hpp"
#include "kdlib/nn/quantized_weight.hpp"

KDLIB_NAMESPACE_BEGIN

/// What the weight of a linear map is; a map is in exactly one of these states.
enum class LinearState : std::uint8_t {
  dense,   // a parameter [out, in]; while an adapter is merged into it, the values of before are kept
  packed,  // no parameter: codes, or bytes that stay in their file
  student  // codes that follow what is trained behind them: the dense weight, the adapter, or scales and zeros
};

/// y = x W^T + b (+ s (x A^T) B^T). Parameters have stable addresses.
template <class D, class T>
class Linear {
 public:
  std::string path;  // module path, e.g. model.layers.0.self_attn.q_proj
  std::int64_t in = 0, out = 0;
  std::unique_ptr<Parameter<T, D>> bias;  // [out] or null
  std::unique_ptr<LoraPair<D, T>> lora;   // or null

  Linear() = default;
  /// Dense; the parameters have shapes and no memory yet.
  Linear(std::string path, std::int64_t in, std::int64_t out, bool has_bias);

  LinearState state() const { return state_; }
  /// The dense parameter, or the one behind the codes of a student; nullptr where there is none.
  Parameter<T, D>* weight() const { return weight_.get(); }
  /// What products use instead of a dense parameter: packed matrix or the codes of a student; nullptr where dense.
  std::shared_ptr<const PackedMatrix<T, D>> packed() const;
  /// What follows the trained part of a student; nullptr in the other states.
  QuantizedWeight<D, T>* student() const { return student_.get(); }

  /// Any state -> packed. What was trained before is gone, the adapter stays.
  void pack(std::shared_ptr<const PackedMatrix<T, D>> matrix);
  /// Any state -> dense, with these values [out, in].
  void set_dense(Tensor<T, D> values);
  /// Dense -> student; the dense weight stays behind the codes unless they train scales.
  void begin_student(std::unique_ptr<QuantizedWeight<D, T>> codes);
  /// Dense: takes `sum` = W + s B A [out, in] and keeps W for unmerge(), which gives it back.
  void merge(Tensor<T, D> sum);
  void unmerge();

  /// The codes are those of the sum with the adapter.
  bool adapter_in_codes() const { return student() != nullptr && student()->trains() == TrainedPart::adapter; }
  bool merged() const { return static_cast<bool>(before_merge_); }
  /// Returns the operand of one product: the dense or packed weight, the bias and, where `adapter` is on and not
  /// merged, the LoRA factors. Where the codes are those of the sum with an adapter and it is off: the dense weight.
  LinearOperand<T, D> operand(bool adapter) const;
  /// Adds the parameters in file order: weight, bias, A, B, then scale and zero where they are trained.
  void append_parameters(std::vector<Parameter<T, D>*>& out) const;
  /// The same tensors under new parameters (memory shared); without LoRA.
  Linear share() const;

 private:
  // Only the transitions above write these; the comments say when each is set.
  LinearState state_ = LinearState::dense;
  std::unique_ptr<Parameter<T, D>> weight_;           // dense, and students but those that train scales
  Tensor<T, D> before_merge_;                         // dense, while merged: W without s B A
  std::shared_ptr<const PackedMatrix<T, D>> packed_;  // packed
  std::unique_ptr<QuantizedWeight<D, T>> student_;    // student
};

/// Parameters that only make the codes of these maps: files hold the codes' values instead.
template <class D, class T>
std::vector<Parameter<T, D>*> parameters_behind_codes(const std::vector<Linear<D, T>*>& linears);

KDLIB_NAMESPACE_END

#include "kdlib/nn/linear_inl.hpp"

#endif
