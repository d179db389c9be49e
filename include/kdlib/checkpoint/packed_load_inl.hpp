// SPDX-License-Identifier: Apache-2.0
// Linear maps that safetensors hold packed (packed_format.hpp), read into CodedData; every count and shape is checked
// before memory is taken.
#ifndef KDLIB_CHECKPOINT_PACKED_LOAD_INL_HPP
#define KDLIB_CHECKPOINT_PACKED_LOAD_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kdlib/checkpoint/packed_parts.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/quant/four_bit_floats.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC bool PackedParts::has(const std::string& suffix) const { return files_.find(module_ + suffix) != nullptr; }

KDLIB_FUNC std::string PackedParts::place() const {
  return concat("[decoder] ", files_.path(), ": ", module_, ".weight ", shape_, ": ");
}

KDLIB_FUNC const TensorInfo& PackedParts::take(const std::string& suffix, const char* because) {
  const TensorInfo* t = files_.find(module_ + suffix);
  require<FormatError>(t != nullptr, place(), "tensor \"", module_, suffix, "\" is missing, and ", because);
  names_.push_back(t->name);
  return *t;
}

KDLIB_FUNC const TensorInfo& PackedParts::take_bytes(const std::string& suffix, const Shape& shape,
                                                     const char* because) {
  const TensorInfo& t = take(suffix, because);
  require<FormatError>(t.dtype == DType::u8 || t.dtype == DType::i8, place(), t.text(), " must be U8");
  check_shape(t, shape);
  return t;
}

KDLIB_FUNC std::vector<std::uint8_t> PackedParts::take_codes(const std::string& suffix, const Shape& shape,
                                                             const char* because) {
  const TensorInfo& t = take_bytes(suffix, shape, because);
  std::vector<std::uint8_t> bytes(t.data.size());
  if (!bytes.empty()) std::memcpy(bytes.data(), t.data.data(), bytes.size());
  return bytes;
}

KDLIB_FUNC std::vector<float> PackedParts::take_numbers(const std::string& suffix, const Shape& shape,
                                                        const char* because, bool f32_alone) {
  const TensorInfo& t = take(suffix, because);
  require<FormatError>(t.dtype == DType::f32 || (!f32_alone && (t.dtype == DType::bf16 || t.dtype == DType::f16)),
                       place(), t.text(), " must be F32", f32_alone ? "" : ", BF16 or F16");
  check_shape(t, shape);
  std::vector<float> values = read_as<float>(t);
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i])) fail<FormatError>(place(), t.text(), ": element ", i, " is not finite");
  return values;
}

KDLIB_FUNC void PackedParts::check_shape(const TensorInfo& t, const Shape& shape) const {
  require<FormatError>(t.extents.size() <= static_cast<std::size_t>(Shape::max_rank) && t.shape() == shape, place(),
                       t.text(), " must be ", shape);
}

/// Calls put(row, codes) for every row, in parallel; nibble(i) is code i of the flattened matrix. Fills data.codes.
template <class Nibble>
void pack_rows(CodedData& data, Nibble&& nibble) {
  data.codes.resize(static_cast<std::size_t>(data.rows * data.row_bytes()));
  parallel_for(data.rows, 1 + 4096 / (data.columns + 1), [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(data.columns));
    for (std::int64_t r = begin; r < end; ++r) {
      for (std::int64_t c = 0; c < data.columns; ++c) codes[static_cast<std::size_t>(c)] = nibble(r * data.columns + c);
      pack_codes(codes, data.bits(), data.codes.data() + r * data.row_bytes());
    }
  });
}

