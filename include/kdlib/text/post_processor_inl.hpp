// SPDX-License-Identifier: Apache-2.0
// Bodies of post_processor.hpp.
#ifndef KDLIB_TEXT_POST_PROCESSOR_INL_HPP
#define KDLIB_TEXT_POST_PROCESSOR_INL_HPP

#include "kdlib/text/post_processor.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::vector<std::int32_t> PostProcessor::prefix_ids() const {
  std::vector<std::int32_t> ids;
  for (const TemplatePiece& piece : single) {
    if (piece.kind == TemplatePiece::Kind::text) break;
    ids.insert(ids.end(), piece.ids.begin(), piece.ids.end());
  }
  return ids;
}

KDLIB_FUNC std::vector<std::int32_t> PostProcessor::suffix_ids() const {
  std::vector<std::int32_t> ids;
  for (const TemplatePiece& piece : single) {
    if (piece.kind == TemplatePiece::Kind::text) ids.clear();
    ids.insert(ids.end(), piece.ids.begin(), piece.ids.end());
  }
  return single.empty() ? std::vector<std::int32_t>() : ids;
}

KDLIB_FUNC PostProcessor PostProcessor::around(const std::vector<TemplatePiece>& prefix,
                                               const std::vector<TemplatePiece>& suffix) {
  PostProcessor out;
  if (prefix.empty() && suffix.empty()) return out;
  for (const std::int32_t type : {0, 1}) {
    std::vector<TemplatePiece> pieces = prefix;
    pieces.push_back({type == 0 ? TemplatePiece::Kind::text : TemplatePiece::Kind::second_text, {}, {}, 0});
    pieces.insert(pieces.end(), suffix.begin(), suffix.end());
    for (TemplatePiece& piece : pieces) piece.type_id = type;
    if (type == 0) out.single = pieces;
    out.pair.insert(out.pair.end(), pieces.begin(), pieces.end());
  }
  return out;
}

KDLIB_NAMESPACE_END

#endif
