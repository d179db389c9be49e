// SPDX-License-Identifier: Apache-2.0
// Bodies of saved_units.hpp.
#ifndef KDLIB_CHECKPOINT_SAVED_UNITS_INL_HPP
#define KDLIB_CHECKPOINT_SAVED_UNITS_INL_HPP

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "kdlib/checkpoint/saved_units.hpp"
#include "kdlib/core/error.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "kdlib/io/seed_file.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void write_safetensors(const std::string& path, std::span<const SavedUnit> units,
                                  const SafetensorsMetadata& metadata) {
  SafetensorsWriter writer(path);
  writer.metadata("format", "pt");
  for (const auto& [key, value] : metadata) writer.metadata(key, value);
  for (const SavedUnit& unit : units)
    for (const SavedPiece& p : unit.pieces) writer.add_from(p.name, p.dtype, p.shape, p.write);
  writer.commit();
}

KDLIB_FUNC std::string shard_name(std::size_t i, std::size_t count) {
  char text[64];
  std::snprintf(text, sizeof text, "model-%05zu-of-%05zu.safetensors", i + 1, count);
  return text;
}

/// Shards of units, the first of which ends before units[ends[0]], and their index; `total` bytes in all.
KDLIB_FUNC void write_shards(const std::string& directory, std::span<const SavedUnit> units,
                             const std::vector<std::size_t>& ends, std::int64_t total,
                             const SafetensorsMetadata& metadata) {
  JsonWriter index(JsonStyle{2, NonFinite::refuse});
  index.begin_object()
      .key("metadata")
      .begin_object()
      .member("total_size", total)
      .end_object()
      .key("weight_map")
      .begin_object();
  for (std::size_t shard = 0, begin = 0; shard < ends.size(); begin = ends[shard++]) {
    const std::string name = shard_name(shard, ends.size());
    write_safetensors(join_path(directory, name), units.subspan(begin, ends[shard] - begin), metadata);
    for (std::size_t i = begin; i < ends[shard]; ++i)
      for (const SavedPiece& tensor : units[i].pieces) index.member(tensor.name, name);
  }
  index.end_object().end_object();
  write_file_atomically(join_path(directory, "model.safetensors.index.json"), index.text());
}

KDLIB_FUNC void write_weights(const std::string& directory, const std::vector<SavedUnit>& units, std::int64_t limit,
                              const SafetensorsMetadata& metadata) {
  std::vector<std::size_t> ends;
  std::int64_t total = 0, filled = 0;
  for (std::size_t i = 0; i < units.size(); ++i) {
    if (filled > 0 && filled + units[i].bytes > limit) ends.push_back(i), filled = 0;
    filled += units[i].bytes;
    total += units[i].bytes;
  }
  ends.push_back(units.size());
  const std::span<const SavedUnit> all(units);
  const char* stale = "model.safetensors.index.json";
  if (ends.size() == 1) {
    write_safetensors(join_path(directory, "model.safetensors"), all, metadata);
  } else {
    write_shards(directory, all, ends, total, metadata);
    stale = "model.safetensors";  // a reader would prefer an older single file
  }
  for (const char* name : {stale, random_weights_file}) remove_tree(join_path(directory, name));
}

KDLIB_FUNC void check_saved_dtype(const std::string& dtype, const char* where) {
  require<ConfigError>(dtype == "float32" || dtype == "bfloat16" || dtype == "float16", where, "dtype ", dtype,
                       " is not supported; it can be float32, bfloat16 or float16");
}

KDLIB_FUNC std::vector<std::size_t> order_by_name(const std::vector<std::string>& names) {
  std::vector<std::size_t> order(names.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return names[a] < names[b]; });
  return order;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
