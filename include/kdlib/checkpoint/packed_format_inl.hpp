// SPDX-License-Identifier: Apache-2.0
// Bodies of packed_format.hpp.
#ifndef KDLIB_CHECKPOINT_PACKED_FORMAT_INL_HPP
#define KDLIB_CHECKPOINT_PACKED_FORMAT_INL_HPP

#include "kdlib/checkpoint/packed_format.hpp"

KDLIB_NAMESPACE_BEGIN

inline const char* packed_form_name(PackedForm form) {
  return form == PackedForm::bitsandbytes ? "bitsandbytes" : form == PackedForm::torchao ? "torchao" : "kdlib";
}

inline std::optional<PackedFormat> parse_packed_format(const Json& quantization, const std::string& where) {
  const std::string method = quantization.string_or("quant_method", "?");
  PackedFormat format;
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
