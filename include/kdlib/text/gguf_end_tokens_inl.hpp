// SPDX-License-Identifier: Apache-2.0
// Bodies of gguf_end_tokens.hpp. The texts are those of llama.cpp's src/llama-vocab.cpp (special_eog_ids).
#ifndef KDLIB_TEXT_GGUF_END_TOKENS_INL_HPP
#define KDLIB_TEXT_GGUF_END_TOKENS_INL_HPP

#include <algorithm>

#include "kdlib/text/gguf_end_tokens.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr std::string_view gguf_end_texts[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
    "<|endoftext|>", "</s>", "<|eom_id|>", "< EOT >", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
    "<end_of_utterance>", "<｜end▁of▁sentence｜>", "<eos>", "<turn|>", "<|tool_response>",
    // Fill in the middle: padding, names of repositories, files.
    "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>",
    "<reponame>", "<|file_sep|>"};

KDLIB_FUNC bool is_gguf_end_text(std::string_view token) {
  return std::find(std::begin(gguf_end_texts), std::end(gguf_end_texts), token) != std::end(gguf_end_texts);
}

KDLIB_FUNC void add_gguf_end_tokens(TokenizerData& data) {
  const auto id_of = [&](std::string_view text) {
    for (const AddedToken& token : data.added)
      if (token.content == text) return token.id;
    // A file may give an end token the type of a normal one.
    return data.pieces != nullptr ? data.pieces->pieces.find(text) : data.model.vocabulary.find(text);
  };
  const auto has = [&](std::string_view text) { return id_of(text) != Vocabulary::none; };
  const bool messages_follow_end = (has("<|call|>") || has("<|calls|>")) && (has("<|return|>") || has("<|flush|>"));
  for (const std::string_view text : gguf_end_texts) {
    if (text == "<|end|>" && messages_follow_end) continue;
    if (text == "</s>" && has("<|tool_response>")) continue;
    if (const std::int32_t id = id_of(text); id != Vocabulary::none) data.stop.push_back(id);
  }
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
