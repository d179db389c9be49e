// SPDX-License-Identifier: Apache-2.0
// Converts config.json of Hugging Face directories to and from DecoderConfig, and reads DecoderConfig from the metadata
// of GGUF files.
#ifndef KDLIB_CHECKPOINT_HF_CONFIG_HPP
#define KDLIB_CHECKPOINT_HF_CONFIG_HPP

#include <string>

#include "kdlib/io/gguf.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/model/decoder_config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Reads the object of a config.json. Older files (rope_theta, rope_scaling, torch_dtype) and newer ones
/// (rope_parameters, dtype) are understood. Unknown keys are kept in DecoderConfig::source_json. FormatError or
/// ConfigError name the file and the key: model_type, rope_type, hidden_act or quant_method is unknown or not
/// supported, or counts do not fit together.
DecoderConfig parse_hf_config(const Json& json, const std::string& where);
/// Reads `directory`/config.json in the same way.
DecoderConfig read_hf_config(const std::string& directory);

/// Returns the text of a config.json. For a config that was read from a config.json, the text is that file with only
/// the dtype replaced; for any other config, the text has every key that transformers needs. `dtype` is float32,
/// bfloat16 or float16. `quantization` is the JSON object quantization_config, or empty for none.
std::string hf_config_text(const DecoderConfig& config, const std::string& dtype, const std::string& quantization = "");

/// Returns the config of a GGUF file of architecture llama, qwen2, qwen3, qwen2moe, qwen3moe, gpt-oss, gemma2 or
/// gemma3. The function reads the metadata, and from the list of tensors whether there are a head, biases, routers and
/// rope_freqs. FormatError or ConfigError name the file and the key.
DecoderConfig gguf_config(const GgufFile& file);

namespace detail {
/// True for the families whose GGUF files have expert tensors.
bool gguf_is_mixture(Family family);
/// Returns the period of attention windows that a family has if a GGUF file names none: the last layer of each period
/// sees all keys. 0: the family has no such period.
std::int64_t gguf_window_period(Family family);
/// Returns the number by whose square root Gemma divides q.k. GGUF metadata have no key for this number.
double gguf_query_scalar(const DecoderConfig& config);
/// Returns the biases that a config.json of `family` asks for.
BiasSettings parse_biases(const Json& json, Family family);
/// Returns the biases that a Hugging Face directory of this model must hold. The keys of config.json name only groups
/// of biases, so a directory may hold biases of zeros that the model does not have. ConfigError: the keys of the family
/// have no place for a bias of the model.
BiasSettings hf_biases(const DecoderConfig& config);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/gguf_config_inl.hpp"
#include "kdlib/checkpoint/hf_config_inl.hpp"
#include "kdlib/checkpoint/hf_config_text_inl.hpp"
#endif

#endif
