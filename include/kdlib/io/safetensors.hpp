// SPDX-License-Identifier: Apache-2.0
// Reads safetensors: a file with a JSON header in front of packed tensors, or a folder of such files with an index.
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

/// The content of the header of a safetensors file.
struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;                            // in the order of their bytes in the file
  std::vector<std::pair<std::string, std::string>> metadata;  // "__metadata__", in the order of the header
};

/// Validates the whole of `file` (its header and the size of its data) and returns the tensors in it. `name` is the
/// file's name for messages. Memory is bounded by a small multiple of the header's true size. Throws FormatError
/// "[safetensors] <name>: <where> <problem> (<rule>)". The rules in the order of the checks are:
/// - HeaderTooSmall, HeaderTooLarge (above 100,000,000 bytes), InvalidHeaderLength, InvalidHeader (not UTF-8),
///   InvalidHeaderDeserialization (JSON, keys, types, duplicates);
/// - for each tensor in the order of offsets: InvalidOffset (hole, overlap, end before begin), ValidationOverflow,
///   MisalignedSlice, TensorInvalidInfo;
/// - MetadataIncompleteBuffer (the file is cut off, or bytes follow the last tensor).
SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& name);

/// One mapped safetensors file. The tensors' bytes stay valid if the object is moved.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(std::string path);

  std::span<const TensorInfo> tensors() const { return header_.tensors; }  // in the order of their bytes
  /// Returns nullptr if there is no tensor of that name.
  const TensorInfo* find(std::string_view name) const;
  /// Throws FormatError if there is no tensor of that name.
  const TensorInfo& at(std::string_view name) const;

  std::span<const std::pair<std::string, std::string>> metadata() const { return header_.metadata; }
  /// Returns the text of one key of "__metadata__". Empty if the key is not there.
  std::optional<std::string_view> metadata(std::string_view key) const;
  const std::string& path() const { return file_.path(); }

 private:
  MappedFile file_;
  SafetensorsHeader header_;
  std::vector<std::uint32_t> by_name_;
};

/// The weights of a checkpoint: `model.safetensors`, or the shards that `model.safetensors.index.json` lists. If both
/// exist, the single file is read. The constructor maps all shards and checks their headers; data are read when
/// touched. Throws FormatError if a shard does not hold a name that the index says it holds, if a tensor is in two
/// shards, or if a shard's name leaves the folder. Throws IoError if the folder holds neither form or a shard is
/// missing.
class SafetensorsDirectory {
 public:
  /// `path` is the folder, one .safetensors file, or one .index.json file.
  explicit SafetensorsDirectory(const std::string& path);

  /// All tensors, sorted by name.
  std::span<const TensorInfo* const> tensors() const { return by_name_; }
  /// Returns nullptr if there is no tensor of that name.
  const TensorInfo* find(std::string_view name) const;
  /// Throws FormatError if there is no tensor of that name.
  const TensorInfo& at(std::string_view name) const;

  std::span<const SafetensorsFile> files() const { return files_; }
  /// Sentences that a program should show to its user: both layouts are there, total_size is wrong, or the index does
  /// not list a tensor.
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
