// SPDX-License-Identifier: Apache-2.0
// Templates of io/safetensors_writer.hpp. Functions without template parameters are in safetensors_commit_inl.hpp.
#ifndef KDLIB_IO_SAFETENSORS_WRITER_INL_HPP
#define KDLIB_IO_SAFETENSORS_WRITER_INL_HPP

#include "kdlib/io/safetensors_writer.hpp"
#include "kdlib/io/utf8.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
inline constexpr std::size_t convert_piece = std::size_t{1} << 16;  // elements

TensorInfo describe_tensor(std::string name, DType dtype, const Shape& shape);
}  // namespace detail

template <class F>
void SafetensorsWriter::add_from(std::string name, DType dtype, const Shape& shape, F write) {
  add_entry(detail::describe_tensor(std::move(name), dtype, shape)).source =
      std::make_unique<detail::TensorSourceOf<F>>(std::move(write));
}

template <Scalar To, Scalar From>
void SafetensorsWriter::add_as(std::string name, const Shape& shape, std::span<const From> values) {
  require<ShapeError>(static_cast<std::size_t>(shape.count()) == values.size(), "[safetensors] tensor \"",
                      printable(name), "\" ", shape, " got ", values.size(), " values");
  add_from(std::move(name), dtype_of<To>(), shape, [values](AtomicFile& file) {
    std::vector<To> piece(std::min(values.size(), detail::convert_piece));
    for (std::size_t begin = 0; begin < values.size(); begin += piece.size()) {
      const std::size_t n = std::min(piece.size(), values.size() - begin);
      for (std::size_t i = 0; i < n; ++i) detail::convert_element(values[begin + i], piece[i]);
      file.write(piece.data(), n * sizeof(To));
    }
  });
}

KDLIB_NAMESPACE_END

#endif
