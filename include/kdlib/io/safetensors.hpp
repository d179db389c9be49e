// SPDX-License-Identifier: Apache-2.0
// Reading safetensors: one file with a JSON header in front of packed tensors, or a folder of such files with an index.
#ifndef KDLIB_IO_SAFETENSORS_HPP
#define KDLIB_IO_SAFETENSORS_HPP

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/io/mapped_file.hpp"
#include "kdlib/io/tensor_info.hpp"

KDLIB_NAMESPACE_BEGIN

/// What the header of a safetensors file says.
struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;                            // in the order of their bytes
  std::vector<std::pair<std::string, std::string>> metadata;  // "__metadata__", in the order of the header
};

/// Validates the whole of `file` (header and size of the data) and finds the tensors in it; `name` is for messages.
/// FormatError: "[safetensors] <name>: <where> <what> (<rule>)". Rules, in the order of the checks: HeaderTooSmall,
/// HeaderTooLarge (100,000,000 bytes), InvalidHeaderLength, InvalidHeader (UTF-8), InvalidHeaderDeserialization (JSON,
/// keys, types, duplicates), then for each tensor by offset InvalidOffset (hole, overlap, end before begin),
/// ValidationOverflow, MisalignedSlice, TensorInvalidInfo, at last MetadataIncompleteBuffer (cut off, or bytes behind
/// the last tensor). Memory is bounded by a small multiple of the header's true size.
SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& name);

/// One mapped safetensors file. Moving it keeps the tensors' bytes valid.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(std::string path);

  std::span<const TensorInfo> tensors() const { return header_.tensors; }  // in the order of their bytes
  const TensorInfo* find(std::string_view name) const;
  /// FormatError when there is none of that name.
  const TensorInfo& at(std::string_view name) const;

  std::span<const std::pair<std::string, std::string>> metadata() const { return header_.metadata; }
  std::optional<std::string_view> metadata(std::string_view key) const;
  const std::string& path() const { return file_.path(); }

 private:
  MappedFile file_;
  SafetensorsHeader header_;
  std::vector<std::uint32_t> by_name_;
};

/// The weights of a checkpoint: `model.safetensors`, or the shards that `model.safetensors.index.json` lists. The
/// single file is preferred when both exist. All shards are mapped and their headers checked here; data are read when
/// touched. FormatError: a name in the index that its shard does not hold, a tensor in two shards, a shard name that
/// leaves the folder. IoError: nothing to read in the folder, a missing shard.
class SafetensorsDirectory {
 public:
  /// `path`: the folder, one .safetensors file, or one .index.json file.
  explicit SafetensorsDirectory(const std::string& path);

  /// All tensors, sorted by name.
  std::span<const TensorInfo* const> tensors() const { return by_name_; }
  const TensorInfo* find(std::string_view name) const;
  const TensorInfo& at(std::string_view name) const;

  std::span<const SafetensorsFile> files() const { return files_; }
  /// What a program should tell its user: both layouts are there, total_size differs, tensors that the index does not
  /// list.
  const std::vector<std::string>& warnings() const { return warnings_; }
  const std::string& path() const { return path_; }

 private:
  void open_folder();
  void open_shards(const std::string& index_path);
  void collect();

  std::string path_;
  std::vector<SafetensorsFile> files_;
  std::vector<const TensorInfo*> by_name_;
  std::vector<std::string> warnings_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/safetensors_inl.hpp"
#endif

#endif
