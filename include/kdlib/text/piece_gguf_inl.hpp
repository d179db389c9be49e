// SPDX-License-Identifier: Apache-2.0
// Reader of byte_level_bpe.hpp for GGUF metadata with tokenizer.ggml.model "llama": SentencePiece's BPE by scores.
#ifndef KDLIB_TEXT_PIECE_GGUF_INL_HPP
#define KDLIB_TEXT_PIECE_GGUF_INL_HPP

#include <cmath>

#include "kdlib/io/gguf.hpp"
#include "kdlib/text/piece_model.hpp"
#include "kdlib/text/piece_types_inl.hpp"
#include "kdlib/text/tokenizer_data.hpp"
#include "kdlib/text/tokenizer_reading.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void read_gguf_pieces(const GgufFile& file, TokenizerData& data) {
  data.pieces = std::make_unique<PieceModel>();
  PieceModel& model = *data.pieces;
  const std::vector<std::string_view> tokens = file.at("tokenizer.ggml.tokens").as_strings();
  const std::vector<std::int64_t> types = file.at("tokenizer.ggml.token_type").as_ints();
  model.scores = file.at("tokenizer.ggml.scores").as_doubles();
  require<FormatError>(!tokens.empty() && tokens.size() <= static_cast<std::size_t>(Vocabulary::max_id), "[tokenizer] ",
                       file.path(), ": tokenizer.ggml.tokens has ", tokens.size(), " entries; kdlib reads 1 to ",
                       Vocabulary::max_id);
  require<FormatError>(types.size() == tokens.size() && model.scores.size() == tokens.size(), "[tokenizer] ",
                       file.path(), ": tokenizer.ggml.token_type has ", types.size(), " and tokenizer.ggml.scores has ",
                       model.scores.size(), " entries for ", tokens.size(), " tokens");
  model.pieces = Vocabulary(tokens.size());
  data.model.vocabulary = Vocabulary(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    require<FormatError>(std::isfinite(model.scores[i]), "[tokenizer] ", file.path(), ": tokenizer.ggml.scores[", i,
                         "] is not finite");
    const auto refuse = [&](std::string_view problem) {
      fail<FormatError>("[tokenizer] ", file.path(), ": tokenizer.ggml.tokens[", i, "] ", problem);
    };
    add_typed_piece(i, tokens[i], types[i], refuse, data);
  }
  const bool prefix = file.bool_or("tokenizer.ggml.add_space_prefix", true);
  if (prefix) model.rules.steps.push_back({NormalizerStep::Kind::prepend, {}, " "});
  model.rules.steps.push_back({NormalizerStep::Kind::replace, " ", std::string(metaspace)});
  model.strip = prefix ? DecoderStrip::one_space : DecoderStrip::none;
  model.byte_fallback = true;
  model.fuse_unknown = true;  // as sentencepiece does; with a token for each byte there are none
  model.decodes_metaspace = true;
  model.decodes_bytes = true;
  const std::optional<std::int32_t> unknown = read_gguf_id(file, "tokenizer.ggml.unknown_token_id", data);
  if (unknown) model.unknown = *unknown;
  require<FormatError>(model.has_all_bytes() || model.unknown != Vocabulary::none, "[tokenizer] ", file.path(),
                       ": tokenizer.ggml.tokens has neither an unknown token nor a token for each byte");
  add_piece_bytes(data);
  model.merge_by_scores();
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
