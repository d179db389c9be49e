// SPDX-License-Identifier: Apache-2.0
// Low-rank factors that start where they undo most of the rounding of the weights, measured on a text, and not at zero.
#ifndef KDLIB_MODEL_COMPENSATE_HPP
#define KDLIB_MODEL_COMPENSATE_HPP

#include "kdlib/model/adapter.hpp"

KDLIB_NAMESPACE_BEGIN

/// How compensate_rounding searches for the factors of an adapter.
struct CompensateSettings {
  std::int64_t iterations = 8;  // steps of the subspace iteration, > 0
  std::uint64_t seed = 0;       // seed of the iteration's random start
};

/// What compensate_rounding found, over all maps that it adapted.
struct CompensateReport {
  std::int64_t maps = 0;
  double error_before = 0;  // mean over maps of |X E^T|^2 / |X W^T|^2, at most 256 rows of X
  double error_after = 0;   // the same with E - s B A
};

/// Sets the LoRA factors of every map that is rounded and has an adapter. For E = W - Q(W), the rounding error of the
/// map, and X, the inputs that the original model gives to the map on `text`, s B A becomes the best approximation of E
/// of the adapter's rank: it minimises |X (E - s B A)^T|. With U the left singular vectors of E X^T that belong to the
/// `rank` largest singular values, s B A = U U^T E. U comes from a subspace iteration that never forms X^T X. A and B
/// are scaled against each other so that the elements of A have the root-mean-square that add_lora gives them. The
/// layers of `original` are run once over `text` (one batch; use 1000 tokens or more).
///
/// `original` has the weights before rounding. `student` has the codes and the adapter (add_lora). Sources: Zhang et
/// al., "QERA: an analytical framework for quantization error reconstruction" (ICLR 2025); Liu et al., "EoRA" (2024).
/// Throws ConfigError if no adapted map is rounded or if the two models have different maps.
template <class D, class T>
CompensateReport compensate_rounding(Decoder<D, T>& student, Decoder<D, T>& original, const TokenBatch& text,
                                     const CompensateSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/model/compensate_inl.hpp"

#endif
