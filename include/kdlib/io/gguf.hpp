// SPDX-License-Identifier: Apache-2.0
// The GGUF container: typed metadata, and tensors in block formats. quant/gguf_blocks.hpp decodes the blocks.
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

/// One tensor of a GGUF file. `shape` is row-major, slowest axis first: a weight is [out, in], although the file stores
/// its extents as [in, out].
struct GgufTensor {
  std::string name;
  GgufType type = GgufType::f32;
  Shape shape;                      // rank 1 to 4, no extent is 0
  std::uint32_t part = 0;           // index into GgufFile::paths() of the file that holds the tensor
  std::uint64_t offset = 0;         // bytes from the start of that file to the data
  std::span<const std::byte> data;  // blocks; a row (the last axis) is a whole number of blocks
  std::string text() const;         // "blk.0.attn_q.weight (Q4_K [576, 576])"
};

/// The content of a GGUF header. Keys, texts and data point into the bytes that were parsed.
struct GgufHeader {
  std::uint32_t version = 0;
  std::uint64_t alignment = 32;
  std::uint64_t data_start = 0;
  std::vector<GgufValue> metadata;  // in the order of the file
  std::vector<GgufTensor> tensors;  // in the order of the file
};

/// Validates all of `file` and returns its content. `name` is the file's name for messages. Memory is bounded by a
/// small multiple of the header's true size, whatever the counts in the file say. Throws FormatError "[gguf] <name>:
/// byte <n>: <problem>" for:
/// - bad magic, a version other than 2 and 3, counts that the file cannot hold;
/// - a key that is empty, too long (above 65535 bytes) or there twice, unknown kinds of values, nested arrays, booleans
///   above 1, texts beyond the end of the file;
/// - a tensor name that is empty, 64 bytes or longer, or there twice;
/// - a tensor without extents or with an extent of zero, sizes that overflow, element types that kdlib does not read,
///   rows that are not a whole number of blocks;
/// - offsets that overlap or leave holes, data beyond the end, bytes behind the last tensor, an alignment that is not a
///   power of two.
GgufHeader parse_gguf(std::span<const std::byte> file, const std::string& name);

/// One mapped GGUF file, or all parts of a split GGUF file. Keys, texts and data stay valid if the object is moved.
///
/// A split file (the key split.count is above 1; names NAME-00001-of-00003.gguf) may be opened by the path of any part.
/// Its keys are those of the first part, its tensors those of all parts. Throws FormatError, which names the files, for
/// a file name that is not that of a part or disagrees with split.no and split.count, for missing parts, for one part
/// given twice, for a part whose keys differ from those of the first part (it belongs to another model), for a tensor
/// in two parts, and for a number of tensors other than split.tensors.count.
class GgufFile {
 public:
  explicit GgufFile(std::string path);

  std::span<const GgufValue> metadata() const { return header_.metadata; }
  /// Returns nullptr if the key is not there.
  const GgufValue* find(std::string_view key) const;
  /// Throws FormatError if the key is not there.
  const GgufValue& at(std::string_view key) const;

  /// Returns the value as a plain type, or `otherwise` if the key is not there. Throws FormatError for a value of
  /// another kind.
  bool bool_or(std::string_view key, bool otherwise) const;
  std::int64_t int_or(std::string_view key, std::int64_t otherwise) const;
  double double_or(std::string_view key, double otherwise) const;
  std::string string_or(std::string_view key, std::string_view otherwise) const;

  std::span<const GgufTensor> tensors() const { return header_.tensors; }
  /// Returns nullptr if there is no such tensor.
  const GgufTensor* find_tensor(std::string_view name) const;
  /// Throws FormatError if there is no such tensor.
  const GgufTensor& tensor(std::string_view name) const;

  std::uint64_t alignment() const { return header_.alignment; }    // bytes, of the first part
  std::uint64_t data_start() const { return header_.data_start; }  // byte in the first part where tensor data begin

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
