// SPDX-License-Identifier: Apache-2.0
// Writing safetensors: tensors in the order and form of the reference writer, streamed, and the file appears at once.
#ifndef KDLIB_IO_SAFETENSORS_WRITER_HPP
#define KDLIB_IO_SAFETENSORS_WRITER_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/tensor_info.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// Writes the bytes of one tensor when its turn comes.
struct TensorSource {
  virtual ~TensorSource() = default;
  virtual void write(AtomicFile& file) = 0;
};
template <class F>
struct TensorSourceOf final : TensorSource {
  explicit TensorSourceOf(F f) : body(std::move(f)) {}
  void write(AtomicFile& file) override { body(file); }
  F body;
};
}  // namespace detail

/// Collects tensors, then writes them in commit(). Layout: element type descending (8-byte types first), then name;
/// compact JSON, padded to a multiple of 8; "__metadata__" first. Nothing is copied before commit(): data are borrowed
/// until then.
///   SafetensorsWriter writer{folder + "/model.safetensors"};
///   writer.metadata("format", "pt");
///   writer.add("norm.weight", {576}, std::span<const float>(norm));
///   writer.add_as<bf16>("head.weight", {V, H}, std::span<const float>(head));
///   writer.commit();
/// FormatError: a name twice, "__metadata__", not UTF-8. ShapeError: shape and number of values differ. IoError: as
/// AtomicFile.
class SafetensorsWriter {
 public:
  explicit SafetensorsWriter(std::string path) : path_(std::move(path)) {}

  /// A string for "__metadata__"; weights meant for Hugging Face libraries carry ("format", "pt").
  void metadata(std::string key, std::string value);

  /// Values stored as they are.
  template <class T>
  void add(std::string name, const Shape& shape, std::span<const T> values) {
    add(std::move(name), dtype_of<T>(), shape, std::as_bytes(values));
  }
  /// Bytes stored as they are, for types without a C++ type.
  void add(std::string name, DType dtype, const Shape& shape, std::span<const std::byte> data);
  /// A tensor of another file, as it is; that file must stay open until commit().
  void add(const TensorInfo& tensor);

  /// Values converted to `To` (rounded to nearest even) while they are written.
  template <Scalar To, Scalar From>
  void add_as(std::string name, const Shape& shape, std::span<const From> values);

  /// `write(file)` is called in commit() and writes exactly the bytes of the tensor with file.write(pointer, bytes):
  /// for tensors that are computed piece by piece.
  template <class F>
  void add_from(std::string name, DType dtype, const Shape& shape, F write);

  /// Writes everything; the file is complete and on disk when this returns. Once.
  void commit();

  const std::string& path() const { return path_; }

 private:
  struct Entry {
    TensorInfo info;
    std::uint64_t bytes = 0;
    std::unique_ptr<detail::TensorSource> source;  // empty: info.data
  };
  Entry& add_entry(TensorInfo info);
  std::string header() const;

  std::string path_;
  std::vector<Entry> entries_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  bool committed_ = false;
};

KDLIB_NAMESPACE_END

#include "kdlib/io/safetensors_writer_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/io/safetensors_commit_inl.hpp"
#endif

#endif
