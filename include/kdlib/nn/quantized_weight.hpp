// SPDX-License-Identifier: Apache-2.0
// Training through rounding: the product of a linear map uses the codes of a packed weight. What is trained is a
// full-precision weight, an adapter, or the scales of the codes.
#ifndef KDLIB_NN_QUANTIZED_WEIGHT_HPP
#define KDLIB_NN_QUANTIZED_WEIGHT_HPP

#include <memory>
#include <string>
#include <vector>

#include "kdlib/quant/coded_matrix.hpp"
#include "kdlib/tensor/parameter.hpp"

KDLIB_NAMESPACE_BEGIN

/// The factors of a low-rank addition s B A to a weight (Hu et al., 2021): A [rank, in], B [out, rank], and the scale s
/// = alpha / rank, or alpha / sqrt(rank) with rsLoRA (Kalajdzievski 2023).
template <class D, class T>
struct LoraPair {
  Parameter<T, D> a, b;
  std::int64_t rank = 0;
  double alpha = 0;
  double scale = 0;
};

/// What is trained behind the codes. Q rounds to codes, and G = d(objective)/d(value of the codes).
/// - weights: the codes are Q(W); W gets the gradient G.
/// - adapter: the codes are Q(W + s B A); A gets s B^T G, B gets s G A^T, and W is frozen.
/// - scales: the codes stay. The scale of each group gets the exact sum of G (level - shift), a float zero the sum of
///   G.
enum class TrainedPart : std::uint8_t { weights, adapter, scales };
inline const char* trained_part_name(TrainedPart part) {
  return part == TrainedPart::weights ? "weights" : part == TrainedPart::adapter ? "adapter" : "scales";
}

/// The straight-through estimate of the derivative of rounding: identity is 1 everywhere; clipped is 0 at the lowest
/// and the highest integer code and 1 elsewhere (torchao's QAT).
enum class StraightThrough : std::uint8_t { identity, clipped };

/// The codes of a weight and the rule by which they follow the trained values. The codes are those of the parameters at
/// the last refresh().
template <class D, class T>
class QuantizedWeight final : public WeightGradient<T, D> {
 public:
  /// For TrainedPart::weights or adapter: makes codes of `weight` [out, in] (for adapter also of `lora`). `weight` and
  /// `lora` must outlive this object. Throws ConfigError for a clipped rule if codes are not integers.
  QuantizedWeight(const QuantizeSettings& settings, TrainedPart trains, StraightThrough rule, Parameter<T, D>& weight,
                  LoraPair<D, T>* lora);
  /// For TrainedPart::scales: takes the codes of `weight` and makes the parameters `<path>.weight.scale` (and `.zero`
  /// for the affine rule), [groups]. Throws ConfigError if the scales are not stored as one number for each group of a
  /// row (mxfp4, double quantisation, blocks that cross rows).
  QuantizedWeight(const QuantizeSettings& settings, const std::string& path, const Parameter<T, D>& weight);

  TrainedPart trains() const { return trains_; }
  std::shared_ptr<CodedMatrix<T, D>> codes() const { return codes_; }
  /// Makes the codes again from the present values of the parameters.
  void refresh();
  /// Adds the scale and zero parameters, if there are any.
  void append_parameters(std::vector<Parameter<T, D>*>& out);
  /// For LinearOperand. Returns null if A and B get their gradients without the gradient of the weight.
  WeightGradient<T, D>* gradient_sink() {
    return trains_ == TrainedPart::adapter && rule_ == StraightThrough::identity ? nullptr : this;
  }

  bool wanted() const override;
  gradient_t<T>* target() override;
  void add(std::int64_t begin, std::int64_t count, gradient_t<T>* gradient) override;

 private:
  CodedData encode() const;

  QuantizeSettings settings_;
  TrainedPart trains_;
  StraightThrough rule_ = StraightThrough::identity;
  Parameter<T, D>* weight_ = nullptr;
  LoraPair<D, T>* lora_ = nullptr;
  std::unique_ptr<Parameter<T, D>> scale_, zero_;
  std::shared_ptr<CodedMatrix<T, D>> codes_;
};

KDLIB_NAMESPACE_END

#include "kdlib/nn/quantized_weight_inl.hpp"

#endif
