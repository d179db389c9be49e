// SPDX-License-Identifier: Apache-2.0
// A whole model folder in one call: weights, configuration, tokenizer and generation_config.json.
#ifndef KDLIB_CHECKPOINT_SAVE_MODEL_HPP
#define KDLIB_CHECKPOINT_SAVE_MODEL_HPP

#include <optional>
#include <string>

#include "kdlib/checkpoint/save.hpp"
#include "kdlib/text/tokenizer_writer.hpp"

KDLIB_NAMESPACE_BEGIN

/// Puts the tokenizer of `model` (directory or GGUF file) into `directory`: files of a directory as they are
/// (generation_config.json too), those of a GGUF file made anew from `tokenizer`, if there is one. `context_length`:
/// its model_max_length.
void write_tokenizer_files(const std::string& model, const std::optional<Tokenizer>& tokenizer,
                           std::int64_t context_length, const std::string& directory);

/// Decoder::save_pretrained, and beside the weights the tokenizer and generation_config.json of `source`, the directory
/// or GGUF file whose text the model reads (its own, or its teacher's). A source without a tokenizer gives none.
template <class D, class T>
void save_model(const Decoder<D, T>& model, const std::string& directory, const std::string& source,
                const SaveSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/checkpoint/save_model_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/tokenizer_files_inl.hpp"
#endif

#endif
