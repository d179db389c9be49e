// SPDX-License-Identifier: Apache-2.0
// The experts that the mixtures of a model chose for each token. Forward passes write this record, batches carry it,
// and training passes may follow it.
#ifndef KDLIB_TENSOR_ROUTING_RECORD_HPP
#define KDLIB_TENSOR_ROUTING_RECORD_HPP

#include <cstdint>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// The experts that each mixture chose for the tokens of one forward pass, in the order of the layers; layers without a
/// router are not counted. If the record is given back as replay, the next pass over the same tokens uses the same
/// experts. Their weights come from the router as it is then.
struct RoutingRecord {
  /// Stands in all K places of a token that was never run. In a replay the router chooses for such a token.
  static constexpr std::int32_t unknown = -1;

  std::int64_t tokens = 0;                     // N
  std::int64_t active = 0;                     // K
  std::vector<std::vector<std::int32_t>> ids;  // [mixtures][N * K], the strongest expert of a token first

  bool empty() const { return tokens == 0; }
  /// Adds tokens [begin, begin + count) of another record of the same model. Throws ShapeError for another number of
  /// layers or another K.
  void append(const RoutingRecord& from, std::int64_t begin, std::int64_t count);
  /// Adds tokens whose experts are unknown. Throws ShapeError if the record is empty.
  void append_unknown(std::int64_t count);
  /// Throws ShapeError unless the record is empty or holds `count` * K ids for each layer.
  void check(std::int64_t count) const;
};

/// Returns counts[mixture][expert]: how often the record chose each of `experts` experts. Unknown choices are left out.
/// Throws InputError for an id outside of [0, experts).
std::vector<std::vector<std::int64_t>> expert_histogram(const RoutingRecord& record, std::int64_t experts);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/tensor/routing_record_inl.hpp"
#endif

#endif
