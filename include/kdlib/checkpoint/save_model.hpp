// SPDX-License-Identifier: Apache-2.0
// Writes a whole model folder in one call: weights, configuration, tokenizer and generation_config.json.
#ifndef KDLIB_CHECKPOINT_SAVE_MODEL_HPP
#define KDLIB_CHECKPOINT_SAVE_MODEL_HPP

#include <optional>
#include <string>

#include "kdlib/checkpoint/save.hpp"
#include "kdlib/text/tokenizer_writer.hpp"

KDLIB_NAMESPACE_BEGIN

/// Writes the tokenizer of `model` into `directory`. If `model` is a directory, its tokenizer files and
/// generation_config.json are copied unchanged. If `model` is a GGUF file, the files are made from `tokenizer`, unless
/// that is empty, with `context_length` (tokens) as model_max_length.
void write_tokenizer_files(const std::string& model, const std::optional<Tokenizer>& tokenizer,
                           std::int64_t context_length, const std::string& directory);

/// Calls Decoder::save_pretrained() and adds the tokenizer and generation_config.json of `source`: the directory or
/// GGUF file whose tokenizer the model uses (that of the model itself or of its teacher). If `source` has no tokenizer,
/// none is written.
template <class D, class T>
void save_model(const Decoder<D, T>& model, const std::string& directory, const std::string& source,
                const SaveSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/checkpoint/save_model_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/tokenizer_files_inl.hpp"
#endif

#endif
