// SPDX-License-Identifier: Apache-2.0
// The tokenizer beside weights that are written (save_model.hpp).
#ifndef KDLIB_CHECKPOINT_TOKENIZER_FILES_INL_HPP
#define KDLIB_CHECKPOINT_TOKENIZER_FILES_INL_HPP

#include <optional>
#include <string>

#include "kdlib/checkpoint/save_model.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/gguf.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/text/tokenizer_writer.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC void write_tokenizer_files(const std::string& model, const std::optional<Tokenizer>& tokenizer,
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

namespace detail {
KDLIB_FUNC std::optional<Tokenizer> tokenizer_in_file(const std::string& source) {
  if (is_directory(source)) return std::nullopt;
  const GgufFile file(source);
  if (file.find("tokenizer.ggml.tokens") == nullptr) return std::nullopt;
  return Tokenizer::from_gguf(file);
}
}  // namespace detail

KDLIB_NAMESPACE_END

#endif
