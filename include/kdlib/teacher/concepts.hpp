// SPDX-License-Identifier: Apache-2.0
// What an objective asks of a teacher: one preparation for each micro-batch, then targets for its rows.
#ifndef KDLIB_TEACHER_CONCEPTS_HPP
#define KDLIB_TEACHER_CONCEPTS_HPP

#include <concepts>
#include <cstdint>

#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// `prepare(batch)` sees a whole micro-batch, with its positions and routing, before the student runs.
/// `targets(begin, count)` then gives the teacher's signal for rows [begin, begin + count) of `batch.rows()`: a step
/// asks once for all rows and cuts the answer into chunks itself (the targets' `rows`), evaluation asks once for each
/// document. The type of the answer says which losses can read it. `vocab_size()` is compared with the student's.
template <class S>
concept TeacherSource = requires(S& source, const S& constant, const TokenBatch& batch, std::int64_t n) {
  typename S::targets_type;
  { constant.vocab_size() } -> std::convertible_to<std::int64_t>;
  source.prepare(batch);
  { source.targets(n, n) } -> std::convertible_to<typename S::targets_type>;
};

KDLIB_NAMESPACE_END

#endif
