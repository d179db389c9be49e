// SPDX-License-Identifier: Apache-2.0
// What an objective asks of a teacher: one preparation for each micro-batch, then targets for its rows.
#ifndef KDLIB_TEACHER_CONCEPTS_HPP
#define KDLIB_TEACHER_CONCEPTS_HPP

#include <concepts>
#include <cstdint>

#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// Rows [begin, begin + count) of a batch that one call of `targets` can answer.
struct RowRun {
  std::int64_t begin = 0, count = 0;
};

/// `prepare(batch)` sees a whole micro-batch, with its positions and routing, before the student runs.
/// `targets(begin, count)` then gives the teacher's signal for rows [begin, begin + count) of `batch.rows()`: a step
/// asks once for all rows and cuts the answer into chunks itself (the targets' `rows`), evaluation asks once for each
/// document. The type of the answer says which losses can read it. `vocab_size()` is compared with the student's.
/// A teacher whose rows do not fit into one answer (several heads) offers `row_runs()`, a std::vector<RowRun> that
/// covers the prepared rows in order; a step then asks once for each of them. An empty one means all rows at once.
template <class S>
concept TeacherSource = requires(S& source, const S& constant, const TokenBatch& batch, std::int64_t n) {
  typename S::targets_type;
  { constant.vocab_size() } -> std::convertible_to<std::int64_t>;
  source.prepare(batch);
  { source.targets(n, n) } -> std::convertible_to<typename S::targets_type>;
};

KDLIB_NAMESPACE_END

#endif
