// SPDX-License-Identifier: Apache-2.0
// What writers of safetensors put into files: tensors that are made while they are written.
#ifndef KDLIB_CHECKPOINT_SAVED_UNITS_HPP
#define KDLIB_CHECKPOINT_SAVED_UNITS_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/core/dtype.hpp"
#include "kdlib/core/shape.hpp"
#include "kdlib/io/atomic_file.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A tensor; `write` writes exactly its bytes.
struct SavedPiece {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::function<void(AtomicFile&)> write;
};

/// What goes into one file together: a tensor, or the tensors of one packed weight.
struct SavedUnit {
  std::vector<SavedPiece> pieces;
  std::int64_t bytes = 0;
};

using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;

void write_safetensors(const std::string& path, std::span<const SavedUnit> units,
                       const SafetensorsMetadata& metadata = {});
/// One file, or shards of at most `limit` bytes (a unit is never split) and their index; each file has the same
/// metadata.
void write_weights(const std::string& directory, const std::vector<SavedUnit>& units, std::int64_t limit,
                   const SafetensorsMetadata& metadata = {});
/// ConfigError that begins with `where`: a name other than float32, bfloat16 and float16.
void check_saved_dtype(const std::string& dtype, const char* where);
/// The places of `names` in their alphabetical order.
std::vector<std::size_t> order_by_name(const std::vector<std::string>& names);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/saved_units_inl.hpp"
#endif

#endif
