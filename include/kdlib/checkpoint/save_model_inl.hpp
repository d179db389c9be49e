// SPDX-License-Identifier: Apache-2.0
// Bodies of save_model.hpp.
#ifndef KDLIB_CHECKPOINT_SAVE_MODEL_INL_HPP
#define KDLIB_CHECKPOINT_SAVE_MODEL_INL_HPP

#include <optional>
#include <string>

#include "kdlib/checkpoint/save_model.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {
/// The tokenizer of a GGUF file; empty for a directory, or where the file has none.
std::optional<Tokenizer> tokenizer_in_file(const std::string& source);
}  // namespace detail

template <class D, class T>
void save_model(const Decoder<D, T>& model, const std::string& directory, const std::string& source,
                const SaveSettings& settings) {
  const std::optional<Tokenizer> tokenizer = detail::tokenizer_in_file(source);
  model.save_pretrained(directory, settings);
  write_tokenizer_files(source, tokenizer, model.config().context_length, directory);
}

KDLIB_NAMESPACE_END

#endif
