// SPDX-License-Identifier: Apache-2.0
// Files beside the weights of a model: its tokenizer, if there is one, and the ids that end an answer. Also a test
// whether two models are the same.
#ifndef KDLIB_RECIPE_MODEL_FILES_HPP
#define KDLIB_RECIPE_MODEL_FILES_HPP

#include <optional>
#include <string>
#include <vector>

#include "kdlib/checkpoint/save_model.hpp"  // write_tokenizer_files

KDLIB_NAMESPACE_BEGIN

/// Throws IoError, which says what to give, unless something is at the path of a model.
void require_model_path(const std::string& model);
/// The same for the value of another option: "[distil] --data a.jsonl is not there: give <what>".
void require_given_file(const std::string& option, const std::string& path, const std::string& what);

/// Returns the tokenizer of a Hugging Face directory or GGUF file. Empty if the model has none. Throws IoError if the
/// path is not there.
std::optional<Tokenizer> find_model_tokenizer(const std::string& model);

/// Returns the ids that end an answer: those of the tokenizer (from generation_config.json, config.json,
/// tokenizer_config.json in this order, or from GGUF), else those of generation_config.json, else `config_ids` from the
/// model's own configuration.
std::vector<std::int32_t> stop_ids_of(const std::string& model, const std::optional<Tokenizer>& tokenizer,
                                      const std::vector<std::int32_t>& config_ids);

/// True if two models (Hugging Face directories, GGUF files) compute the same function: same_weights
/// (io/content_hash.hpp), and configurations that differ at most in values that no layer reads (dtype, ids, context
/// length). Files with the same values in another form are not recognised: a GGUF file beside the directory from which
/// it was made gives false.
bool hold_same_model(const std::string& a, const std::string& b);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/model_files_inl.hpp"
#endif

#endif
