// SPDX-License-Identifier: Apache-2.0
// The tensors that writers of safetensors put into files. The bytes of a tensor are made while they are written.
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

/// A tensor of a file. `write` must write exactly the bytes that dtype and shape need.
struct SavedPiece {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::function<void(AtomicFile&)> write;
};

/// Tensors that must be in one file: a single tensor, or all tensors of one packed weight.
struct SavedUnit {
  std::vector<SavedPiece> pieces;
  std::int64_t bytes = 0;
};

using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;

void write_safetensors(const std::string& path, std::span<const SavedUnit> units,
                       const SafetensorsMetadata& metadata = {});
/// Writes the units into model.safetensors, or, if they are larger than `limit` bytes, into shards of at most `limit`
/// bytes and an index. A unit is never split, so a larger unit is a shard of its own. Each file has the same metadata.
void write_weights(const std::string& directory, const std::vector<SavedUnit>& units, std::int64_t limit,
                   const SafetensorsMetadata& metadata = {});
/// ConfigError: `dtype` is not float32, bfloat16 or float16. The message begins with `where`.
void check_saved_dtype(const std::string& dtype, const char* where);
/// Returns the indices of `names` in alphabetical order of the names.
std::vector<std::size_t> order_by_name(const std::vector<std::string>& names);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/saved_units_inl.hpp"
#endif

#endif
