// SPDX-License-Identifier: Apache-2.0
// A source without a cursor.
// expect: the second argument of Trainer is neither a DataSource (next(), cursor(), seek(cursor)) nor a RolloutSource
#include "compile_fail/support/parts.hpp"

#if defined(KDLIB_CORRECTED)
constexpr auto size = trainer_size<Model, Batches>();
#else
struct NoCursor {
  std::optional<kdlib::TokenBatch> next() { return std::nullopt; }
};
constexpr auto size = trainer_size<Model, NoCursor>();
#endif
