// SPDX-License-Identifier: Apache-2.0
// Readers of byte_level_bpe.hpp: what stands beside tokenizer.json in a Hugging Face folder. Added tokens may be in
// tokenizer_config.json (added_tokens_decoder, named tokens, additional_special_tokens), special_tokens_map.json and
// added_tokens.json; they are taken as transformers 5 takes them.
#ifndef KDLIB_TEXT_TOKENIZER_SIDE_FILES_INL_HPP
#define KDLIB_TEXT_TOKENIZER_SIDE_FILES_INL_HPP

#include <algorithm>
#include <map>
#include <unordered_map>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/text/tokenizer_data.hpp"
#include "kdlib/text/tokenizer_reading.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The flags of an added token that is given as an object with a content.
KDLIB_FUNC AddedToken read_added_token(const Json& entry, bool special) {
  AddedToken token;
  token.content = entry.at("content").as_string();
  if (token.content.empty()) entry.refuse("has an empty content");
  token.special = entry.bool_or("special", special);
  token.single_word = entry.bool_or("single_word", false);
  token.lstrip = entry.bool_or("lstrip", false);
  token.rstrip = entry.bool_or("rstrip", false);
  token.normalized = entry.bool_or("normalized", !token.special);
  return token;
}

/// A special token that is given as a string, or as an object with its flags.
KDLIB_FUNC AddedToken read_special_token(const Json& value) {
  AddedToken token;
  if (value.is_object()) {
    token = read_added_token(value, true);
    token.special = true;
  } else {
    token.content = value.as_string();
    token.special = true;
    if (token.content.empty()) value.refuse("is an empty string");
  }
  return token;
}

/// Adds the tokens of the files beside tokenizer.json to those that it has.
class SideTokens {
 public:
  /// `rows`: config.json's vocab_size, ids from there on have no row in the model; 0: not known.
  SideTokens(TokenizerData& data, std::int64_t rows) : data_(data), rows_(rows) {
    for (std::size_t i = 0; i < data.added.size(); ++i) places_.emplace(data.added[i].content, i);
  }

  /// A token whose id the file gives. `replaces`: its flags win over those in tokenizer.json.
  void with_id(AddedToken token, std::int32_t id, bool replaces, const Json& origin) {
    token.id = id;
    const auto known = places_.find(token.content);
    if (known != places_.end()) {
      AddedToken& old = data_.added[known->second];
      if (old.id != id)
        origin.refuse(concat("gives \"", printable(token.content), "\" the id ", id, ", but it has the id ", old.id));
      if (!replaces) return;
      token.special = token.special || old.special;  // the library never takes "special" back
      old = std::move(token);
      return;
    }
    const std::int32_t in_vocabulary = data_.find_written(token.content);
    if (in_vocabulary != Vocabulary::none && in_vocabulary != id)
      origin.refuse(
          concat("gives \"", printable(token.content), "\" the id ", id, ", but tokenizer.json gives ", in_vocabulary));
    if (in_vocabulary == Vocabulary::none && data_.model.vocabulary.has(id))
      origin.refuse(concat("gives \"", printable(token.content), "\" the id ", id, ", which another token has"));
    add(std::move(token), in_vocabulary == Vocabulary::none, origin);
  }

  /// A token that is known, in the vocabulary, or gets the next free id. Returns its id.
  std::int32_t without_id(AddedToken token, const Json& origin) {
    const auto known = places_.find(token.content);
    if (known != places_.end()) return data_.added[known->second].id;
    token.id = data_.find_written(token.content);
    const bool is_new = token.id == Vocabulary::none;
    if (is_new) token.id = data_.model.vocabulary.size();
    return add(std::move(token), is_new, origin);
  }

