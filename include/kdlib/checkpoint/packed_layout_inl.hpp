// SPDX-License-Identifier: Apache-2.0
// The tensors and descriptions of packed directories (packed_save.hpp).
#ifndef KDLIB_CHECKPOINT_PACKED_LAYOUT_INL_HPP
#define KDLIB_CHECKPOINT_PACKED_LAYOUT_INL_HPP

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/checkpoint/packed_parts.hpp"
#include "kdlib/checkpoint/packed_save.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/quant/four_bit_floats.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class E>
std::vector<std::uint8_t> raw_bytes(const std::vector<E>& values) {
  std::vector<std::uint8_t> out(values.size() * sizeof(E));
  if (!out.empty()) std::memcpy(out.data(), values.data(), out.size());
  return out;
}

/// Two codes a byte of the flattened matrix; `filler` ends an odd count.
KDLIB_FUNC std::vector<std::uint8_t> nibble_bytes(const CodedData& data, bool first_high, std::uint8_t filler) {
  const std::int64_t n = data.rows * data.columns;
  std::vector<std::uint8_t> all(static_cast<std::size_t>(n + n % 2), filler), out(all.size() / 2);
  parallel_for(data.rows, 1 + 4096 / (data.columns + 1), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      unpack_codes(data.codes.data() + r * data.row_bytes(), 4,
                   std::span<std::uint8_t>(all).subspan(static_cast<std::size_t>(r * data.columns),
                                                        static_cast<std::size_t>(data.columns)));
  });
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] =
        static_cast<std::uint8_t>(first_high ? all[2 * i] << 4 | all[2 * i + 1] : all[2 * i] | all[2 * i + 1] << 4);
  return out;
}

KDLIB_FUNC std::string quant_state_text(const QuantizeSettings& settings, std::int64_t rows, std::int64_t columns,
                                        float nested_offset) {
  JsonWriter state;
  state.begin_object()
      .member("quant_type", packed_kind_name(settings.kind))
      .member("blocksize", settings.group_size)
      .member("dtype", "float32");
  state.key("shape").begin_array().value(rows).value(columns).end_array();
  if (settings.double_quantized)
    state.member("nested_blocksize", 256).member("nested_dtype", "float32").member("nested_offset", nested_offset);
  return state.end_object().text();
}

KDLIB_FUNC std::vector<PackedPart> bitsandbytes_parts(const QuantizeSettings& settings, const CodedRanges& r) {
  const PackedKind kind = settings.kind;
  const std::string state = quant_state_text(settings, r.rows, r.columns, r.nested_offset);
  const auto filler = static_cast<std::uint8_t>(kind == PackedKind::nf4 ? 7 : 0);  // the code of 0
  std::vector<PackedPart> parts = {{".weight", DType::u8, Shape{(r.rows * r.columns + 1) / 2, 1},
                                    [filler](const CodedData& d) { return nibble_bytes(d, true, filler); }},
                                   {".weight.quant_map", DType::f32, Shape{16},
                                    [kind](const CodedData&) {
                                      const std::array<float, 16> levels = code_levels(kind);
                                      return raw_bytes(std::vector<float>(levels.begin(), levels.end()));
                                    }},
                                   {concat(".weight.quant_state.bitsandbytes__", packed_kind_name(kind)), DType::u8,
                                    Shape{static_cast<std::int64_t>(state.size())}, [state](const CodedData&) {
                                      return std::vector<std::uint8_t>(state.begin(), state.end());
                                    }}};
  if (!settings.double_quantized) {
    parts.push_back(
        {".weight.absmax", DType::f32, Shape{r.groups()}, [](const CodedData& d) { return raw_bytes(d.scale); }});
    return parts;
  }
  parts.push_back({".weight.absmax", DType::u8, Shape{r.groups()}, [](const CodedData& d) { return d.small_scale; }});
  parts.push_back({".weight.nested_absmax", DType::f32, Shape{(r.groups() + 255) / 256},
                   [](const CodedData& d) { return raw_bytes(d.nested_scale); }});
  parts.push_back(
      {".weight.nested_quant_map", DType::f32, Shape{256}, [](const CodedData& d) { return raw_bytes(d.nested_map); }});
  return parts;
}

/// [rows, groups] as [groups, rows].
KDLIB_FUNC std::vector<std::uint8_t> transposed_bytes(const std::vector<float>& values, std::int64_t rows) {
  const std::size_t n = static_cast<std::size_t>(rows), groups = values.size() / n;
  std::vector<float> out(values.size());
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t g = 0; g < groups; ++g) out[g * n + r] = values[r * groups + g];
  return raw_bytes(out);
}

KDLIB_FUNC std::vector<PackedPart> torchao_parts(const CodedRanges& r) {
  const Shape across{r.row_groups(), r.rows};
  return {
      {"._weight_qdata", DType::i8, Shape{r.rows, r.columns / 2},
       [](const CodedData& d) { return nibble_bytes(d, false, 0); }},
      {"._weight_scale", DType::f32, across, [](const CodedData& d) { return transposed_bytes(d.scale, d.rows); }},
      {"._weight_zero_point", DType::f32, across, [](const CodedData& d) { return transposed_bytes(d.zero, d.rows); }}};
}

