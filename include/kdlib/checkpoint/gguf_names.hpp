// SPDX-License-Identifier: Apache-2.0
// Where a parameter stands in a GGUF file: tensor names, and which row of the parameter each row of a tensor is. Reader
// and writer share it.
#ifndef KDLIB_CHECKPOINT_GGUF_NAMES_HPP
#define KDLIB_CHECKPOINT_GGUF_NAMES_HPP

#include <string>
#include <vector>

#include "kdlib/checkpoint/tensor_rows.hpp"
#include "kdlib/core/shape.hpp"
#include "kdlib/model/decoder_config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The architecture of GGUF files of a family.
const char* gguf_architecture(Family family);

/// One tensor of a GGUF file and the rows of the parameter [rows, width] that it holds. A vector has rows of one value.
struct GgufPart : TensorRows {
  std::string name;
  Shape shape;  // as GgufTensor::shape
};

/// The tensors that a parameter is in a file of this config's architecture: one, or gate and up of packed experts.
std::vector<GgufPart> gguf_parts(const std::string& name, const Shape& shape, const DecoderConfig& config);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/gguf_names_inl.hpp"
#endif

#endif
