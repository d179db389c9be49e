// SPDX-License-Identifier: Apache-2.0
// Bodies of tokenizer_data.hpp.
#ifndef KDLIB_TEXT_TOKENIZER_DATA_INL_HPP
#define KDLIB_TEXT_TOKENIZER_DATA_INL_HPP

#include <algorithm>

#include "kdlib/core/error.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/text/nfc.hpp"
#include "kdlib/text/tokenizer_data.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::string TokenizerData::add_merge(std::string_view left_bytes, std::string_view right_bytes,
                                                std::uint32_t rank) {
  const std::int32_t left = model.vocabulary.find(left_bytes), right = model.vocabulary.find(right_bytes);
  if (left == Vocabulary::none) return "has a left part that is no token of the vocabulary";
  if (right == Vocabulary::none) return "has a right part that is no token of the vocabulary";
  std::string whole(left_bytes);
  whole.append(right_bytes);
  const std::int32_t joined = model.vocabulary.find(whole);
  if (joined == Vocabulary::none) return "joins to something that is no token of the vocabulary";
  model.merges.add(left, right, {rank, joined});
  return {};
}

KDLIB_FUNC void TokenizerData::append_decoded(std::int32_t id, bool& begun, std::string& out) const {
  std::string_view bytes = model.vocabulary.bytes(id);
  if (bytes.empty()) return;
  const DecoderStrip strip = begun || pieces == nullptr ? DecoderStrip::none : pieces->strip;
  if ((strip == DecoderStrip::one_space || strip == DecoderStrip::one_space_each) && bytes[0] == ' ')
    bytes.remove_prefix(1);
  begun = strip != DecoderStrip::one_space_each || !bytes.empty();
  if (strip != DecoderStrip::spaces_of_first_token) {
    out.append(bytes);
    return;
  }
  for (const char c : bytes)
    if (c != ' ') out.push_back(c);
}

KDLIB_FUNC std::int32_t TokenizerData::find_written(std::string_view token) const {
  if (pieces != nullptr) return pieces->pieces.find(token);
  std::string bytes;
  return append_alphabet_bytes(token, bytes) ? model.vocabulary.find(bytes) : Vocabulary::none;
}

KDLIB_FUNC void TokenizerData::limit_ids(std::int64_t rows, std::string_view config) {
  for (std::size_t i = added.size(); i-- > 0;) {
    const AddedToken& token = added[i];
    if (token.id < rows || token.content.rfind("<|reserved_", 0) != 0 ||
        model.vocabulary.find(token.content) != Vocabulary::none)
      continue;
    model.vocabulary.remove(token.id);
    added.erase(added.begin() + static_cast<std::ptrdiff_t>(i));
  }
  require<FormatError>(model.vocabulary.size() <= rows, "[tokenizer] ", source, ": the highest token id is ",
                       model.vocabulary.size() - 1, " but ", config, " has vocab_size ", rows,
                       "; the tokenizer does not belong to this model");
}

KDLIB_FUNC void TokenizerData::finish() {
  std::sort(added.begin(), added.end(), [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  special.assign(static_cast<std::size_t>(model.vocabulary.size()), false);
  for (const AddedToken& token : added) {
    special[static_cast<std::size_t>(token.id)] = token.special;
    if (token.normalized && pieces != nullptr) {
      std::string work, spare;
      normalized_matcher.add(pieces->rules.normalize(token.content, work, spare), &token);
    } else if (token.normalized && nfc) {
      normalized_matcher.add(kdlib::nfc(token.content), &token);
    } else {
      (token.normalized ? normalized_matcher : raw_matcher).add(token.content, &token);
    }
  }
  for (const auto& steps : {post_processor.single, post_processor.pair})
    for (const TemplatePiece& piece : steps)
      for (const std::int32_t id : piece.ids)
        require<FormatError>(model.vocabulary.has(id), "[tokenizer] ", source, ": post_processor adds the id ", id,
                             " (", printable(piece.name), "), which no token has");
  if (pieces != nullptr) pieces->finish();
  raw_matcher.finish();
  normalized_matcher.finish();
  std::uint64_t hash = 0x6B646C6962746F6Bu;  // an arbitrary start
  for (std::int32_t id = 0; id < model.vocabulary.size(); ++id) {
    if (!model.vocabulary.has(id)) continue;
    const std::uint64_t token = hash_bytes(model.vocabulary.bytes(id)) + static_cast<std::uint64_t>(id) * 2 +
                                special[static_cast<std::size_t>(id)];
    hash = (hash ^ token) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
  }
  content_hash = hash;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
