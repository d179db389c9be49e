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
  std::uint64_t offset = 0;         // of the data, from the start of the file
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

/// One mapped GGUF file. Moving it keeps keys, texts and data valid. A file that is one of several shards is refused.
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

  std::uint64_t alignment() const { return header_.alignment; }
  std::uint64_t data_start() const { return header_.data_start; }
  const std::string& path() const { return file_.path(); }

 private:
  MappedFile file_;
  GgufHeader header_;
  std::vector<std::uint32_t> keys_by_name_, tensors_by_name_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/gguf_inl.hpp"
#endif

#endif
