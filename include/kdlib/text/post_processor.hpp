// SPDX-License-Identifier: Apache-2.0
// What a tokenizer puts around a text where special tokens are wanted: tokenizer.json's post_processor.
#ifndef KDLIB_TEXT_POST_PROCESSOR_HPP
#define KDLIB_TEXT_POST_PROCESSOR_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// One step of a post-processor's template: a text, or tokens that are added.
struct TemplatePiece {
  enum class Kind { text, second_text, tokens };
  Kind kind = Kind::text;
  std::string name;               // tokens: what the template calls these tokens
  std::vector<std::int32_t> ids;  // tokens: one or more
  std::int32_t type_id = 0;       // segment number of BERT-like models; changes no id
};

/// The templates for one text and for a pair of texts. An empty `single` means that a text stands alone.
struct PostProcessor {
  std::vector<TemplatePiece> single, pair;

  /// The ids in front of the first text of `single`: where a prompt begins.
  std::vector<std::int32_t> prefix_ids() const;
  /// The ids behind the last text of `single`.
  std::vector<std::int32_t> suffix_ids() const;
  /// `prefix` and `suffix` around each text, each id as one piece with the given names.
  static PostProcessor around(const std::vector<TemplatePiece>& prefix, const std::vector<TemplatePiece>& suffix);
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/post_processor_inl.hpp"
#endif

#endif