KDLIB_FUNC std::vector<PackedPart> kdlib_parts(const QuantizeSettings& settings, const CodedRanges& r) {
  const Shape factors{r.rows, r.row_groups()};
  CodedData sizes;
  sizes.settings = settings;
  sizes.columns = r.columns;
  std::vector<PackedPart> parts = {
      {".weight", DType::u8, Shape{r.rows * stored_row_bytes(sizes), 1}, [](const CodedData& d) {
         const std::int64_t width = stored_row_bytes(d);
         std::vector<std::uint8_t> out(static_cast<std::size_t>(d.rows * width));
         for (std::int64_t row = 0; row < d.rows; ++row)
           std::memcpy(out.data() + row * width, d.codes.data() + row * d.row_bytes(), static_cast<std::size_t>(width));
         return out;
       }}};
  if (settings.kind == PackedKind::mxfp4)
    parts.push_back({".weight.scale", DType::u8, factors, [](const CodedData& d) { return d.small_scale; }});
  else parts.push_back({".weight.scale", DType::f32, factors, [](const CodedData& d) { return raw_bytes(d.scale); }});
  if (r.zero != nullptr)
    parts.push_back({".weight.zero", DType::f32, factors, [](const CodedData& d) { return raw_bytes(d.zero); }});
  return parts;
}

KDLIB_FUNC std::vector<PackedPart> packed_layout(PackedForm form, const QuantizeSettings& settings,
                                                 const CodedRanges& r) {
  return form == PackedForm::bitsandbytes ? bitsandbytes_parts(settings, r)
         : form == PackedForm::torchao    ? torchao_parts(r)
                                          : kdlib_parts(settings, r);
}

KDLIB_FUNC std::string quantization_config_text(PackedForm form, const QuantizeSettings& settings,
                                                const std::vector<std::string>& plain,
                                                const std::vector<std::pair<std::string, GgufType>>& stored) {
  JsonWriter out;
  out.begin_object().member("quant_method", packed_form_name(form));
  if (form == PackedForm::bitsandbytes) {
    out.member("load_in_4bit", true)
        .member("load_in_8bit", false)
        .member("bnb_4bit_quant_type", packed_kind_name(settings.kind));
    out.member("bnb_4bit_use_double_quant", settings.double_quantized)
        .member("bnb_4bit_compute_dtype", "float32")
        .member("bnb_4bit_quant_storage", "uint8");
    out.member("llm_int8_enable_fp32_cpu_offload", false)
        .member("llm_int8_has_fp16_weight", false)
        .member("llm_int8_skip_modules", plain)
        .member("llm_int8_threshold", 6.0);
  } else if (form == PackedForm::torchao) {
    out.key("quant_type")
        .begin_object()
        .key("default")
        .begin_object()
        .member("_type", "Int4WeightOnlyConfig")
        .member("_version", 2);
    out.key("_data").begin_object().member("group_size", settings.group_size).end_object().end_object().end_object();
    out.member("modules_to_not_convert", plain).member("include_input_output_embeddings", false);
  } else {
    out.member("kind", packed_kind_name(settings.kind)).member("group_size", settings.group_size);
    if (is_integer_kind(settings.kind)) out.member("rule", int4_rule_name(settings.rule));
    out.member("modules_to_not_convert", plain);
  }
  if (!stored.empty()) {
    out.key("kdlib_stored").begin_object();
    for (const auto& [name, type] : stored) out.member(name, gguf_type_name(type));
    out.end_object();
  }
  return out.end_object().text();
}

KDLIB_FUNC SafetensorsMetadata torchao_metadata(const std::vector<PackedModule>& coded,
                                                const std::vector<SavedUnit>& plain) {
  SafetensorsMetadata metadata;
  JsonWriter names;
  names.begin_array();
  for (const PackedModule& m : coded) {
    JsonWriter entry;
    entry.begin_object().member("_type", "Int4Tensor").key("_data").begin_object();
    entry.key("block_size").begin_array().value(1).value(m.group_size).end_array();
    entry.key("shape").begin_array().value(m.rows).value(m.columns).end_array();
    entry.key("activation_dtype")
        .begin_object()
        .member("_type", "torch.dtype")
        .member("_data", "bfloat16")
        .end_object()
        .end_object();
    entry.key("_tensor_data_names")
        .begin_array()
        .value("qdata")
        .value("scale")
        .value("zero_point")
        .end_array()
        .end_object();
    metadata.emplace_back(m.path + ".weight", entry.text());
    names.value(m.path + ".weight");
  }
  for (const SavedUnit& unit : plain) {
    metadata.emplace_back(unit.pieces[0].name, "{\"_type\":\"Tensor\"}");
    names.value(unit.pieces[0].name);
  }
  metadata.emplace_back("tensor_names", names.end_array().text());
  return metadata;
}

KDLIB_FUNC PackedForm choose_packed_form(const std::optional<PackedForm>& asked, const QuantizeSettings& settings,
                                         const std::string& cut_module, std::int64_t columns) {
  const bool table = settings.kind == PackedKind::nf4 || settings.kind == PackedKind::fp4;
  const bool affine = settings.kind == PackedKind::int4 && settings.rule == Int4Rule::affine;
  if (!asked)
    return table ? PackedForm::bitsandbytes : affine && cut_module.empty() ? PackedForm::torchao : PackedForm::kdlib;
  const char* name = packed_form_name(*asked);
  require<ConfigError>(*asked != PackedForm::bitsandbytes || table, "[save_packed] the form of ", name,
                       " holds nf4 and fp4, not ", describe(settings));
  require<ConfigError>(*asked != PackedForm::torchao || affine, "[save_packed] the form of ", name,
                       " holds int4 affine, not ", describe(settings));
  require<ConfigError>(*asked != PackedForm::kdlib || !table, "[save_packed] the form of ", name,
                       " holds integers and mxfp4; ", describe(settings), " has that of bitsandbytes");
  require<ConfigError>(*asked != PackedForm::torchao || cut_module.empty(), "[save_packed] the form of ", name,
                       " has no short groups: rows of ", columns, " of ", cut_module, " do not divide into groups of ",
                       settings.group_size, "; the form of kdlib holds them");
  return *asked;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
