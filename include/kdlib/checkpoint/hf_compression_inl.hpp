// SPDX-License-Identifier: Apache-2.0
// Mixtures whose experts share cores, in config.json (hf_config.hpp): model_type qwen3_moe_shared_core or
// qwen2_moe_shared_core and the object compression_config. Files of the first program that made such mixtures keep the
// plain model_type beside the object; they are read, too, and written where DecoderConfig::compression_by_key is set.
#ifndef KDLIB_CHECKPOINT_HF_COMPRESSION_INL_HPP
#define KDLIB_CHECKPOINT_HF_COMPRESSION_INL_HPP

#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/io/json_writer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr std::string_view shared_core_suffix = "_shared_core";
constexpr std::int64_t compression_version = 1;

/// Writes a value as it was read.
void copy_json(const Json& v, JsonWriter& out);

/// The model_type of the plain mixture.
KDLIB_FUNC std::string plain_model_type(std::string type) {
  if (type.ends_with(shared_core_suffix)) type.resize(type.size() - shared_core_suffix.size());
  return type;
}

/// Fills c.moe's core and c.compression_*; `type` is the model_type as the file has it. Layers of experts are known.
KDLIB_FUNC void parse_compression(const Json& json, const std::string& type, DecoderConfig& c,
                                  const std::string& where) {
  const bool named = type.ends_with(shared_core_suffix);
  const auto settings = json.find_set("compression_config");
  require<ConfigError>(settings || !named, "[decoder] ", where, ": model_type is ", type,
                       ", and compression_config is missing");
  if (!settings) return;
  require<ConfigError>(c.family == Family::qwen3_moe || c.family == Family::qwen2_moe, "[decoder] ", where,
                       ": compression_config is for model_type qwen3_moe_shared_core and qwen2_moe_shared_core, not ",
                       type);
  require<FormatError>(settings->is_object(), "[decoder] ", where, ": ", settings->path(), " is not an object");
  const std::int64_t version = settings->int_or("version", compression_version);
  require<ConfigError>(version == compression_version, "[decoder] ", where, ": compression_config.version is ", version,
                       "; this reader needs ", compression_version);
  const std::string form = settings->string_or("form", "wrappers");
  require<ConfigError>(form == "wrappers" || form == "residual", "[decoder] ", where, ": compression_config.form is \"",
                       form, "\"; it can be wrappers or residual");
  c.moe.core_form = form == "wrappers" ? CoreForm::wrappers : CoreForm::residual;
  c.moe.core_rank = settings->at("rank").as_int();
  require<ConfigError>(c.moe.core_rank > 0, "[decoder] ", where, ": compression_config.rank is ", c.moe.core_rank,
                       "; it must be 1 or more");
  require<ConfigError>(c.mixtures() > 0, "[decoder] ", where,
                       ": compression_config is set, and no layer has experts (num_experts, mlp_only_layers)");
  JsonWriter copy;
  copy_json(*settings, copy);
  c.compression_json = copy.text();
  c.compression_by_key = !named;
}

/// model_type as it is written.
KDLIB_FUNC std::string written_model_type(const DecoderConfig& c) {
  const std::string plain = family_name(c.family);
  return c.moe.shares_cores() && !c.compression_by_key ? plain + std::string(shared_core_suffix) : plain;
}

/// The entry of architectures that goes with it.
KDLIB_FUNC std::string written_class(const DecoderConfig& c, std::string plain) {
  const std::size_t at = plain.rfind("ForCausalLM");
  if (c.moe.shares_cores() && !c.compression_by_key && at != std::string::npos) plain.insert(at, "SharedCore");
  return plain;
}

/// The member compression_config, where the experts share cores: form and rank as they are, the rest as it was read.
KDLIB_FUNC void write_compression(JsonWriter& out, const DecoderConfig& c) {
  if (!c.moe.shares_cores()) return;
  out.key("compression_config").begin_object();
  out.member("form", enum_names(c.moe.core_form)[static_cast<std::size_t>(c.moe.core_form)])
      .member("rank", c.moe.core_rank)
      .member("version", compression_version);
  if (!c.compression_json.empty()) {
    const Json read = Json::parse(c.compression_json, "compression_config");
    for (std::size_t i = 0; i < read.size(); ++i)
      if (const std::string_view key = read.key(i); key != "form" && key != "rank" && key != "version")
        copy_json(read[i], out.key(key));
  }
  out.end_object();
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
