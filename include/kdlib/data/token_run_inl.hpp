// SPDX-License-Identifier: Apache-2.0
// Bodies of token_run.hpp.
#ifndef KDLIB_DATA_TOKEN_RUN_INL_HPP
#define KDLIB_DATA_TOKEN_RUN_INL_HPP

#include <optional>

#include "kdlib/data/token_run.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/paths.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::string numbered(std::string_view what, std::int64_t number, std::size_t digits) {
  std::string text = std::to_string(number);
  if (text.size() < digits) text.insert(0, digits - text.size(), '0');
  return concat(what, "_", text);
}
KDLIB_FUNC std::string shard_name(std::int64_t k) { return numbered("shard", k, 2); }

KDLIB_FUNC std::vector<std::string> document_files(const std::string& prefix, bool scored) {
  std::vector<const char*> kinds{"_tokens", "_lossmask", "_span"};
  if (scored) kinds.push_back("_teacherlogp");
  std::vector<std::string> names;
  for (const char* kind : kinds)
    for (const char* end : {".bin", ".idx"}) names.push_back(concat(prefix, kind, end));
  names.push_back(prefix + "_rows.jsonl");
  return names;
}

KDLIB_FUNC void write_file_hashes(JsonWriter& json, const std::string& root, const std::vector<std::string>& names) {
  json.begin_object();
  for (const std::string& name : names) json.member(name, file_hash(join_path(root, name)));
  json.end_object();
}

KDLIB_FUNC bool files_are_whole(const std::string& root, const Json& files, std::string& problem) {
  for (const auto& [name, hash] : files.members()) {
    const std::string path = join_path(root, name);
    if (!is_regular_file(path)) problem = concat(path, " is missing");
    else if (file_hash(path) != hash.as_string()) problem = concat(path, " does not have the bytes of its hash");
    if (!problem.empty()) return false;
  }
  return true;
}

KDLIB_FUNC std::string setting_value_text(const Json& value) {
  if (value.is_string()) return printable(value.as_string());
  if (value.is_integer()) return std::to_string(value.as_int());
  std::string text;
  for (const Json& element : value) text += (text.empty() ? "" : ", ") + setting_value_text(element);
  return text;
}

KDLIB_FUNC std::string first_difference(const Json& there, const Json& here) {
  for (const auto& [key, value] : here.members()) {
    const std::optional<Json> other = there.find(key);
    if (value.is_object() && other) {
      const std::string inside = first_difference(*other, value);
      if (!inside.empty()) return concat(printable(key), ": ", inside);
      continue;
    }
    const std::string a = other ? setting_value_text(*other) : std::string(), b = setting_value_text(value);
    if (a != b) return concat(printable(key), " is '", a, "' there and '", b, "' here");
  }
  return {};
}

KDLIB_FUNC void refuse_other_run(std::string_view operation, const std::string& folder, const std::string& run,
                                 std::string_view what, std::string_view inputs, const std::string& made_of) {
  for (const std::string& name : list_directory(folder)) {
    if (!name.ends_with(".json")) continue;
    const std::string path = join_path(folder, name);
    const Json found = Json::parse_file(path);
    const std::string other{found.at("run").as_string()};
    if (other == run) continue;
    const std::optional<Json> theirs = found.find("made_of");
    std::string why;
    if (theirs && !made_of.empty()) why = first_difference(*theirs, Json::parse(made_of, "this run"));
    if (why.empty()) why = concat("its ", inputs, " are others");
    fail<SettingsError>(operation, path, " is ", what, " of the run ", other.substr(0, 12), ", this run is ",
                        run.substr(0, 12), ": ", why, "; choose another --out, or remove this one");
  }
}

KDLIB_FUNC void write_counts(JsonWriter& json, const TokenFileCounts& c) {
  json.member("rows", c.rows).member("documents", c.documents).member("truncated", c.truncated);
  for (std::size_t s = 0; s < 2; ++s)
    json.key(split_names[s])
        .begin_object()
        .member("documents", c.split_documents[s])
        .member("tokens", c.split_tokens[s])
        .end_object();
  json.key("skips").begin_object();
  for (std::size_t i = 1; i < c.skips.size(); ++i) json.member(enum_names(RowSkip::none)[i], c.skips[i]);
  json.end_object();
}

KDLIB_FUNC TokenFileCounts counts_of(const Json& json) {
  TokenFileCounts c;
  c.rows = json.at("rows").as_int();
  c.documents = json.at("documents").as_int();
  c.truncated = json.at("truncated").as_int();
  for (std::size_t s = 0; s < 2; ++s) {
    c.split_documents[s] = json.at(split_names[s]).at("documents").as_int();
    c.split_tokens[s] = json.at(split_names[s]).at("tokens").as_int();
  }
  for (std::size_t i = 1; i < c.skips.size(); ++i)
    c.skips[i] = json.at("skips").at(enum_names(RowSkip::none)[i]).as_int();
  return c;
}

KDLIB_FUNC void write_record(JsonWriter& json, const RowRecord& record) {
  json.member("key", record.key).member("file", record.file).member("row", record.row);
  json.member("language", record.language).member("exercise", record.exercise).member("tokens", record.tokens);
  json.member("prompt", record.prompt).member("reasoning", record.reasoning).member("final", record.final);
  json.member("effort", record.effort).member("effort_at", record.effort_at);
  json.member("truncated", record.truncated ? 1 : 0);
}

KDLIB_FUNC DocumentWriter::DocumentWriter(const std::string& prefix)
    : tokens_(prefix + "_tokens", IndexedType::i32),
      lossmask_(prefix + "_lossmask", IndexedType::u8),
      span_(prefix + "_span", IndexedType::u8),
      rows_(prefix + "_rows.jsonl") {}

KDLIB_FUNC void DocumentWriter::add(const std::vector<std::int32_t>& ids, const std::vector<std::uint8_t>& loss,
                                    const std::vector<std::uint8_t>& span, const std::string& row) {
  tokens_.add(ids.data(), ids.size());
  lossmask_.add(loss.data(), loss.size());
  span_.add(span.data(), span.size());
  rows_.write(row + "\n");
}

KDLIB_FUNC void DocumentWriter::commit() {
  rows_.commit();
  for (IndexedWriter* writer : {&lossmask_, &span_, &tokens_}) writer->commit();
}

}  // namespace detail

KDLIB_FUNC TokenFileCounts& TokenFileCounts::operator+=(const TokenFileCounts& o) {
  rows += o.rows;
  documents += o.documents;
  truncated += o.truncated;
  for (std::size_t s = 0; s < 2; ++s) {
    split_documents[s] += o.split_documents[s];
    split_tokens[s] += o.split_tokens[s];
  }
  for (std::size_t i = 0; i < skips.size(); ++i) skips[i] += o.skips[i];
  return *this;
}

KDLIB_FUNC std::string TokenFileCounts::skipped() const {
  std::string text;
  for (std::size_t i = 1; i < skips.size(); ++i)
    if (skips[i] > 0) text += concat(text.empty() ? "" : ", ", skips[i], " ", enum_names(RowSkip::none)[i]);
  return text;
}

KDLIB_NAMESPACE_END

#endif
