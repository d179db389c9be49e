// SPDX-License-Identifier: Apache-2.0
// tokenizer.json's post_processor, read.
#ifndef KDLIB_TEXT_POST_PROCESSOR_READING_INL_HPP
#define KDLIB_TEXT_POST_PROCESSOR_READING_INL_HPP

#include <utility>

#include "kdlib/core/error.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/text/post_processor.hpp"
#include "kdlib/text/tokenizer_reading.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::int32_t read_type_id(const Json& piece) {
  const auto value = piece.find_set("type_id");
  if (!value) return 0;
  if (value->as_int() < 0 || value->as_int() > 0xFFFF) value->refuse("must lie in [0, 65535]");
  return static_cast<std::int32_t>(value->as_int());
}

/// `single` or `pair` of a TemplateProcessing.
KDLIB_FUNC std::vector<TemplatePiece> read_template(const Json& list, const Json& tokens, bool pair) {
  constexpr std::size_t longest = 64;  // pieces; and ids of one special token
  if (!list.is_array()) list.refuse("must be an array of pieces");
  if (list.size() > longest) list.refuse(concat("has ", list.size(), " pieces; at most ", longest, " are read"));
  std::vector<TemplatePiece> out;
  bool has_text = false;
  for (const Json& entry : list) {
    TemplatePiece piece;
    if (const auto sequence = entry.find_set("Sequence")) {
      const std::string_view id = sequence->at("id").as_string();
      if (id != "A" && !(pair && id == "B"))
        sequence->at("id").refuse(concat("is \"", id, pair ? "\"; needed is A or B" : "\"; needed is A"));
      piece.kind = id == "A" ? TemplatePiece::Kind::text : TemplatePiece::Kind::second_text;
      piece.type_id = read_type_id(*sequence);
      has_text = has_text || piece.kind == TemplatePiece::Kind::text;
    } else if (const auto special = entry.find_set("SpecialToken")) {
      piece.kind = TemplatePiece::Kind::tokens;
      piece.name = special->at("id").as_string();
      piece.type_id = read_type_id(*special);
      const auto known = tokens.find_set(piece.name);
      if (!known) special->at("id").refuse(concat("is \"", piece.name, "\", which special_tokens do not have"));
      const Json ids = known->at("ids");
      if (!ids.is_array() || ids.size() == 0 || ids.size() > longest)
        ids.refuse(concat("must be an array of 1 to ", longest, " ids"));
      for (const Json& id : ids) piece.ids.push_back(read_token_id(id));
    } else {
      entry.refuse("is neither a Sequence nor a SpecialToken");
    }
    out.push_back(std::move(piece));
  }
  if (!has_text) list.refuse("has no place for the text (a Sequence A)");
  return out;
}

/// `sep` or `cls`: a token and its id.
KDLIB_FUNC TemplatePiece read_token_and_id(const Json& value) {
  if (!value.is_array() || value.size() != 2) value.refuse("must be a token and its id");
  return {TemplatePiece::Kind::tokens, std::string(value[0].as_string()), {read_token_id(value[1])}, 0};
}

KDLIB_FUNC PostProcessor read_post_processor(const Json& post) {
  const std::string type(post.at("type").as_string());
  if (type == "ByteLevel") return {};
  if (type == "TemplateProcessing") {
    PostProcessor out;
    const Json tokens = post.find_set("special_tokens").value_or(Json());
    out.single = read_template(post.at("single"), tokens, false);
    if (const auto pair = post.find_set("pair")) out.pair = read_template(*pair, tokens, true);
    return out;
  }
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    const TemplatePiece cls = read_token_and_id(post.at("cls")), sep = read_token_and_id(post.at("sep"));
    PostProcessor out = PostProcessor::around({cls}, {sep});
    TemplatePiece& between = out.pair[3];  // cls A sep (cls of the second text) B sep
    if (type == "BertProcessing") out.pair.erase(out.pair.begin() + 3);
    else between = sep;
    return out;
  }
  if (type != "Sequence")
    post.at("type").refuse(concat("is \"", type,
                                  "\"; kdlib knows ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing "
                                  "and Sequence"));
  PostProcessor out;
  for (const Json& step : post.at("processors")) {
    if (step.at("type").as_string() == "Sequence") step.refuse("is a Sequence within a Sequence");
    PostProcessor next = read_post_processor(step);
    if (!next.single.empty() && !out.single.empty())
      step.refuse("is the second step that adds tokens; kdlib reads one");
    if (!next.single.empty()) out = std::move(next);
  }
  return out;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
