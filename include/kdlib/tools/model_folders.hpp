// SPDX-License-Identifier: Apache-2.0
// Folders that programs write and read whole: a model with its tokenizer, and the run of `distil` behind a path.
#ifndef KDLIB_TOOLS_MODEL_FOLDERS_HPP
#define KDLIB_TOOLS_MODEL_FOLDERS_HPP

#include <cstdint>
#include <optional>
#include <string>

#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

/// Puts the tokenizer of `model` (directory or GGUF file) into `directory`: files of a directory as they are, those of
/// a GGUF file made anew from `tokenizer`, if there is one. `context_length`: its model_max_length.
void write_tokenizer_files(const std::string& model, const std::optional<Tokenizer>& tokenizer,
                           std::int64_t context_length, const std::string& directory);

/// What a program's MODEL stands for.
struct ModelPlace {
  std::string model;    // a Hugging Face directory or a GGUF file
  std::string adapter;  // empty: none
};
/// The folder of a finished run of `distil`: base/ (or the model that was not rounded) with adapter/, else model/. Any
/// other path is the model itself. `adapter`: the one that was asked for, which a run's own must not contradict.
/// ConfigError: a run that is not finished, or whose rounded base was not written.
ModelPlace find_model(const std::string& path, const std::string& adapter = "");

KDLIB_NAMESPACE_END

#include "kdlib/tools/model_folders_inl.hpp"

#endif
