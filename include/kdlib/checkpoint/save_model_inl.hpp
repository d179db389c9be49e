// SPDX-License-Identifier: Apache-2.0
// Bodies of save_model.hpp.
#ifndef KDLIB_CHECKPOINT_SAVE_MODEL_INL_HPP
#define KDLIB_CHECKPOINT_SAVE_MODEL_INL_HPP

#include "kdlib/checkpoint/save_model.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"

KDLIB_NAMESPACE_BEGIN

inline void write_tokenizer_files(const std::string& model, const std::optional<Tokenizer>& tokenizer,
                                  std::int64_t context_length, const std::string& directory) {
  if (!is_directory(model)) {
    if (tokenizer) save_tokenizer(*tokenizer, directory, context_length);
    return;
  }
  for (const char* name :
       {"tokenizer.json", "tokenizer.model", "spiece.model", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "generation_config.json"})
    if (const std::string from = join_path(model, name); path_exists(from))
      write_file_atomically(join_path(directory, name), read_file(from));
}

template <class D, class T>
void save_model(const Decoder<D, T>& model, const std::string& directory, const std::string& source,
                const SaveSettings& settings) {
  std::optional<Tokenizer> tokenizer;
  if (!is_directory(source)) {
    const GgufFile file(source);
    if (file.find("tokenizer.ggml.tokens") != nullptr) tokenizer = Tokenizer::from_gguf(file);
  }
  model.save_pretrained(directory, settings);
  write_tokenizer_files(source, tokenizer, model.config().context_length, directory);
}

KDLIB_NAMESPACE_END

#endif