/// The second part of bitsandbytes' state: scales in 8 bits.
KDLIB_FUNC void read_nested_scales(PackedParts& parts, const Json& state, CodedData& data) {
  const char* because = "the quant_state says that scales are nested";
  const std::int64_t groups = data.groups(), block = state.at("nested_blocksize").as_int();
  require<FormatError>(block == 256, parts.place(), state.path(), ": nested_blocksize is ", block,
                       ", 256 is supported");
  const std::string dtype = state.string_or("nested_dtype", "float32");
  require<FormatError>(dtype == "float32", parts.place(), state.path(), ": nested_dtype is \"", dtype,
                       "\", float32 is supported");
  data.settings.double_quantized = true;
  data.small_scale = parts.take_codes(".weight.absmax", Shape{groups}, because);
  data.nested_scale = parts.take_numbers(".weight.nested_absmax", Shape{(groups + 255) / 256}, because, true);
  data.nested_map = parts.take_numbers(".weight.nested_quant_map", Shape{256}, because, true);
  const double offset = state.at("nested_offset").as_double();
  require<FormatError>(std::abs(offset) <= 3.4e38, parts.place(), state.path(), ": nested_offset is ", offset,
                       ", beyond float");
  data.nested_offset = static_cast<float>(offset);
}

/// Settings of what a quant_state describes, compared with the key and the shape that the model asks for.
KDLIB_FUNC QuantizeSettings parse_quant_state(const PackedParts& parts, const Json& state, PackedKind kind) {
  QuantizeSettings settings;
  const std::string type(state.at("quant_type").as_string());
  require<FormatError>(type == packed_kind_name(kind), parts.place(), state.path(), ": quant_type is \"", type,
                       "\", the key ends with ", packed_kind_name(kind));
  settings.kind = kind;
  settings.group_size = state.at("blocksize").as_int();
  const std::string dtype(state.at("dtype").as_string());
  require<FormatError>(dtype == "float32" || dtype == "bfloat16" || dtype == "float16", parts.place(), state.path(),
                       ": dtype is \"", dtype, "\"; it can be float32, bfloat16 or float16");
  const Json shape = state.at("shape");
  require<FormatError>(shape.is_array() && shape.size() == 2 && shape[0].as_int() == parts.shape()[0] &&
                           shape[1].as_int() == parts.shape()[1],
                       parts.place(), shape.path(), " is another shape than the model's");
  try {
    check_quantize_settings(settings);
  } catch (const ConfigError& error) {
    fail<FormatError>(parts.place(), state.path(), ": blocksize: ", error.what());
  }
  return settings;
}

KDLIB_FUNC std::optional<CodedData> read_bitsandbytes(PackedParts& parts) {
  const std::string key = ".weight.quant_state.bitsandbytes__";
  const bool nf4 = parts.has(key + "nf4"), fp4 = parts.has(key + "fp4");
  require<FormatError>(!nf4 || !fp4, parts.place(), "both a quant_state of nf4 and one of fp4 are there");
  if (!nf4 && !fp4) {
    const std::string any = parts.module() + ".weight.quant_state";
    for (const TensorInfo* t : parts.files().tensors())
      if (t->name.rfind(any, 0) == 0)
        fail<FormatError>(parts.place(), t->text(), ": nf4 and fp4 are read, this is unknown");
    for (const char* part : {".weight.absmax", ".weight.quant_map", ".weight.SCB"})
      require<FormatError>(!parts.has(part), parts.place(), "tensor \"", parts.module(), part, "\" is there without \"",
                           parts.module(), key, "nf4\" or \"...fp4\"");
    return std::nullopt;
  }
  const PackedKind kind = nf4 ? PackedKind::nf4 : PackedKind::fp4;
  const TensorInfo& text = parts.take(key + packed_kind_name(kind), "the weight is packed");
  const Json state = Json::parse(std::string(reinterpret_cast<const char*>(text.data.data()), text.data.size()),
                                 concat(*text.file, ": ", text.name));
  CodedData data;
  data.settings = parse_quant_state(parts, state, kind);
  data.rows = parts.shape()[0];
  data.columns = parts.shape()[1];
  const std::int64_t bytes = (data.rows * data.columns + 1) / 2;
  const TensorInfo& codes =
      parts.take(".weight", "its quant_state is there");  // another quant_storage has the same bytes in another type
  require<FormatError>(static_cast<std::int64_t>(codes.data.size()) == bytes, parts.place(), codes.text(), " has ",
                       codes.data.size(), " bytes, the codes take ", bytes);
  const std::vector<float> map =
      parts.take_numbers(".weight.quant_map", Shape{16}, "the quant_state asks for it", true);
  const std::array<float, 16> levels = code_levels(kind);
  for (std::size_t i = 0; i < 16; ++i)
    require<FormatError>(map[i] == levels[i], parts.place(), parts.module(), ".weight.quant_map: element ", i, " is ",
                         map[i], ", in ", packed_kind_name(kind), " it is ", levels[i]);
  if (state.contains("nested_offset") || state.contains("nested_blocksize")) read_nested_scales(parts, state, data);
  else data.scale = parts.take_numbers(".weight.absmax", Shape{data.groups()}, "the quant_state asks for it", true);
  if (parts.planning()) return data;
  pack_rows(data, [&](std::int64_t i) {
    const auto byte = std::to_integer<std::uint8_t>(codes.data[static_cast<std::size_t>(i / 2)]);
    return static_cast<std::uint8_t>(i % 2 == 0 ? byte >> 4 : byte & 15);
  });
  return data;
}

