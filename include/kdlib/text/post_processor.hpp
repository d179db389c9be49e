// SPDX-License-Identifier: Apache-2.0
// The tokens that a tokenizer puts around a text if special tokens are wanted (the post_processor of tokenizer.json).
#ifndef KDLIB_TEXT_POST_PROCESSOR_HPP
#define KDLIB_TEXT_POST_PROCESSOR_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// One step of a post-processor's template: the place of a text, or tokens that are added.
struct TemplatePiece {
  enum class Kind { text, second_text, tokens };
  Kind kind = Kind::text;
  std::string name;               // for Kind::tokens: the template's name for these tokens
  std::vector<std::int32_t> ids;  // for Kind::tokens: one or more ids
  std::int32_t type_id = 0;       // segment number for models like BERT; it does not change ids
};

/// The templates for one text and for a pair of texts. An empty `single` means that nothing is put around a text.
struct PostProcessor {
  std::vector<TemplatePiece> single, pair;

  /// Returns the ids in front of the first text of `single`, with which a prompt begins.
  std::vector<std::int32_t> prefix_ids() const;
  /// Returns the ids behind the last text of `single`.
  std::vector<std::int32_t> suffix_ids() const;
  /// Makes a post-processor that puts `prefix` and `suffix` around each text. Each id is one piece with the given name.
  static PostProcessor around(const std::vector<TemplatePiece>& prefix, const std::vector<TemplatePiece>& suffix);
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/post_processor_inl.hpp"
#endif

#endif
