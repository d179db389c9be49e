// SPDX-License-Identifier: Apache-2.0
// A linear map of a model: a weight in one of three states, an optional bias, optional LoRA factors.
#ifndef KDLIB_NN_LINEAR_HPP
#define KDLIB_NN_LINEAR_HPP

#include <memory>
#include <string>
#include <vector>

#include "kdlib/autograd/functions.hpp"
#include "kdlib/nn/quantized_weight.hpp"

KDLIB_NAMESPACE_BEGIN

/// The state of the weight of a linear map.
enum class LinearState : std::uint8_t {
  dense,   // a parameter [out, in]; while an adapter is merged into the weight, the old values are kept
  packed,  // not a parameter: codes, or bytes that stay in their file
  student  // codes that follow the trained values: the dense weight, the adapter, or scales and zeros
};

/// Computes y = x W^T + b (+ s (x A^T) B^T). The addresses of the parameters stay the same.
template <class D, class T>
class Linear {
 public:
  std::string path;  // module path, e.g. model.layers.0.self_attn.q_proj
  std::int64_t in = 0, out = 0;
  std::unique_ptr<Parameter<T, D>> bias;  // [out] or null
  std::unique_ptr<LoraPair<D, T>> lora;   // the LoRA factors, or null

  Linear() = default;
  /// Makes a dense map whose parameters have shapes but no memory yet.
  Linear(std::string path, std::int64_t in, std::int64_t out, bool has_bias);

  LinearState state() const { return state_; }
  /// Returns the dense parameter, or the parameter behind the codes of a student. nullptr if there is none.
  Parameter<T, D>* weight() const { return weight_.get(); }
  /// Returns what products use in place of a dense parameter: the packed matrix or the codes of a student. nullptr for
  /// dense.
  std::shared_ptr<const PackedMatrix<T, D>> packed() const;
  /// Returns the object that makes the codes of a student from the trained values. nullptr in the other states.
  QuantizedWeight<D, T>* student() const { return student_.get(); }

  /// Any state -> packed. The previous weight is freed; an adapter stays. Throws ShapeError for a matrix of another
  /// shape.
  void pack(std::shared_ptr<const PackedMatrix<T, D>> matrix);
  /// Any state -> dense, with these values [out, in]. Throws ShapeError for another shape.
  void set_dense(Tensor<T, D> values);
  /// Dense -> student. The dense weight stays behind the codes, except if the codes train scales. Throws ConfigError in
  /// another state.
  void begin_student(std::unique_ptr<QuantizedWeight<D, T>> codes);
  /// Dense: takes `sum` = W + s B A [out, in] and keeps W, which unmerge() restores. Throws ConfigError if the map is
  /// not dense or is merged already.
  void merge(Tensor<T, D> sum);
  void unmerge();

  /// True if the codes of a student are those of the sum W + s B A.
  bool adapter_in_codes() const { return student() != nullptr && student()->trains() == TrainedPart::adapter; }
  bool merged() const { return static_cast<bool>(before_merge_); }
  /// Returns the operand of one product: the dense or packed weight, the bias and, if `adapter` is true and the adapter
  /// is not merged, the LoRA factors. If the codes are those of W + s B A and `adapter` is false, the operand is the
  /// dense weight.
  LinearOperand<T, D> operand(bool adapter) const;
  /// Adds the parameters in the order of the file: weight, bias, A, B, then scale and zero if they are trained.
  void append_parameters(std::vector<Parameter<T, D>*>& out) const;
  /// Returns a map with new parameters over the same memory, frozen and without LoRA.
  Linear share() const;

 private:
  // Only the functions above that change the state write these members. The comments say in which state each is set.
  LinearState state_ = LinearState::dense;
  std::unique_ptr<Parameter<T, D>> weight_;           // dense, and student unless it trains scales
  Tensor<T, D> before_merge_;                         // dense and merged: W without s B A
  std::shared_ptr<const PackedMatrix<T, D>> packed_;  // packed
  std::unique_ptr<QuantizedWeight<D, T>> student_;    // student
};

/// Returns the parameters that only serve to make the codes of these maps. Files hold the values of the codes instead.
template <class D, class T>
std::vector<Parameter<T, D>*> parameters_behind_codes(const std::vector<Linear<D, T>*>& linears);

KDLIB_NAMESPACE_END

#include "kdlib/nn/linear_inl.hpp"

#endif
