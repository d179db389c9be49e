// SPDX-License-Identifier: Apache-2.0
// The GGUF container: typed metadata and tensors in block formats. Decoding the blocks is quant/gguf_blocks.hpp.
#ifndef KDLIB_IO_GGUF_HPP
#define KDLIB_IO_GGUF_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/shape.hpp"
#include "kdlib/io/gguf_split.hpp"
#include "kdlib/io/gguf_types.hpp"
#include "kdlib/io/gguf_value.hpp"
#include "kdlib/io/mapped_file.hpp"

KDLIB_NAMESPACE_BEGIN

/// One tensor. `shape` is row-major, slowest first: a weight is [out, in] although the file stores its extents as [in,
/// out].
struct GgufTensor {
  std::string name;
  GgufType type = GgufType::f32;
  Shape shape;                      // rank 1 to 4, no extent is 0
  std::uint32_t part = 0;           // index of the file that holds the tensor, GgufFile::paths()
  std::uint64_t offset = 0;         // of the data, from the start of that file
  std::span<const std::byte> data;  // blocks; a row (the last axis) is a whole number of them
  std::string text() const;         // "blk.0.attn_q.weight (Q4_K [576, 576])"
};

/// What the header of a GGUF file says. Keys, texts and data point into the bytes it was parsed from.
struct GgufHeader {
  std::uint32_t version = 0;
  std::uint64_t alignment = 32;
  std::uint64_t data_start = 0;
  std::vector<GgufValue> metadata;  // in the order of the file
  std::vector<GgufTensor> tensors;  // in the order of the file
};

/// Validates all of `file` and finds what is in it. FormatError: "[gguf] <name>: byte <n>: <what>" for bad magic, a
/// version other than 2 and 3, counts that the file cannot hold, a key that is empty, too long or there twice, unknown
/// kinds, nested arrays, booleans above 1, texts beyond the end, a tensor name that is empty, 64 bytes or longer, or
/// there twice, extents that are none, zero or overflow, element types that kdlib does not read (by name), rows of
/// broken blocks, offsets that overlap or leave holes, data beyond the end, bytes behind the last tensor, an alignment
/// that is no power of two. Memory is bounded by a small multiple of the header's true size, whatever its counts say.
GgufHeader parse_gguf(std::span<const std::byte> file, const std::string& name);

/// One mapped GGUF file, or all parts of a split one. Moving it keeps keys, texts and data valid.
///
/// A split file (split.count above 1, NAME-00001-of-00003.gguf) may be opened by the path of any part. Keys are those
/// of the first part, tensors those of all. FormatError, naming the files: a name that is not that of a part or
/// disagrees with split.no and split.count, parts that are missing, one part twice, a part whose keys differ from those
/// of the first (another model), a tensor in two parts, a number of tensors other than split.tensors.count.
class GgufFile {
 public:
  explicit GgufFile(std::string path);

  std::span<const GgufValue> metadata() const { return header_.metadata; }
  const GgufValue* find(std::string_view key) const;
  /// FormatError when the key is not there.
  const GgufValue& at(std::string_view key) const;

  /// The value as a plain type; `otherwise` when the key is not there.
  bool bool_or(std::string_view key, bool otherwise) const;
  std::int64_t int_or(std::string_view key, std::int64_t otherwise) const;
  double double_or(std::string_view key, double otherwise) const;
  std::string string_or(std::string_view key, std::string_view otherwise) const;

  std::span<const GgufTensor> tensors() const { return header_.tensors; }
  const GgufTensor* find_tensor(std::string_view name) const;
  const GgufTensor& tensor(std::string_view name) const;

  std::uint64_t alignment() const { return header_.alignment; }    // of the first part
  std::uint64_t data_start() const { return header_.data_start; }  // in the first part

  /// The file that holds the keys: the only one, or the first part.
  const std::string& path() const { return files_.front().path(); }
  /// The file that holds the tensor.
  const std::string& path_of(const GgufTensor& tensor) const { return files_[tensor.part].path(); }
  /// All files, in the order of the parts.
  std::vector<std::string> paths() const;

 private:
  void index_names();
  void open_other_parts();
  void add_part(const std::string& path, std::int64_t number);

  std::vector<MappedFile> files_;  // in the order of the parts
  GgufHeader header_;              // keys of the first part, tensors of all
  std::vector<std::uint32_t> keys_by_name_, tensors_by_name_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/gguf_inl.hpp"
#include "kdlib/io/gguf_parts_inl.hpp"
#endif

#endif
