// SPDX-License-Identifier: Apache-2.0
// Writes GGUF files (version 3): metadata, list of tensors and data, in the order in which they were added. The file
// appears under its name all at once.
#ifndef KDLIB_IO_GGUF_WRITER_HPP
#define KDLIB_IO_GGUF_WRITER_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/shape.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/gguf_types.hpp"
#include "kdlib/io/gguf_value.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// Writes the bytes of one tensor when commit() reaches the tensor.
struct GgufSource {
  virtual ~GgufSource() = default;
  virtual void write(AtomicFile& file) = 0;
};
template <class F>
struct GgufSourceOf final : GgufSource {
  explicit GgufSourceOf(F f) : body(std::move(f)) {}
  void write(AtomicFile& file) override { body(file); }
  F body;
};
}  // namespace detail

/// Collects keys, which are copied, and tensors, whose data are borrowed until commit(). commit() writes the file.
///   GgufWriter writer{"tiny.gguf"};
///   writer.string("general.architecture", "llama").u32("llama.block_count", 1).strings("t", {"x", "yz"});
///   writer.add("a.weight", GgufType::f32, Shape{2, 3}, std::as_bytes(std::span(values)));
///   writer.commit();
/// Throws FormatError for a key that is empty, above 65535 bytes or there twice, an empty array, a text that is not
/// UTF-8, a tensor's name that is empty, 64 bytes or longer, or there twice, and an alignment that is not a power of
/// two of at least 8. Throws ShapeError for a shape of rank 0 or with an extent of 0, for rows that are not a whole
/// number of blocks, and for data of another size. Throws IoError as AtomicFile does.
class GgufWriter {
 public:
  /// `alignment` of tensor data in bytes. A value other than 32 is written as the key general.alignment.
  explicit GgufWriter(std::string path, std::uint32_t alignment = 32);

  GgufWriter& u32(std::string_view key, std::uint32_t value);
  GgufWriter& i32(std::string_view key, std::int32_t value);
  GgufWriter& f32(std::string_view key, float value);
  GgufWriter& boolean(std::string_view key, bool value);
  GgufWriter& string(std::string_view key, std::string_view value);
  GgufWriter& strings(std::string_view key, const std::vector<std::string>& values);
  GgufWriter& i32s(std::string_view key, const std::vector<std::int32_t>& values);
  GgufWriter& f32s(std::string_view key, const std::vector<float>& values);
  GgufWriter& booleans(std::string_view key, const std::vector<bool>& values);
  /// Copies a key and its value from another file.
  GgufWriter& copy(const GgufValue& value);
  bool has(std::string_view key) const;

  /// Adds a tensor whose `data` are blocks, which are stored unchanged. `shape` is row-major, as GgufTensor::shape.
  void add(std::string name, GgufType type, const Shape& shape, std::span<const std::byte> data);
  /// Adds a tensor whose bytes are made late: commit() calls `write(file)`, which must write exactly the bytes of the
  /// tensor with file.write(pointer, bytes).
  template <class F>
  void add_from(std::string name, GgufType type, const Shape& shape, F write) {
    add_entry(std::move(name), type, shape).source = std::make_unique<detail::GgufSourceOf<F>>(std::move(write));
  }

  /// Bytes of the tensor data that were added so far, padding included.
  std::uint64_t data_bytes() const { return data_bytes_; }
  /// Writes everything. The file is complete and on disk when this returns. May be called once.
  void commit();

 private:
  struct Entry {
    std::string name;
    GgufType type;
    Shape shape;
    std::uint64_t offset = 0, bytes = 0;
    std::span<const std::byte> data;
    std::unique_ptr<detail::GgufSource> source;  // empty if the bytes are in `data`
  };
  Entry& add_entry(std::string name, GgufType type, const Shape& shape);
  void begin_value(std::string_view key, GgufValue::Kind kind);
  void begin_array(std::string_view key, GgufValue::Kind element, std::size_t count);
  template <class N>
  void put(N number);
  void put_text(std::string_view text);
  std::string tensor_list() const;

  std::string path_, pairs_;  // pairs_: keys and values in the bytes of the file
  std::uint64_t alignment_ = 32, data_bytes_ = 0;
  std::vector<std::string> keys_;
  std::vector<Entry> entries_;
  bool committed_ = false;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/gguf_writer_inl.hpp"
#endif

#endif