 private:
  std::int32_t add(AddedToken token, bool is_new, const Json& origin) {
    if (is_new && rows_ > 0 && token.id >= rows_ && token.content.rfind("<|reserved_", 0) != 0)
      origin.refuse(concat("names \"", printable(token.content), "\", which is no token of ", data_.source,
                           ": it would have the id ", token.id, ", but config.json has vocab_size ", rows_));
    if (token.id > Vocabulary::max_id || (is_new && !data_.model.vocabulary.add_hidden(token.content, token.id)))
      origin.refuse(concat("needs the id ", token.id, ", which is beyond what kdlib reads"));
    places_.emplace(token.content, data_.added.size());
    data_.added.push_back(std::move(token));
    return data_.added.back().id;
  }

  TokenizerData& data_;
  std::int64_t rows_;
  std::unordered_map<std::string, std::size_t> places_;  // content to index in data_.added
};

/// The special tokens that a folder names, from tokenizer_config.json and special_tokens_map.json (which wins, and is
/// read only where there is no added_tokens_decoder).
struct NamedTokens {
  std::map<std::string, Json> named;  // bos_token, image_token, ...
  std::vector<Json> more;             // additional_special_tokens or extra_special_tokens

  void read(const Json& config) {
    for (const JsonMember& member : config.members()) {
      const std::string_view key = member.key;
      constexpr std::string_view suffix = "_token";
      const Json value = member.value;
      const bool token = value.is_string() || (value.is_object() && value.contains("content"));
      if (key.size() > suffix.size() && key.substr(key.size() - suffix.size()) == suffix && token)
        named[std::string(key)] = value;
    }
    const auto extra = config.find_set("extra_special_tokens");
    const auto list = extra && extra->size() > 0 ? extra : config.find_set("additional_special_tokens");
    if (!list) return;
    if (!list->is_array() && !list->is_object()) list->refuse("must be an array of tokens or an object of named ones");
    if (list->is_object()) {
      for (const JsonMember& member : list->members()) named[std::string(member.key)] = member.value;
    } else {
      more.clear();
      for (const Json& value : *list) more.push_back(value);
    }
  }

  bool has(std::string_view content) const {
    const auto is = [&](const Json& value) {
      return (value.is_object() ? value.at("content") : value).as_string() == content;
    };
    return std::any_of(more.begin(), more.end(), is) ||
           std::any_of(named.begin(), named.end(), [&](const auto& entry) { return is(entry.second); });
  }
};

KDLIB_FUNC void read_added_tokens_decoder(const Json& decoder, const NamedTokens& names, SideTokens& tokens) {
  if (!decoder.is_object()) decoder.refuse("must be an object that maps ids to tokens");
  std::map<std::int32_t, Json> by_id;  // the library adds them in this order
  for (const JsonMember& member : decoder.members()) {
    std::int64_t id = 0;
    for (const char c : member.key) id = c >= '0' && c <= '9' && id <= Vocabulary::max_id ? id * 10 + (c - '0') : -1;
    if (member.key.empty() || id < 0 || id > Vocabulary::max_id)
      member.value.refuse(concat("does not stand under a token id in [0, ", Vocabulary::max_id, "]"));
    by_id.emplace(static_cast<std::int32_t>(id), member.value);
  }
  for (const auto& [id, entry] : by_id) {
    AddedToken token = read_added_token(entry, false);
    token.special = token.special || names.has(token.content);
    tokens.with_id(std::move(token), id, true, entry);
  }
}

KDLIB_FUNC void read_added_tokens_file(const Json& file, const NamedTokens& names, SideTokens& tokens) {
  if (!file.is_object()) file.refuse("must be an object that maps tokens to ids");
  std::vector<std::pair<std::int32_t, std::size_t>> order;
  for (std::size_t i = 0; i < file.size(); ++i) order.emplace_back(read_token_id(file[i]), i);
  std::sort(order.begin(), order.end());
  for (const auto& [id, i] : order) {
    AddedToken token;
    token.content = file.key(i);
    if (token.content.empty()) file.refuse("has an empty token");
    token.special = names.has(token.content);
    token.normalized = !token.special;
    tokens.with_id(std::move(token), id, false, file[i]);
  }
}

