// SPDX-License-Identifier: Apache-2.0
// Training through rounding: the product of a linear map uses the codes of a packed weight, and what is trained is a
// full-precision weight, an adapter, or the scales behind the codes.
#ifndef KDLIB_NN_QUANTIZED_WEIGHT_HPP
#define KDLIB_NN_QUANTIZED_WEIGHT_HPP

#include <memory>
#include <string>
#include <vector>

#include "kdlib/quant/coded_matrix.hpp"
#include "kdlib/tensor/parameter.hpp"

KDLIB_NAMESPACE_BEGIN

/// A low-rank addition s B A to a weight (Hu et al., 2021). A [rank, in], B [out, rank], scale s = alpha / rank, or
/// alpha / sqrt(rank) (rsLoRA, Kalajdzievski 2023).
template <class D, class T>
struct LoraPair {
  Parameter<T, D> a, b;
  std::int64_t rank = 0;
  double alpha = 0;
  double scale = 0;
};

/// What moves behind the codes of Q, with G = d(objective)/d(value of the codes):
///   weights: values Q(W), W gets G; adapter: values Q(W + s B A), A gets s B^T G and B s G A^T, W is frozen;
///   scales: codes stay, each group's scale gets the exact sum of G (level - shift), a float zero the sum of G.
enum class TrainedPart : std::uint8_t { weights, adapter, scales };
inline const char* trained_part_name(TrainedPart part) {
  return part == TrainedPart::weights ? "weights" : part == TrainedPart::adapter ? "adapter" : "scales";
}

/// The straight-through estimate of a rounding's derivative: 1 everywhere, or 0 at the lowest and the highest integer
/// code (torchao's QAT).
enum class StraightThrough : std::uint8_t { identity, clipped };

/// Codes, and how they follow what is trained. Codes are those of the parameters' values at the last refresh().
template <class D, class T>
class QuantizedWeight final : public WeightGradient<T, D> {
 public:
  /// weights or adapter: of `weight` [out, in] (and `lora`, for adapter), which must outlive this. ConfigError: clipped
  /// where codes are no integers.
  QuantizedWeight(const QuantizeSettings& settings, TrainedPart trains, StraightThrough rule, Parameter<T, D>& weight,
                  LoraPair<D, T>* lora);
  /// scales: of the codes of `weight`; parameters `<path>.weight.scale` (and `.zero` for the affine rule), [groups].
  /// ConfigError: scales that are not kept as one number a group of a row (mxfp4, double quantisation, blocks across
  /// rows).
  QuantizedWeight(const QuantizeSettings& settings, const std::string& path, const Parameter<T, D>& weight);

  TrainedPart trains() const { return trains_; }
  std::shared_ptr<CodedMatrix<T, D>> codes() const { return codes_; }
  /// Makes the codes those of the parameters as they are.
  void refresh();
  void append_parameters(std::vector<Parameter<T, D>*>& out);
  /// For LinearOperand: null where A and B get their gradient without the weight's.
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
