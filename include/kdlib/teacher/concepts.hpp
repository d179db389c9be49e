// SPDX-License-Identifier: Apache-2.0
// The interface of a teacher as an objective uses it: one call prepares a micro-batch, then others give the targets for
// its rows.
#ifndef KDLIB_TEACHER_CONCEPTS_HPP
#define KDLIB_TEACHER_CONCEPTS_HPP

#include <concepts>
#include <cstdint>

#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// Rows [begin, begin + count) of a batch that one call of `targets` can answer together.
struct RowRun {
  std::int64_t begin = 0, count = 0;
};

/// `prepare(batch)` receives a whole micro-batch, with its positions and routing, before the student runs.
/// `targets(begin, count)` then gives the teacher's signal for rows [begin, begin + count) of `batch.rows()`. A
/// training step asks once for all rows and cuts the answer into chunks with the function `rows` of the targets; an
/// evaluation asks once for each document. The type of the targets decides which losses can read them. `vocab_size()`
/// is compared with the student's. A teacher whose rows do not fit into one answer (because it has several heads)
/// offers `row_runs()`, a std::vector<RowRun> that covers the prepared rows in order. A step then asks once for each
/// run. An empty list means that one call answers all rows.
template <class S>
concept TeacherSource = requires(S& source, const S& constant, const TokenBatch& batch, std::int64_t n) {
  typename S::targets_type;
  { constant.vocab_size() } -> std::convertible_to<std::int64_t>;
  source.prepare(batch);
  { source.targets(n, n) } -> std::convertible_to<typename S::targets_type>;
};

KDLIB_NAMESPACE_END

#endif
