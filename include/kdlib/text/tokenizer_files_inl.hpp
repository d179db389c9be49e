// SPDX-License-Identifier: Apache-2.0
// Readers of byte_level_bpe.hpp: tokenizer.json and the files beside it. Every refusal names the file and the key.
#ifndef KDLIB_TEXT_TOKENIZER_FILES_INL_HPP
#define KDLIB_TEXT_TOKENIZER_FILES_INL_HPP

#include <algorithm>
#include <unordered_map>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/text/byte_level_bpe.hpp"
#include "kdlib/text/piece_files_inl.hpp"
#include "kdlib/text/piece_protobuf_inl.hpp"
#include "kdlib/text/post_processor_reading_inl.hpp"
#include "kdlib/text/tokenizer_data.hpp"
#include "kdlib/text/tokenizer_gguf_inl.hpp"
#include "kdlib/text/tokenizer_reading.hpp"
#include "kdlib/text/tokenizer_side_files_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::int32_t read_token_id(const Json& value) {
  const std::int64_t id = value.as_int();
  if (id < 0 || id > Vocabulary::max_id)
    value.refuse(concat("is ", id, "; a token id lies in [0, ", Vocabulary::max_id, "]"));
  return static_cast<std::int32_t>(id);
}

KDLIB_FUNC std::string type_of(const Json& object) { return std::string(object.at("type").as_string()); }

KDLIB_FUNC void read_added_tokens(const Json& list, TokenizerData& data) {
  if (!list.is_array() && !list.is_null()) list.refuse("must be an array");
  for (const Json& entry : list) {
    AddedToken token;
    token.id = read_token_id(entry.at("id"));
    token.content = entry.at("content").as_string();
    if (token.content.empty()) entry.refuse("has an empty content");
    token.single_word = entry.bool_or("single_word", false);
    token.lstrip = entry.bool_or("lstrip", false);
    token.rstrip = entry.bool_or("rstrip", false);
    token.normalized = entry.bool_or("normalized", false);
    token.special = entry.bool_or("special", false);
    data.added.push_back(std::move(token));
  }
}

KDLIB_FUNC void read_vocabulary(const Json& vocab, const Json& added_list, TokenizerData& data) {
  if (!vocab.is_object() || vocab.size() == 0) vocab.refuse("must be an object that maps tokens to ids");
  std::unordered_map<std::string_view, std::int32_t> added;
  for (std::size_t i = 0; i < data.added.size(); ++i)
    if (!added.emplace(data.added[i].content, data.added[i].id).second)
      added_list[i].refuse("has the content of an earlier entry");
  data.model.vocabulary = Vocabulary(vocab.size());
  std::string bytes;
  for (std::size_t i = 0; i < vocab.size(); ++i) {
    const std::string_view key = vocab.key(i);
    const Json value = vocab[i];
    const std::int32_t id = read_token_id(value);
    const auto known = added.find(key);
    bytes.clear();
    if (known != added.end()) {
      if (known->second != id)
        value.refuse(concat("is ", id, ", but added_tokens give this token the id ", known->second));
      bytes = key;
    } else if (key.empty() || !append_alphabet_bytes(key, bytes)) {
      value.refuse("belongs to a token that is not written in the byte-level alphabet and is no added token");
    }
    if (!data.model.vocabulary.add(bytes, id)) value.refuse(concat("is ", id, ", which another token has already"));
  }
  for (std::size_t i = 0; i < data.added.size(); ++i) {
    const AddedToken& token = data.added[i];
    if (data.model.vocabulary.find(token.content) == token.id) continue;
    if (!data.model.vocabulary.add_hidden(token.content, token.id))
      added_list[i].at("id").refuse("is the id of another token");
  }
}

KDLIB_FUNC std::pair<std::string_view, std::string_view> read_merge(const Json& entry) {
  std::string_view first, second;
  if (entry.is_array()) {
    if (entry.size() != 2) entry.refuse("must have two parts");
    return {entry[0].as_string(), entry[1].as_string()};
  }
  if (!split_merge(entry.as_string(), first, second)) entry.refuse("must have two parts with one space between them");
  return {first, second};
}

KDLIB_FUNC void read_merges(const Json& merges, TokenizerData& data) {
  if (!merges.is_array()) merges.refuse("must be an array of pairs");
  std::string left, right;
  std::uint32_t rank = 0;
  for (const Json& entry : merges) {
    const auto [first, second] = read_merge(entry);
    left.clear();
    right.clear();
    if (!append_alphabet_bytes(first, left) || !append_alphabet_bytes(second, right))
      entry.refuse("is not written in the byte-level alphabet");
    const std::string problem = data.add_merge(left, right, rank++);
    if (!problem.empty()) entry.refuse(problem);
  }
}

