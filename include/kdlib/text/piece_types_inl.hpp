// SPDX-License-Identifier: Apache-2.0
// What the readers of GGUF metadata and of tokenizer.model share: pieces with their types.
#ifndef KDLIB_TEXT_PIECE_TYPES_INL_HPP
#define KDLIB_TEXT_PIECE_TYPES_INL_HPP

#include "kdlib/core/error.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/text/piece_model.hpp"
#include "kdlib/text/tokenizer_data.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// One entry of a file of pieces with types: a piece (1), the unknown one (2), a control token (3), one that users have
/// defined (4), a row without a token (5) or a byte (6).
template <class Refuse>
void add_typed_piece(std::size_t i, std::string_view token, std::int64_t type, Refuse&& refuse, TokenizerData& data) {
  const auto id = static_cast<std::int32_t>(i);
  PieceModel& model = *data.pieces;
  if (type == 5) return;  // unused: padding rows
  if (type < 1 || type > 6) refuse(concat("has type ", type, "; known are 1 to 6"));
  if (token.empty() || find_invalid_utf8(token) != std::string_view::npos) refuse("is empty or no UTF-8");
  if (token.size() > PieceModel::longest_piece)
    refuse(concat("has ", token.size(), " bytes; at most ", PieceModel::longest_piece, " are read"));
  if (type == 1) {
    if (!model.pieces.add(token, id)) refuse("is there twice");
    return;
  }
  if (type == 6) {
    unsigned byte = 0;
    bool fits = token.size() == 6 && token.substr(0, 3) == "<0x" && token[5] == '>';
    for (const char c : fits ? token.substr(3, 2) : std::string_view()) {
      const std::size_t digit = std::string_view("0123456789ABCDEF").find(c);
      fits = fits && digit != std::string_view::npos;
      byte = byte * 16 + static_cast<unsigned>(digit & 15);
    }
    if (!fits) refuse("has type 6 but is not written as a byte (<0x0A>)");
    if (model.byte_token[byte] != Vocabulary::none) refuse("is there twice");
    model.byte_token[byte] = id;
    const char bytes = static_cast<char>(static_cast<unsigned char>(byte));
    data.model.vocabulary.add_hidden(std::string_view(&bytes, 1), id);
    return;
  }
  if (type == 2) model.unknown = model.unknown == Vocabulary::none ? id : model.unknown;
  data.model.vocabulary.add_hidden(token, id);
  data.added.push_back({id, std::string(token), false, false, false, false, type != 4});
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