/// Adds every token of the folder's files and takes the ids of those that are named.
KDLIB_FUNC void read_side_tokens(const std::string& folder, const Json& config, std::int64_t rows,
                                 TokenizerData& data) {
  NamedTokens names;
  names.read(config);
  SideTokens tokens(data, rows);
  const auto file = [&](const char* name) { return join_path(folder, name); };
  if (const auto decoder = config.find_set("added_tokens_decoder")) {
    read_added_tokens_decoder(*decoder, names, tokens);
  } else {
    if (path_exists(file("special_tokens_map.json"))) names.read(Json::parse_file(file("special_tokens_map.json")));
    if (path_exists(file("added_tokens.json")))
      read_added_tokens_file(Json::parse_file(file("added_tokens.json")), names, tokens);
  }
  const auto take = [&](const std::string& key, std::optional<std::int32_t>* id) {
    const auto value = names.named.find(key);
    if (value == names.named.end()) return;
    const std::int32_t found = tokens.without_id(read_special_token(value->second), value->second);
    if (id != nullptr) *id = found;
    names.named.erase(value);
  };
  take("bos_token", &data.bos);
  take("eos_token", &data.eos);
  take("unk_token", nullptr);
  take("sep_token", nullptr);
  take("pad_token", &data.pad);
  take("cls_token", nullptr);
  take("mask_token", nullptr);
  for (const auto& [key, value] : names.named) tokens.without_id(read_special_token(value), value);
  for (const Json& value : names.more) tokens.without_id(read_special_token(value), value);
  data.splits_special = config.bool_or("split_special_tokens", false);
}

/// One Jinja text, or an array of texts with names.
KDLIB_FUNC void read_templates(const Json& config, TokenizerData& data) {
  const auto value = config.find_set("chat_template");
  if (!value) return;
  if (value->is_string()) {
    data.chat_template = value->as_string();
    return;
  }
  if (!value->is_array()) value->refuse("must be a string or an array of named templates");
  for (const Json& entry : *value) {
    std::string name(entry.at("name").as_string()), text(entry.at("template").as_string());
    if (name == "default") data.chat_template = std::move(text);
    else data.named_chat_templates.emplace_back(std::move(name), std::move(text));
  }
}

/// chat_template.jinja and additional_chat_templates/NAME.jinja win over tokenizer_config.json.
KDLIB_FUNC void read_template_files(const std::string& folder, TokenizerData& data) {
  constexpr std::string_view suffix = ".jinja";
  const std::string main = join_path(folder, "chat_template.jinja"),
                    more = join_path(folder, "additional_chat_templates");
  if (path_exists(main)) data.chat_template = read_file(main);
  if (!is_directory(more)) return;
  for (const std::string& file : list_directory(more)) {
    if (file.size() <= suffix.size() || file.substr(file.size() - suffix.size()) != suffix) continue;
    const std::string name = file.substr(0, file.size() - suffix.size());
    std::erase_if(data.named_chat_templates, [&](const auto& entry) { return entry.first == name; });
    data.named_chat_templates.emplace_back(name, read_file(join_path(more, file)));
  }
}

/// eos_token_id of generation_config.json or config.json: one id or several.
KDLIB_FUNC void add_stop_ids(const Json& config, TokenizerData& data) {
  const auto value = config.find_set("eos_token_id");
  if (!value) return;
  if (!value->is_array()) data.stop.push_back(read_token_id(*value));
  else
    for (const Json& id : *value) data.stop.push_back(read_token_id(id));
}

KDLIB_FUNC void read_files_beside(const std::string& folder, TokenizerData& data) {
  const auto file = [&](const char* name) { return join_path(folder, name); };
  const auto json = [&](const char* name) {
    return path_exists(file(name)) ? Json::parse_file(file(name)) : Json::parse("{}", file(name));
  };
  const Json config = json("config.json"), tokenizer_config = json("tokenizer_config.json");
  const auto rows = config.find_set("vocab_size");
  read_side_tokens(folder, tokenizer_config, rows ? rows->as_int() : 0, data);
  if (rows) data.limit_ids(rows->as_int(), file("config.json"));
  add_stop_ids(path_exists(file("generation_config.json")) ? json("generation_config.json") : config, data);
  read_templates(tokenizer_config, data);
  read_template_files(folder, data);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
