// SPDX-License-Identifier: Apache-2.0
// The forms in which a Hugging Face directory may hold packed linear maps. The quantization_config of its config.json
// names the form.
#ifndef KDLIB_CHECKPOINT_PACKED_FORMAT_HPP
#define KDLIB_CHECKPOINT_PACKED_FORMAT_HPP

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/io/gguf_types.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/quant/coded_data.hpp"

KDLIB_NAMESPACE_BEGIN

/// The form of packed linear maps. Keys, element types and shapes are described in docs/formats.md, "Packed
/// checkpoints".
enum class PackedForm : std::uint8_t {
  bitsandbytes,  // nf4 and fp4: X.weight with .absmax, .quant_map and a .quant_state.bitsandbytes__nf4 or __fp4
  torchao,       // int4 affine: X._weight_qdata, _weight_scale, _weight_zero_point of an Int4Tensor
  kdlib          // integers of every rule and mxfp4: X.weight with .scale and .zero; transformers refuses it
};
/// Returns the name of a form as quant_method has it: "bitsandbytes", "torchao" or "kdlib".
const char* packed_form_name(PackedForm form);

/// The packed form of a model directory, as the quantization_config of its config.json describes it.
struct PackedFormat {
  PackedForm form = PackedForm::kdlib;
  QuantizeSettings settings;  // of the kdlib form; in the other forms each tensor has its own settings
  /// Name and type of each table (embedding or head) that is stored in blocks of GGUF. The tensor is U8 [rows, bytes of
  /// a row].
  std::vector<std::pair<std::string, GgufType>> stored{};
};

/// Reads the object quantization_config of the file `where`. Returns nothing if quant_method is none of the three
/// forms. ConfigError or FormatError name the key: the 8-bit format of bitsandbytes, or a kind, rule or group size that
/// does not exist.
std::optional<PackedFormat> parse_packed_format(const Json& quantization, const std::string& where);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/packed_format_inl.hpp"
#endif

#endif