/// What the metadata of torchao's flattened form say of a tensor; empty where they do not know it. Each shard has them
/// whole, or its own part.
KDLIB_FUNC std::optional<Json> torchao_entry(const SafetensorsDirectory& files, const std::string& name) {
  for (const SafetensorsFile& file : files.files())
    if (const auto text = file.metadata(name))
      return Json::parse(std::string(*text), concat(file.path(), ": __metadata__ of ", name));
  return std::nullopt;
}

KDLIB_FUNC std::optional<CodedData> read_torchao(PackedParts& parts) {
  const std::string name = parts.module() + ".weight";
  const std::optional<Json> entry = torchao_entry(parts.files(), name);
  const std::string type = entry ? std::string(entry->at("_type").as_string()) : "Tensor";
  if (type == "Tensor") {
    require<FormatError>(!parts.has("._weight_qdata"), parts.place(), "tensor \"", parts.module(),
                         "._weight_qdata\" is there, and the metadata of the file do not say what it is");
    return std::nullopt;
  }
  require<FormatError>(type == "Int4Tensor", parts.place(), "torchao's tensor type ", type,
                       " is not read; Int4Tensor is");
  require<FormatError>(!parts.has("._weight_act_pre_scale"), parts.place(),
                       "activations are scaled (_weight_act_pre_scale), which is not supported");
  const Json attributes = entry->at("_data"), block = attributes.at("block_size"), shape = attributes.at("shape");
  CodedData data;
  data.rows = parts.shape()[0];
  data.columns = parts.shape()[1];
  require<FormatError>(
      shape.is_array() && shape.size() == 2 && shape[0].as_int() == data.rows && shape[1].as_int() == data.columns,
      parts.place(), shape.path(), " is another shape than the model's");
  require<FormatError>(block.is_array() && block.size() == 2 && block[0].as_int() == 1 && block[1].as_int() > 0,
                       parts.place(), block.path(), " is not [1, group]");
  data.settings = {.kind = PackedKind::int4, .group_size = block[1].as_int(), .rule = Int4Rule::affine};
  require<FormatError>(data.columns % data.settings.group_size == 0 && data.columns % 2 == 0, parts.place(), "rows of ",
                       data.columns, " do not divide into groups of ", data.settings.group_size, " and pairs of codes");
  const char* because = "the metadata of the file say that the weight is an Int4Tensor";
  const Shape across{data.row_groups(), data.rows};
  const std::vector<float> scale = parts.take_numbers("._weight_scale", across, because),
                           zero = parts.take_numbers("._weight_zero_point", across, because);
  const TensorInfo& codes = parts.take_bytes("._weight_qdata", Shape{data.rows, data.columns / 2}, because);
  data.scale.resize(scale.size());
  data.zero.resize(zero.size());
  for (std::int64_t r = 0, i = 0; r < data.rows; ++r)
    for (std::int64_t g = 0; g < data.row_groups(); ++g, ++i) {
      data.scale[static_cast<std::size_t>(i)] = scale[static_cast<std::size_t>(g * data.rows + r)];
      data.zero[static_cast<std::size_t>(i)] = zero[static_cast<std::size_t>(g * data.rows + r)];
    }
  if (parts.planning()) return data;
  pack_rows(data, [&](std::int64_t i) {
    const auto byte = std::to_integer<std::uint8_t>(codes.data[static_cast<std::size_t>(i / 2)]);
    return static_cast<std::uint8_t>(i % 2 == 0 ? byte & 15 : byte >> 4);
  });
  return data;
}

