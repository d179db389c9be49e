// SPDX-License-Identifier: Apache-2.0
// Rounds the linear maps of a decoder to a packed format. Embedding, head and norms are not rounded.
#ifndef KDLIB_MODEL_QUANTIZE_HPP
#define KDLIB_MODEL_QUANTIZE_HPP

#include "kdlib/model/decoder.hpp"
#include "kdlib/quant/coded_matrix.hpp"

KDLIB_NAMESPACE_BEGIN

/// The size of the rounded weights and the error of rounding.
struct QuantizeReport {
  std::int64_t matrices = 0, weights = 0;
  std::int64_t bytes = 0;        // of codes, scales and zeros
  double mean_square_error = 0;  // mean squared error of one weight
  double relative_error = 0;     // sqrt(sum of squared errors / sum of squares)
};

/// Turns the weight of every linear map into packed codes and frees the weight: pointers to those parameters are
/// invalid afterwards. LoRA factors may exist or be added later. Weights that stay in their file are decoded one matrix
/// at a time. Throws ConfigError for settings that no format has, for maps that have packed codes already or are merged
/// with an adapter, and for a mixture of experts.
template <class D, class T>
QuantizeReport quantize_linear(Decoder<D, T>& model, const QuantizeSettings& settings = {});

/// What is trained behind the codes, and how gradients pass through the rounding.
struct StudentSettings {
  TrainedPart trains = TrainedPart::weights;
  StraightThrough straight_through = StraightThrough::identity;  // for weights and adapter
};

/// Puts codes in front of the trained values of every linear map. Every product, in training and in generation, uses
/// the codes; the codes follow the parameters (Decoder::refresh_codes). save_pretrained writes the values of the codes,
/// so what is exported is what was trained. `student.trains` selects the trained part:
/// - weights: the maps' weights stay parameters, and all of the model may be trained.
/// - adapter: call add_lora first. Maps with an adapter have the codes of W + s B A, other maps those of W. While the
///   adapter is switched off, the maps with an adapter are dense again.
/// - scales: codes stay as they are; only their scales (and float zeros) are trainable.
/// The report compares the first codes with the weights. Throws ConfigError as quantize_linear does, and for weights
/// that stay in their file, for `adapter` without an adapter, for `weights` or `scales` with one, and for scales that
/// are not stored as numbers of their own.
template <class D, class T>
QuantizeReport quantize_student(Decoder<D, T>& model, const QuantizeSettings& settings, const StudentSettings& student);

/// Merges the adapter of a model that quantize_linear packed into the codes, which become Q(values of the codes + s B
/// A), and removes the adapter. The result is not exactly the function that was trained: the report has the error of
/// the new codes against the sum, and the caller should measure what this error costs. Throws ConfigError if there is
/// no adapter or if an adapted map has no such codes.
template <class D, class T>
QuantizeReport merge_into_codes(Decoder<D, T>& model);

/// Turns linear maps that hold codes into dense maps with the values of the codes.
template <class D, class T>
void decode_linear(Decoder<D, T>& model);

KDLIB_NAMESPACE_END

#include "kdlib/model/quantize_inl.hpp"

#endif
