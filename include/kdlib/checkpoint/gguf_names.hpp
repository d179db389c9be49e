// SPDX-License-Identifier: Apache-2.0
// Where a GGUF file holds a parameter: the names of tensors, and which row of the parameter each row of a tensor is.
// Reader and writer share these functions.
#ifndef KDLIB_CHECKPOINT_GGUF_NAMES_HPP
#define KDLIB_CHECKPOINT_GGUF_NAMES_HPP

#include <string>
#include <vector>

#include "kdlib/checkpoint/tensor_rows.hpp"
#include "kdlib/core/shape.hpp"
#include "kdlib/model/decoder_config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Returns the architecture that GGUF files of a family name.
const char* gguf_architecture(Family family);

/// One tensor of a GGUF file and the rows of the parameter [rows, width] that the tensor holds. A vector has rows of
/// one value.
struct GgufPart : TensorRows {
  std::string name;
  Shape shape;  // in the order of GgufTensor::shape
};

/// Returns the tensors that hold a parameter in a file of the architecture of `config`: one tensor, or for the
/// parameter gate_up of experts the two tensors gate and up.
std::vector<GgufPart> gguf_parts(const std::string& name, const Shape& shape, const DecoderConfig& config);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/gguf_names_inl.hpp"
#endif

#endif
