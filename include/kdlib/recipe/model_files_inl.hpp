// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/model_files.hpp.
#ifndef KDLIB_RECIPE_MODEL_FILES_INL_HPP
#define KDLIB_RECIPE_MODEL_FILES_INL_HPP

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/gguf.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/model_files.hpp"
#include "kdlib/text/tokenizer_reading.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::optional<Tokenizer> find_model_tokenizer(const std::string& model) {
  require<IoError>(path_exists(model), "[model] ", model,
                   " is not there: give a Hugging Face directory or a GGUF file");
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

KDLIB_NAMESPACE_END

#endif
