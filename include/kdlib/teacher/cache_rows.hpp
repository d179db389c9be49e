// SPDX-License-Identifier: Apache-2.0
// Reads rows of a teacher's cache as numbers of the type that the loss computes in.
#ifndef KDLIB_TEACHER_CACHE_ROWS_HPP
#define KDLIB_TEACHER_CACHE_ROWS_HPP

#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "kdlib/teacher/teacher_cache.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Converts `count` stored values at `bytes` (which need not be aligned) to T. Returns false if a value is not finite.
template <class Stored, class T>
bool read_values(const std::byte* bytes, std::int64_t count, T* out) {
  bool finite = true;
  for (std::int64_t i = 0; i < count; ++i) {
    Stored value;
    std::memcpy(&value, bytes + static_cast<std::size_t>(i) * sizeof value, sizeof value);
    out[i] = static_cast<T>(static_cast<float>(value));
    if constexpr (std::is_floating_point_v<T>) finite = finite && std::isfinite(out[i]);
    else finite = finite && std::isfinite(static_cast<float>(out[i]));
  }
  return finite;
}

template <class T>
bool read_values(const TensorInfo& info, std::int64_t begin, std::int64_t count, T* out) {
  const std::byte* bytes = info.data.data() + static_cast<std::size_t>(begin) * (dtype_bits(info.dtype) / 8);
  if (info.dtype == DType::bf16) return read_values<bf16>(bytes, count, out);
  if (info.dtype == DType::f16) return read_values<f16>(bytes, count, out);
  return read_values<float>(bytes, count, out);
}

}  // namespace detail

/// Fills `out` [places, width] with the rows of one floating-point column. `width` is the number of values in a row.
/// FormatError names file, row and column if a value is NaN or an infinity.
template <class T>
void read_cached_rows(const TeacherCache& cache, const char* column, std::int64_t width,
                      std::span<const TeacherCache::Place> places, std::vector<T>& out) {
  out.resize(places.size() * static_cast<std::size_t>(width));
  const TensorInfo* info = nullptr;
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (info == nullptr || places[i].segment != places[i - 1].segment) info = &cache.column(places[i].segment, column);
    T* row = out.data() + i * static_cast<std::size_t>(width);
    if (!detail::read_values(*info, places[i].row * width, width, row))  // the place costs a search: only for a message
      fail<FormatError>("[teacher cache] ", cache.place_text(places[i]), ": ", column, " holds NaN or an infinity");
  }
}

KDLIB_NAMESPACE_END

#endif