KDLIB_FUNC void require_unset(const Json& model, std::string_view key) {
  const auto value = model.find_set(key);
  if (!value) return;
  if (value->is_string() && value->as_string().empty()) return;
  if (value->is_bool() && !value->as_bool()) return;
  if (value->is_number() && value->as_double() == 0) return;
  value->refuse("is set; kdlib reads byte-level BPE without it");
}

KDLIB_FUNC void read_model(const Json& root, TokenizerData& data) {
  const Json model = root.at("model");
  if (type_of(model) != "BPE")
    model.at("type").refuse(concat("is \"", type_of(model), "\"; kdlib reads byte-level BPE (\"BPE\")"));
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback"})
    require_unset(model, key);
  data.model.ignore_merges = model.bool_or("ignore_merges", false);
  const Json added_list = root.find_set("added_tokens").value_or(Json());
  read_added_tokens(added_list, data);
  read_vocabulary(model.at("vocab"), added_list, data);
  read_merges(model.at("merges"), data);
  data.model.set_byte_tokens();
  if (const auto unknown = model.find_set("unk_token")) {
    const std::int32_t id = data.model.vocabulary.find(unknown->as_string());
    if (id == Vocabulary::none) unknown->refuse("is no token of model.vocab");
    for (std::int32_t& token : data.model.byte_token)
      if (token == Vocabulary::none) token = id;
  }
}

KDLIB_FUNC void read_normalizer(const Json& normalizer, TokenizerData& data) {
  if (normalizer.is_null()) return;
  const std::string type = type_of(normalizer);
  if (type == "Sequence") {
    for (const Json& part : normalizer.at("normalizers")) read_normalizer(part, data);
  } else if (type == "NFC") {
    data.nfc = true;
  } else {
    normalizer.at("type").refuse(concat("is \"", type, "\"; kdlib knows NFC and none"));
  }
}

/// One step of a pre_tokenizer as a letter: D(igits), G B(yteLevel with and without GPT-2's regex), or the Split
/// regexes g q o l.
KDLIB_FUNC char read_split_step(const Json& step) {
  const std::string type = type_of(step);
  if (type == "Digits") {
    if (!step.bool_or("individual_digits", false))
      step.refuse("cuts runs of digits; kdlib knows individual_digits = true");
    return 'D';
  }
  if (type == "ByteLevel") {
    if (step.at("add_prefix_space").as_bool())
      step.at("add_prefix_space").refuse("is true; kdlib adds no space in front of a text");
    return step.bool_or("use_regex", true) ? 'G' : 'B';
  }
  if (type != "Split") step.at("type").refuse(concat("is \"", type, "\"; kdlib knows Split, Digits and ByteLevel"));
  if (step.at("behavior").as_string() != "Isolated") step.at("behavior").refuse("must be \"Isolated\"");
  if (step.bool_or("invert", false)) step.at("invert").refuse("must be false");
  const Json regex = step.at("pattern").at("Regex");
  if (regex.as_string() == pre_tokenizer_regex(PreTokenizer::gpt2)) return 'g';
  if (regex.as_string() == pre_tokenizer_regex(PreTokenizer::qwen)) return 'q';
  if (regex.as_string() == pre_tokenizer_regex(PreTokenizer::o200k)) return 'o';
  if (regex.as_string() == pre_tokenizer_regex(PreTokenizer::llama3)) return 'l';
  regex.refuse(concat("is not one of the regexes that kdlib has scanners for (GPT-2, Qwen2, o200k, Llama 3): ",
                      regex.as_string()));
}

KDLIB_FUNC void read_pre_tokenizer(const Json& pre, TokenizerData& data) {
  if (pre.is_null()) pre.refuse("is null; a byte-level tokenizer needs a ByteLevel step");
  std::string steps;
  if (type_of(pre) == "Sequence") {
    for (const Json& step : pre.at("pretokenizers")) steps += read_split_step(step);
  } else {
    steps += read_split_step(pre);
  }
  const std::pair<std::string_view, PreTokenizer> known[] = {
      {"G", PreTokenizer::gpt2},          {"gB", PreTokenizer::gpt2}, {"DG", PreTokenizer::gpt2_digits},
      {"DgB", PreTokenizer::gpt2_digits}, {"qB", PreTokenizer::qwen}, {"oB", PreTokenizer::o200k},
      {"lB", PreTokenizer::llama3}};
  for (const auto& [order, kind] : known) {
    if (order != steps) continue;
    data.pre_tokenizer = kind;
    return;
  }
  pre.refuse(
      "combines its steps in a way that kdlib does not know; known are ByteLevel, Digits + ByteLevel and Split + "
      "ByteLevel");
}

