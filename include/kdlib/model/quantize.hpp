// SPDX-License-Identifier: Apache-2.0
// Rounds the linear maps of a decoder to a packed format; embedding, head and norms stay as they are.
#ifndef KDLIB_MODEL_QUANTIZE_HPP
#define KDLIB_MODEL_QUANTIZE_HPP

#include "kdlib/model/decoder.hpp"
#include "kdlib/quant/coded_matrix.hpp"

KDLIB_NAMESPACE_BEGIN

struct QuantizeReport {
  std::int64_t matrices = 0, weights = 0;
  std::int64_t bytes = 0;              // codes, scales and zeros
  double mean_square_error = 0;        // of a weight
  double relative_error = 0;           // sqrt(sum of squared errors / sum of squares)
};

/// Turns the weight of every linear map into packed codes and frees it: pointers to those parameters are dead afterwards. LoRA factors
/// may be there or come later. ConfigError: settings that no format has, packed already, merged with an adapter, or a mixture of experts.
template <class D, class T>
QuantizeReport quantize_linear(Decoder<D, T>& model, const QuantizeSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/model/quantize_inl.hpp"

#endif
