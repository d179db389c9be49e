// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/model_files.hpp.
#ifndef KDLIB_RECIPE_MODEL_FILES_INL_HPP
#define KDLIB_RECIPE_MODEL_FILES_INL_HPP

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/gguf.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/model_files.hpp"
#include "kdlib/text/tokenizer_writer.hpp"

KDLIB_NAMESPACE_BEGIN

inline std::optional<Tokenizer> find_model_tokenizer(const std::string& model) {
  require<IoError>(path_exists(model), "[model] ", model,
                   " is not there: give a Hugging Face directory or a GGUF file");
  if (is_directory(model)) {
    if (!path_exists(join_path(model, "tokenizer.json"))) return std::nullopt;
    return Tokenizer::from_pretrained(model);
  }
  const GgufFile file(model);
  if (file.find("tokenizer.ggml.tokens") == nullptr) return std::nullopt;
  return Tokenizer::from_gguf(file);
}

inline std::vector<std::int32_t> stop_ids_of(const std::string& model, const std::optional<Tokenizer>& tokenizer,
                                             const std::vector<std::int32_t>& config_ids) {
  if (tokenizer && !tokenizer->stop_ids().empty()) return tokenizer->stop_ids();
  const std::string path = join_path(model, "generation_config.json");
  if (is_directory(model) && path_exists(path)) {
    if (const auto value = Json::parse_file(path).find_set("eos_token_id")) {
      std::vector<std::int32_t> ids;
      if (value->is_array())
        for (const Json& id : *value) ids.push_back(static_cast<std::int32_t>(id.as_int()));
      else ids.push_back(static_cast<std::int32_t>(value->as_int()));
      return ids;
    }
  }
  return config_ids;
}

inline void write_tokenizer_files(const std::string& model, const std::optional<Tokenizer>& tokenizer,
                                  std::int64_t context_length, const std::string& directory) {
  if (!is_directory(model)) {
    if (tokenizer) save_tokenizer(*tokenizer, directory, context_length);
    return;
  }
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                           "vocab.json", "merges.txt", "chat_template.jinja", "generation_config.json"})
    if (const std::string from = join_path(model, name); path_exists(from))
      write_file_atomically(join_path(directory, name), read_file(from));
}

KDLIB_NAMESPACE_END

#endif
