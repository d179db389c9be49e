// SPDX-License-Identifier: Apache-2.0
// Bodies of packed_format.hpp.
#ifndef KDLIB_CHECKPOINT_PACKED_FORMAT_INL_HPP
#define KDLIB_CHECKPOINT_PACKED_FORMAT_INL_HPP

#include "kdlib/checkpoint/packed_format.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/quant/gguf_blocks.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC const char* packed_form_name(PackedForm form) {
  return form == PackedForm::bitsandbytes ? "bitsandbytes" : form == PackedForm::torchao ? "torchao" : "kdlib";
}

namespace detail {
/// The member kdlib_stored: {"model.embed_tokens.weight": "Q8_0"}.
KDLIB_FUNC void parse_stored_tables(const Json& quantization, const std::string& where, PackedFormat& format) {
  const auto stored = quantization.find_set("kdlib_stored");
  if (!stored) return;
  for (const auto& [name, value] : stored->members()) {
    require<FormatError>(name == "model.embed_tokens.weight" || name == "lm_head.weight", "[decoder] ", where,
                         ": quantization_config.kdlib_stored names ", printable(name),
                         "; it can name model.embed_tokens.weight and lm_head.weight");
    const std::string_view wanted = value.as_string();
    std::optional<GgufType> type;
    for (std::uint32_t i = 0; i < gguf_types_size; ++i)
      if (gguf_types[i].name == wanted && can_decode(static_cast<GgufType>(i))) type = static_cast<GgufType>(i);
    require<FormatError>(type.has_value(), "[decoder] ", where, ": quantization_config.kdlib_stored: the type ",
                         printable(wanted), " is not decoded");
    format.stored.emplace_back(name, *type);
  }
}
}  // namespace detail

KDLIB_FUNC std::optional<PackedFormat> parse_packed_format(const Json& quantization, const std::string& where) {
  const std::string method = quantization.string_or("quant_method", "?");
  PackedFormat format;
  detail::parse_stored_tables(quantization, where, format);
  if (method == "torchao") {
    format.form = PackedForm::torchao;
    return format;
  }
  if (method == "bitsandbytes") {
    require<ConfigError>(
        !quantization.bool_or("load_in_8bit", false) && !quantization.bool_or("_load_in_8bit", false), "[decoder] ",
        where, ": quantization_config.load_in_8bit is true: the 8 bits of bitsandbytes are not read; nf4 and fp4 are");
    format.form = PackedForm::bitsandbytes;
    return format;
  }
  if (method != "kdlib") return std::nullopt;
  try {
    format.settings.kind = packed_kind(std::string(quantization.at("kind").as_string()));
    const std::string rule = quantization.string_or("rule", "symmetric");
    for (const Int4Rule r : {Int4Rule::symmetric, Int4Rule::affine, Int4Rule::asymmetric})
      if (rule == int4_rule_name(r)) format.settings.rule = r;
    require<ConfigError>(rule == int4_rule_name(format.settings.rule), "the rule \"", rule,
                         "\" is unknown; it can be symmetric, affine or asymmetric");
    format.settings.group_size = quantization.at("group_size").as_int();
    check_quantize_settings(format.settings);
  } catch (const ConfigError& error) {
    fail<ConfigError>("[decoder] ", where, ": quantization_config: ", error.what());
  }
  require<ConfigError>(format.settings.kind != PackedKind::nf4 && format.settings.kind != PackedKind::fp4, "[decoder] ",
                       where, ": quantization_config: ", packed_kind_name(format.settings.kind),
                       " has the form of bitsandbytes, not that of kdlib");
  return format;
}

KDLIB_NAMESPACE_END

#endif
