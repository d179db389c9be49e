// SPDX-License-Identifier: Apache-2.0
// Writes safetensors: tensors in the order and form of the reference writer. Data are streamed, and the file appears
// all at once.
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
/// Writes the bytes of one tensor when commit() reaches the tensor.
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

/// Collects tensors and writes them in commit(). The data are borrowed until commit(); nothing is copied. Tensors are
/// sorted by element type, descending (8-byte types first), then by name. The header is compact JSON, padded to a
/// multiple of 8 bytes, with "__metadata__" first.
///   SafetensorsWriter writer{folder + "/model.safetensors"};
///   writer.metadata("format", "pt");
///   writer.add("norm.weight", {576}, std::span<const float>(norm));
///   writer.add_as<bf16>("head.weight", {V, H}, std::span<const float>(head));
///   writer.commit();
/// Throws FormatError for a name that is there twice, is "__metadata__" or is not UTF-8. Throws ShapeError if the
/// number of values is not that of the shape. Throws IoError as AtomicFile does.
class SafetensorsWriter {
 public:
  explicit SafetensorsWriter(std::string path) : path_(std::move(path)) {}

  /// Adds a text to "__metadata__". Weights for Hugging Face libraries carry ("format", "pt").
  void metadata(std::string key, std::string value);

  /// Adds values that are stored unchanged.
  template <class T>
  void add(std::string name, const Shape& shape, std::span<const T> values) {
    add(std::move(name), dtype_of<T>(), shape, std::as_bytes(values));
  }
  /// Adds bytes that are stored unchanged, for element types without a C++ type.
  void add(std::string name, DType dtype, const Shape& shape, std::span<const std::byte> data);
  /// Adds a tensor of another file, unchanged. That file must stay open until commit().
  void add(const TensorInfo& tensor);

  /// Adds values that are converted to `To` (rounded to nearest even) while they are written.
  template <Scalar To, Scalar From>
  void add_as(std::string name, const Shape& shape, std::span<const From> values);

  /// Adds a tensor that is computed piece by piece: commit() calls `write(file)`, which must write exactly the bytes of
  /// the tensor with file.write(pointer, bytes).
  template <class F>
  void add_from(std::string name, DType dtype, const Shape& shape, F write);

  /// Writes everything. The file is complete and on disk when this returns. May be called once.
  void commit();

  const std::string& path() const { return path_; }

 private:
  struct Entry {
    TensorInfo info;
    std::uint64_t bytes = 0;
    std::unique_ptr<detail::TensorSource> source;  // empty if the bytes are in info.data
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
