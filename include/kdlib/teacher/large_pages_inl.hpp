// SPDX-License-Identifier: Apache-2.0
// Bodies of write_cache.hpp that do not depend on a model.
#ifndef KDLIB_TEACHER_LARGE_PAGES_INL_HPP
#define KDLIB_TEACHER_LARGE_PAGES_INL_HPP

#include <sys/mman.h>

#include <cstdint>

#include "kdlib/teacher/write_cache.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::string row_place(const TokenBatch& batch, std::int64_t row) {
  return batch.place_of(batch.rows().token[static_cast<std::size_t>(row)]);
}

KDLIB_FUNC void ask_for_large_pages(void* at, std::size_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t large = std::uintptr_t{2} << 20;
  const auto from = reinterpret_cast<std::uintptr_t>(at), begin = (from + large - 1) / large * large,
             end = (from + bytes) / large * large;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  static_cast<void>(at), static_cast<void>(bytes);
#endif
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
