// SPDX-License-Identifier: Apache-2.0
// What is read and written beside the weights of a model: its tokenizer, where there is one, and the ids that end an
// answer; and whether two models are one.
#ifndef KDLIB_RECIPE_MODEL_FILES_HPP
#define KDLIB_RECIPE_MODEL_FILES_HPP

#include <optional>
#include <string>
#include <vector>

#include "kdlib/checkpoint/save_model.hpp"  // write_tokenizer_files

KDLIB_NAMESPACE_BEGIN

/// The tokenizer of a Hugging Face directory or GGUF file; empty where it has none. IoError when the path is not there.
std::optional<Tokenizer> find_model_tokenizer(const std::string& model);

/// Ids that end an answer: the tokenizer's (generation_config.json, config.json, tokenizer_config.json in this order,
/// or GGUF), else generation_config.json's, else `config_ids` of the model's own configuration.
std::vector<std::int32_t> stop_ids_of(const std::string& model, const std::optional<Tokenizer>& tokenizer,
                                      const std::vector<std::int32_t>& config_ids);

/// True where two models (Hugging Face directories, GGUF files) are one function: same_weights (io/content_hash.hpp),
/// and configurations that differ at most in what no layer reads (dtype, ids, context length). Files of the same values
/// in another form are not compared: a GGUF file beside the directory that it was made of gives false.
bool hold_same_model(const std::string& a, const std::string& b);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/model_files_inl.hpp"
#endif

#endif
