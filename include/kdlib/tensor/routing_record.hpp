// SPDX-License-Identifier: Apache-2.0
// Which experts the mixtures of a model chose for each token: written by forward passes, carried by batches, followed
// by training passes.
#ifndef KDLIB_TENSOR_ROUTING_RECORD_HPP
#define KDLIB_TENSOR_ROUTING_RECORD_HPP

#include <cstdint>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// The experts that each mixture chose for the tokens of one forward pass, in layer order (layers without a router are
/// not counted). Given back as replay, the next pass over the same tokens goes to the same experts; their weights
/// follow the router as it is then.
struct RoutingRecord {
  static constexpr std::int32_t unknown =
      -1;  // all K of a token: it was never run; a replay leaves the choice to the router

  std::int64_t tokens = 0;                     // N
  std::int64_t active = 0;                     // K
  std::vector<std::vector<std::int32_t>> ids;  // [mixtures][N * K], the strongest first

  bool empty() const { return tokens == 0; }
  /// Adds tokens [begin, begin + count) of another record of the same model. ShapeError: other layers or another K.
  void append(const RoutingRecord& from, std::int64_t begin, std::int64_t count);
  /// Adds tokens of which nothing is known. ShapeError on an empty record.
  void append_unknown(std::int64_t count);
  /// ShapeError unless it is empty or holds N * K ids in each layer, N = `count`.
  void check(std::int64_t count) const;
};

/// counts[mixture][expert]: how often a record chose each of `experts` experts; unknown choices are left out.
/// InputError: an id outside of [0, experts).
std::vector<std::vector<std::int64_t>> expert_histogram(const RoutingRecord& record, std::int64_t experts);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/tensor/routing_record_inl.hpp"
#endif

#endif