/// A decoder changes no id, but one of another kind would mean another alphabet.
KDLIB_FUNC void check_decoder(const Json& root) {
  const auto decoder = root.find_set("decoder");
  if (decoder && type_of(*decoder) != "ByteLevel")
    decoder->at("type").refuse(concat("is \"", type_of(*decoder), "\"; kdlib reads ByteLevel"));
}

KDLIB_FUNC void read_tokenizer_json(const Json& root, TokenizerData& data) {
  if (!root.is_object()) root.refuse("must be an object");
  if (root.at("version").as_string() != "1.0")
    root.at("version").refuse(concat("is \"", root.at("version").as_string(), "\"; kdlib reads \"1.0\""));
  if (!is_byte_level(root)) {
    read_piece_tokenizer(root, data);
  } else {
    read_model(root, data);
    read_normalizer(root.find_set("normalizer").value_or(Json()), data);
    read_pre_tokenizer(root.at("pre_tokenizer"), data);
    check_decoder(root);
  }
  if (const auto post = root.find_set("post_processor")) data.post_processor = read_post_processor(*post);
}

/// *.model and *.spm, also with a version behind (tokenizer.model.v3).
KDLIB_FUNC bool is_piece_file_name(std::string_view path) {
  const std::string_view name = path.substr(path.rfind('/') + 1);  // npos + 1 is 0
  const std::size_t at = std::max(name.rfind(".model") + 1, name.rfind(".spm") + 1);
  return at > 0 && (name.find('.', at) == name.npos || name.substr(name.find('.', at), 2) == ".v");
}

/// A tokenizer.model and, if `folder` is not empty, the files beside it.
KDLIB_FUNC std::shared_ptr<const TokenizerData> read_piece_file(std::string_view bytes, std::string name,
                                                                const std::string& folder) {
  auto data = std::make_shared<TokenizerData>();
  data->source = std::move(name);
  read_piece_protobuf(bytes, *data);
  const std::string config = join_path(folder, "tokenizer_config.json");
  const bool configured = !folder.empty() && path_exists(config);
  if (!folder.empty()) read_files_beside(folder, *data);
  read_piece_surroundings(configured ? Json::parse_file(config) : Json::parse("{}", data->source), *data);
  finish_stop_ids(*data);
  data->finish();
  return data;
}

}  // namespace detail

KDLIB_FUNC Tokenizer Tokenizer::from_json_text(std::string text, std::string name) {
  auto data = std::make_shared<detail::TokenizerData>();
  data->source = name;
  detail::read_tokenizer_json(Json::parse(std::move(text), std::move(name)), *data);
  data->finish();
  return Tokenizer(data);
}

KDLIB_FUNC Tokenizer Tokenizer::from_piece_bytes(std::string_view bytes, std::string name) {
  return Tokenizer(detail::read_piece_file(bytes, std::move(name), {}));
}

KDLIB_FUNC Tokenizer Tokenizer::from_pretrained(const std::string& path) {
  const bool folder = is_directory(path);
  std::string file = folder ? join_path(path, "tokenizer.json") : path;
  if (folder && !path_exists(file))  // sentencepiece's names: Llama's, T5's
    for (const char* name : {"tokenizer.model", "spiece.model"})
      if (path_exists(join_path(path, name))) file = join_path(path, name);
  if (path_exists(file) && detail::is_piece_file_name(file))
    return Tokenizer(detail::read_piece_file(read_file(file), file, folder ? path : std::string()));
  require<IoError>(
      path_exists(file), "[tokenizer] ", file, " is not there",
      folder ? "; kdlib reads tokenizer.json or tokenizer.model (vocab.json with merges.txt: save the model's fast "
               "tokenizer) or a GGUF file"
             : "");
  if (!folder && detail::begins_as_gguf(file)) return from_gguf(GgufFile(file));
  auto data = std::make_shared<detail::TokenizerData>();
  data->source = file;
  detail::read_tokenizer_json(Json::parse_file(file), *data);
  if (folder) detail::read_files_beside(path, *data);
  detail::finish_stop_ids(*data);
  data->finish();
  return Tokenizer(data);
}

KDLIB_FUNC Tokenizer Tokenizer::from_gguf(const GgufFile& file) {
  auto data = std::make_shared<detail::TokenizerData>();
  data->source = file.path();
  detail::read_gguf_tokenizer(file, *data);
  detail::finish_stop_ids(*data);
  data->finish();
  return Tokenizer(data);
}

KDLIB_NAMESPACE_END

#endif
