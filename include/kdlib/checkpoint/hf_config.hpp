// SPDX-License-Identifier: Apache-2.0
// config.json of Hugging Face directories, and GGUF metadata, to and from DecoderConfig.
#ifndef KDLIB_CHECKPOINT_HF_CONFIG_HPP
#define KDLIB_CHECKPOINT_HF_CONFIG_HPP

#include <string>

#include "kdlib/io/gguf.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/model/decoder_config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Reads the object of a config.json: older files (rope_theta, rope_scaling, torch_dtype) and newer ones
/// (rope_parameters, dtype). FormatError or ConfigError name the file and the key: unknown or unsupported model_type,
/// rope_type, hidden_act, quant_method, counts that do not fit together. Unknown keys are kept in source_json.
DecoderConfig parse_hf_config(const Json& json, const std::string& where);
/// The same from `directory`/config.json.
DecoderConfig read_hf_config(const std::string& directory);

/// The text of a config.json: what was read with only the dtype replaced, or, for a config made otherwise, every key
/// that transformers needs. `dtype`: float32, bfloat16 or float16. `quantization`: the JSON object quantization_config,
/// or empty for none.
std::string hf_config_text(const DecoderConfig& config, const std::string& dtype, const std::string& quantization = "");

/// From the metadata (and tensor list: head, biases, routers, rope_freqs) of a GGUF file of architecture llama, qwen2,
/// qwen3, qwen2moe, qwen3moe, gpt-oss, gemma2 or gemma3. FormatError or ConfigError name the file and the key.
DecoderConfig gguf_config(const GgufFile& file);

namespace detail {
/// True for the families that GGUF keeps expert tensors of.
bool gguf_is_mixture(Family family);
/// The period of layers of which the last sees all keys, where a GGUF file does not say it; 0: there is none.
std::int64_t gguf_window_period(Family family);
/// What q.k is divided by the root of, in a GGUF file of Gemma: the metadata have no key for it.
double gguf_query_scalar(const DecoderConfig& config);
/// The biases that config.json of a family asks for.
BiasSettings parse_biases(const Json& json, Family family);
/// The biases of a Hugging Face directory of this model: its keys know groups of them only, so that a directory may
/// hold biases of zeros which the model does not have. ConfigError: a bias that the family's keys have no place for.
BiasSettings hf_biases(const DecoderConfig& config);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/gguf_config_inl.hpp"
#include "kdlib/checkpoint/hf_config_inl.hpp"
#include "kdlib/checkpoint/hf_config_text_inl.hpp"
#endif

#endif
