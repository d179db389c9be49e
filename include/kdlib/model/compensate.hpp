// SPDX-License-Identifier: Apache-2.0
// Low-rank factors that start where they undo most of a rounding, as text shows it, instead of at zero.
#ifndef KDLIB_MODEL_COMPENSATE_HPP
#define KDLIB_MODEL_COMPENSATE_HPP

#include "kdlib/model/adapter.hpp"

KDLIB_NAMESPACE_BEGIN

/// How compensate_rounding searches the factors of an adapter.
struct CompensateSettings {
  std::int64_t iterations = 8;  // of the subspace iteration, > 0
  std::uint64_t seed = 0;       // of its start
};

/// What compensate_rounding found, over all adapted maps.
struct CompensateReport {
  std::int64_t maps = 0;
  double error_before = 0;  // sum over maps of |X E^T|^2 / |X W^T|^2, divided by the number of maps
  double error_after = 0;   // the same with E - s B A
};

/// Sets the LoRA factors of every adapted map so that s B A is the best approximation of E = W - Q(W) of its rank for
/// the inputs X that the original model gives on `text`: it minimises |X (E - s B A)^T|. With U the left singular
/// vectors of E X^T that belong to the `rank` largest singular values, s B A = U U^T E; U comes from a subspace
/// iteration that never forms X^T X. A and B are scaled against each other so that the elements of A have the
/// root-mean-square of add_lora's. The layers of `original` are run once over `text` (one batch; 1000 tokens or more).
///
/// `original` has the weights before rounding, `student` the codes and the adapter (add_lora). Source: Zhang et al.,
/// "QERA: an analytical framework for quantization error reconstruction" (ICLR 2025); Liu et al., "EoRA" (2024).
/// ConfigError: no adapted map is rounded, or the models have different maps.
template <class D, class T>
CompensateReport compensate_rounding(Decoder<D, T>& student, Decoder<D, T>& original, const TokenBatch& text,
                                     const CompensateSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/model/compensate_inl.hpp"

#endif
