// SPDX-License-Identifier: Apache-2.0
// What programs read beside the weights of MODEL: its tokenizer, where there is one, and the ids that end an answer.
#ifndef KDLIB_TOOLS_MODEL_FILES_HPP
#define KDLIB_TOOLS_MODEL_FILES_HPP

#include <optional>
#include <string>
#include <vector>

#include "kdlib/checkpoint/load.hpp"
#include "kdlib/io/gguf.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/teacher/vocabulary.hpp"

KDLIB_NAMESPACE_BEGIN

/// The tokenizer of a Hugging Face directory or GGUF file; empty where it has none. IoError when the path is not there.
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

/// --weights file|memory of programs that train nothing; an adapter that is merged on reading needs matrices in memory.
inline WeightStorage weight_storage(const std::string& weights, bool merges) {
  return weights == "memory" || merges ? WeightStorage::decoded : WeightStorage::in_file;
}

/// Ids that end an answer: the tokenizer's (generation_config.json, config.json, tokenizer_config.json in this order,
/// or GGUF), else generation_config.json's, else `config_ids` of the model's own configuration.
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

KDLIB_NAMESPACE_END

#endif
