// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/model_files.hpp.
#ifndef KDLIB_RECIPE_MODEL_FILES_INL_HPP
#define KDLIB_RECIPE_MODEL_FILES_INL_HPP

#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/checkpoint/random_weights.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/gguf.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/model_files.hpp"
#include "kdlib/text/tokenizer_reading.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC void require_model_path(const std::string& model) {
  require<IoError>(path_exists(model), "[model] ", model,
                   " is not there: give a Hugging Face directory or a GGUF file");
}

KDLIB_FUNC void require_given_file(const std::string& option, const std::string& path, const std::string& what) {
  require<IoError>(path_exists(path), option, " ", path, " is not there: give ", what);
}

KDLIB_FUNC std::optional<Tokenizer> find_model_tokenizer(const std::string& model) {
  require_model_path(model);
  if (is_directory(model)) {
    const auto has = [&](const char* name) { return path_exists(join_path(model, name)); };
    if (!has("tokenizer.json") && !has("tokenizer.model") && !has("spiece.model")) return std::nullopt;
    return Tokenizer::from_pretrained(model);
  }
  const GgufFile file(model);
  if (file.find("tokenizer.ggml.tokens") == nullptr) return std::nullopt;
  return Tokenizer::from_gguf(file);
}

KDLIB_FUNC std::vector<std::int32_t> stop_ids_of(const std::string& model, const std::optional<Tokenizer>& tokenizer,
                                                 const std::vector<std::int32_t>& config_ids) {
  if (tokenizer && !tokenizer->stop_ids().empty()) return tokenizer->stop_ids();
  const std::string path = join_path(model, "generation_config.json");
  if (is_directory(model) && path_exists(path)) {
    if (const auto value = Json::parse_file(path).find_set("eos_token_id")) {
      std::vector<std::int32_t> ids;
      if (value->is_array())
        for (const Json& id : *value) ids.push_back(detail::read_token_id(id));
      else ids.push_back(detail::read_token_id(*value));
      return ids;
    }
  }
  return config_ids;
}

namespace detail {
/// The configuration of a directory as one text, without what changes nothing that the layers compute.
KDLIB_FUNC std::string function_text(const std::string& directory) {
  DecoderConfig config = read_hf_config(directory);
  const DecoderConfig defaults;
  config.source_json.clear();
  config.context_length = defaults.context_length;
  if (!random_weights_seed(directory)) config.initializer_range = defaults.initializer_range;
  config.bos_ids.clear();
  config.eos_ids.clear();
  config.pad_id = defaults.pad_id;
  return hf_config_text(config, defaults.dtype);
}
}  // namespace detail

KDLIB_FUNC bool hold_same_model(const std::string& a, const std::string& b) {
  return same_weights(a, b) &&
         (!is_directory(a) || !is_directory(b) || detail::function_text(a) == detail::function_text(b));
}

KDLIB_NAMESPACE_END

#endif
