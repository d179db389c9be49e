// SPDX-License-Identifier: Apache-2.0
// The two files of Megatron-LM's indexed data sets: PREFIX.bin holds numbers end to end, PREFIX.idx holds their places.
#ifndef KDLIB_IO_INDEXED_FILE_HPP
#define KDLIB_IO_INDEXED_FILE_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/error.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/mapped_file.hpp"

KDLIB_NAMESPACE_BEGIN

/// Codes of number types in an .idx file. `u16` also holds the bits of 16-bit floats; another file must say so.
enum class IndexedType : std::uint8_t { u8 = 1, i8 = 2, i16 = 3, i32 = 4, i64 = 5, f64 = 6, f32 = 7, u16 = 8 };

/// Bytes of one number, or 0 for a code that does not exist.
std::size_t indexed_bytes(IndexedType type);

/// Writes both files, with one sequence for each document. Neither file appears under its name before commit(). The
/// index appears last, so an index always belongs to a complete PREFIX.bin. The writer keeps 4 bytes a document in
/// memory.
class IndexedWriter {
 public:
  IndexedWriter(std::string prefix, IndexedType type);

  /// Adds a document of `count` numbers of the writer's type, in the byte order of this machine (little-endian). Throws
  /// ShapeError for 2^31 numbers or more.
  void add(const void* numbers, std::size_t count);
  void commit();

  std::int64_t documents() const { return static_cast<std::int64_t>(lengths_.size()); }
  const std::string& prefix() const { return prefix_; }

 private:
  std::string prefix_;
  IndexedType type_;
  AtomicFile bin_;
  std::vector<std::int32_t> lengths_;
};

/// Reads both files through memory maps. The constructor checks the whole index: magic, version, type, sizes, lengths,
/// that each sequence lies inside PREFIX.bin, and that the limits of documents rise from 0 to the number of sequences.
/// Throws FormatError that names the file and the place, or IoError if a file is missing.
class IndexedFile {
 public:
  explicit IndexedFile(std::string prefix);

  IndexedType type() const { return type_; }
  std::int64_t sequences() const { return sequences_; }
  std::int64_t documents() const { return documents_; }
  /// Number of elements in sequence i.
  std::int64_t length(std::int64_t i) const { return read<std::int32_t>(34 + 4 * i); }
  /// Index of the first sequence of document d. For d = documents() this is the number of sequences.
  std::int64_t first_sequence(std::int64_t d) const { return read<std::int64_t>(34 + 12 * sequences_ + 8 * d); }
  std::int64_t total() const { return total_; }  // numbers in all sequences together

  /// Copies sequence i into `out` and replaces what `out` held. Throws ConfigError unless X has as many bytes as a
  /// number of the file and i is from 0 to sequences() - 1.
  template <class X>
  void get(std::int64_t i, std::vector<X>& out) const {
    require<ConfigError>(sizeof(X) == indexed_bytes(type_), "[indexed file] ", prefix_, ": numbers of ",
                         indexed_bytes(type_), " bytes are read as numbers of ", sizeof(X));
    require<ConfigError>(i >= 0 && i < sequences_, "[indexed file] ", prefix_, ": sequence ", i, " of ", sequences_);
    out.resize(static_cast<std::size_t>(length(i)));
    if (!out.empty()) std::memcpy(out.data(), bin_.bytes().data() + offset(i), out.size() * sizeof(X));
  }

  const std::string& prefix() const { return prefix_; }

 private:
  template <class X>
  X read(std::int64_t at) const {  // values in the index are not aligned
    X value;
    std::memcpy(&value, index_.bytes().data() + at, sizeof value);
    return value;
  }
  std::int64_t offset(std::int64_t i) const { return read<std::int64_t>(34 + 4 * sequences_ + 8 * i); }
  void check_index();

  std::string prefix_;
  MappedFile index_, bin_;
  IndexedType type_ = IndexedType::i32;
  std::int64_t sequences_ = 0, documents_ = 0, total_ = 0;
};

/// Throws FormatError unless the other file (for example a mask of the tokens) has equally long sequences in the same
/// documents.
void require_same_places(const IndexedFile& file, const IndexedFile& other);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/indexed_file_inl.hpp"
#endif

#endif