KDLIB_FUNC std::int64_t stored_row_bytes(const CodedData& data) { return (data.columns * data.bits() + 7) / 8; }

KDLIB_FUNC std::optional<CodedData> read_kdlib(PackedParts& parts, const QuantizeSettings& settings) {
  const TensorInfo* weight = parts.files().find(parts.module() + ".weight");
  if (!parts.has(".weight.scale") && (weight == nullptr || weight->dtype != DType::u8)) return std::nullopt;
  const char* because = "the weight is packed";
  CodedData data;
  data.settings = settings;
  data.rows = parts.shape()[0];
  data.columns = parts.shape()[1];
  const std::int64_t width = stored_row_bytes(data);
  const Shape factors{data.rows, data.row_groups()};
  const TensorInfo& codes = parts.take_bytes(".weight", Shape{data.rows * width, 1}, because);
  if (settings.kind == PackedKind::mxfp4) {
    data.small_scale = parts.take_codes(".weight.scale", factors, because);
    for (std::size_t i = 0; i < data.small_scale.size(); ++i)
      if (data.small_scale[i] == 255)
        fail<FormatError>(parts.place(), parts.module(), ".weight.scale: element ", i, " is 255 (NaN)");
  } else {
    data.scale = parts.take_numbers(".weight.scale", factors, because);
  }
  if (is_integer_kind(settings.kind) && settings.rule != Int4Rule::symmetric)
    data.zero = parts.take_numbers(".weight.zero", factors, because);
  if (parts.planning()) return data;
  data.codes.assign(static_cast<std::size_t>(data.rows * data.row_bytes()), 0);
  const int spare = static_cast<int>(width * 8 - data.columns * data.bits());
  for (std::int64_t r = 0; r < data.rows; ++r) {
    std::uint8_t* row = data.codes.data() + r * data.row_bytes();
    std::memcpy(row, codes.data.data() + r * width, static_cast<std::size_t>(width));
    if (spare != 0 && row[width - 1] >> (8 - spare) != 0)
      fail<FormatError>(parts.place(), codes.text(), ": row ", r, " has bits behind its last code");
  }
  return data;
}

KDLIB_FUNC std::optional<CodedData> read_packed(PackedParts& parts, const PackedFormat& format) {
  switch (format.form) {
    case PackedForm::bitsandbytes:
      return read_bitsandbytes(parts);
    case PackedForm::torchao:
      return read_torchao(parts);
    default:
      return read_kdlib(parts, format.settings);
  }
}

KDLIB_FUNC void refuse_packed_table(const SafetensorsDirectory& files, const std::string& module) {
  for (const char* part : {".weight.absmax", "._weight_qdata", ".weight.scale", ".weight.SCB"})
    require<FormatError>(files.find(concat(module, part)) == nullptr, "[decoder] ", files.path(), ": ", module,
                         " is packed (tensor \"", module, part,
                         "\"); packed linear maps of the layers are read, embedding and head must be F32, BF16 or F16");
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
