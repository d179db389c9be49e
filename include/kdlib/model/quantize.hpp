// SPDX-License-Identifier: Apache-2.0
// Rounds the linear maps of a decoder to a packed format; embedding, head and norms stay as they are.
#ifndef KDLIB_MODEL_QUANTIZE_HPP
#define KDLIB_MODEL_QUANTIZE_HPP

#include "kdlib/model/decoder.hpp"
#include "kdlib/quant/coded_matrix.hpp"

KDLIB_NAMESPACE_BEGIN

/// What rounding weights cost.
struct QuantizeReport {
  std::int64_t matrices = 0, weights = 0;
  std::int64_t bytes = 0;        // codes, scales and zeros
  double mean_square_error = 0;  // of a weight
  double relative_error = 0;     // sqrt(sum of squared errors / sum of squares)
};

/// Turns the weight of every linear map into packed codes and frees it: pointers to those parameters are dead
/// afterwards. LoRA factors may be there or come later. Weights that stay in their file are decoded one matrix at a
/// time. ConfigError: settings that no format has, packed codes already, merged with an adapter, a mixture of experts.
template <class D, class T>
QuantizeReport quantize_linear(Decoder<D, T>& model, const QuantizeSettings& settings = {});

/// What is trained behind the codes, and how gradients pass the rounding.
struct StudentSettings {
  TrainedPart trains = TrainedPart::weights;
  StraightThrough straight_through = StraightThrough::identity;  // of weights and adapter
};

/// Puts codes in front of what is trained, for every linear map: each product, of training and of generation alike,
/// uses the codes, which follow the parameters (Decoder::refresh_codes), and save_pretrained writes the values of these
/// codes: what is exported is what was trained.
///   weights: the maps' weights stay parameters, all of the model may be trained;
///   adapter: after add_lora: maps with an adapter have the codes of W + s B A, others those of W; with the adapter off
///   the former are dense again; scales: codes stay as they are, only their scales (and float zeros) are trainable.
/// The report compares the first codes with the weights. ConfigError as quantize_linear, and: no adapter, scales that
/// are not numbers of their own.
template <class D, class T>
QuantizeReport quantize_student(Decoder<D, T>& model, const QuantizeSettings& settings, const StudentSettings& student);

/// Takes the adapter of a model that quantize_linear packed into the codes: each becomes Q(its values + s B A), and the
/// adapter is gone. That is another function than the one that was trained; the report has the error of the new codes
/// against the sum, and a caller measures what it costs.
template <class D, class T>
QuantizeReport merge_into_codes(Decoder<D, T>& model);

/// Linear maps that hold codes hold the codes' values afterwards.
template <class D, class T>
void decode_linear(Decoder<D, T>& model);

KDLIB_NAMESPACE_END

#include "kdlib/model/quantize_inl.hpp"

#endif
