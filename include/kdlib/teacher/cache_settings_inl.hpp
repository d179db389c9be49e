// SPDX-License-Identifier: Apache-2.0
// Bodies of cache_settings.hpp.
#ifndef KDLIB_TEACHER_CACHE_SETTINGS_INL_HPP
#define KDLIB_TEACHER_CACHE_SETTINGS_INL_HPP

#include <cmath>
#include <cstdio>

#include "kdlib/core/fingerprint.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/teacher/cache_settings.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class E>
E named_value(const Json& json) {
  const std::string_view word = json.as_string();
  if (const std::optional<E> value = enum_value<E>(word)) return *value;
  std::string words;
  for (const char* name : enum_names(E{})) words += concat(words.empty() ? "" : ", ", name);
  json.refuse(concat("is \"", word, "\"; this version reads ", words));
}

/// The settings as files tell them: what the kind does not use is empty or 0.
KDLIB_FUNC CacheSettings told_settings(CacheSettings s) {
  if (s.kind == CacheKind::hidden) s.top_k = 0, s.temperatures.clear();
  if (!s.shuffled) s.seed = 0;
  return s;
}

KDLIB_FUNC std::string temperatures_text(const std::vector<double>& temperatures) {
  std::string out;
  for (const double t : temperatures) out += (out.empty() ? "" : ", ") + setting_text(t);
  return out;
}

/// A number of meta.json that must be at least `least`.
KDLIB_FUNC std::int64_t number_from(const Json& json, const char* key, std::int64_t least) {
  const Json value = json.at(key);
  const std::int64_t number = value.as_int();
  if (number < least) value.refuse(concat("is ", number, ", it must be ", least, " or more"));
  return number;
}

KDLIB_FUNC CacheFacts cache_facts_from(const Json& json) {
  CacheFacts f;
  f.teacher = json.string_or("teacher", "");
  f.teacher_hash = json.string_or("teacher_hash", "");
  f.tokenizer = json.string_or("tokenizer", "");
  f.vocabulary = number_from(json, "vocabulary", 1);
  f.real_vocabulary = number_from(json, "real_vocabulary", 0);
  f.hidden_size = number_from(json, "hidden_size", 1);
  f.scalar = json.string_or("scalar", "");
  f.dataset = json.string_or("dataset", "");
  f.dataset_hash = json.string_or("dataset_hash", "");
  f.max_length = number_from(json, "max_length", 0);
  if (f.real_vocabulary > f.vocabulary)
    json.at("real_vocabulary").refuse(concat("is ", f.real_vocabulary, " of a vocabulary of ", f.vocabulary));
  return f;
}

KDLIB_FUNC CacheSettings cache_settings_from(const Json& json) {
  CacheSettings s;
  s.kind = named_value<CacheKind>(json.at("kind"));
  s.store = named_value<CacheStore>(json.at("store"));
  s.top_k = number_from(json, "top_k", 0);
  s.temperatures.clear();
  for (const Json& t : json.at("temperatures")) s.temperatures.push_back(t.as_double());
  s.batch = number_from(json, "batch", 1);
  s.segment = number_from(json, "segment", 1);
  s.workers = number_from(json, "workers", 1);
  s.shuffled = json.at("shuffled").as_bool();
  s.seed = json.at("seed").as_uint();
  if (const auto container = json.find_set("container")) s.container = named_value<CacheContainer>(*container);
  if (s.container == CacheContainer::hdf5) s.gzip = static_cast<int>(number_from(json, "gzip", 0));
  s.check();
  return s;
}

}  // namespace detail

KDLIB_FUNC void CacheSettings::check() const {
  const auto at_least_one = [](const char* name, std::int64_t value) {
    require<ConfigError>(value >= 1, "[teacher cache] ", name, " is ", value, "; it must be 1 or more");
  };
  at_least_one("batch", batch);
  at_least_one("segment", segment);
  at_least_one("workers", workers);
  require<ConfigError>(gzip >= 0 && gzip <= 9, "[teacher cache] gzip is ", gzip, "; it must be from 0 to 9");
  require<ConfigError>(workers <= 1000, "[teacher cache] workers is ", workers, "; it must be 1000 or less");
  if (kind == CacheKind::hidden) {
    require<ConfigError>(
        store != CacheStore::f16,
        "[teacher cache] hidden states are stored as f32 or bf16: f16 ends at 65504, and they need not");
    return;
  }
  require<ConfigError>(store != CacheStore::bf16,
                       "[teacher cache] log-probabilities are stored as f32 or f16: bf16 is 5 % off at -17");
  at_least_one("top_k", top_k);
  require<ConfigError>(!temperatures.empty() && temperatures.size() <= 16, "[teacher cache] ", temperatures.size(),
                       " temperatures; give from 1 to 16");
  for (std::size_t i = 0; i < temperatures.size(); ++i)
    require<ConfigError>(
        std::isfinite(temperatures[i]) && temperatures[i] > 0 && (i == 0 || temperatures[i] > temperatures[i - 1]),
        "[teacher cache] temperatures are ", detail::temperatures_text(temperatures),
        "; they must be above 0 and ascend");
}

KDLIB_FUNC SettingsList CacheMeta::describe() const {
  SettingsList list = {{"format", "kdcache"}, {"version", setting_text(version)}};
  const CacheSettings told = detail::told_settings(settings);
  CacheSettings::visit_fields(
      told, [&list](const FieldInfo& field, const auto& value) { list.emplace_back(field.name, setting_text(value)); });
  list.emplace_back("temperatures", detail::temperatures_text(told.temperatures));
  list.emplace_back("teacher_hash", facts.teacher_hash);
  list.emplace_back("tokenizer", facts.tokenizer);
  list.emplace_back("vocabulary", setting_text(facts.vocabulary));
  list.emplace_back("real_vocabulary", setting_text(facts.real_vocabulary));
  list.emplace_back("hidden_size", setting_text(facts.hidden_size));
  list.emplace_back("scalar", facts.scalar);
  list.emplace_back("documents", setting_text(documents));
  list.emplace_back("text", text_hash);
  return list;
}

KDLIB_FUNC std::string CacheMeta::run_hash() const {
  Fingerprint f;
  for (const auto& [key, value] : describe()) {
    f.add(std::string_view(key));
    f.add(std::string_view(value));
  }
  return f.text();
}

KDLIB_FUNC std::string CacheMeta::json() const {
  JsonWriter w(JsonStyle{2, NonFinite::refuse});
  const CacheSettings told = detail::told_settings(settings);
  w.begin_object().member("format", "kdcache").member("version", version).member("alignment", "predicts_next");
  w.member("kind", setting_text(told.kind)).member("store", setting_text(told.store)).member("top_k", told.top_k);
  w.member("temperatures", told.temperatures);
  w.member("batch", told.batch).member("segment", told.segment).member("workers", told.workers);
  w.member("shuffled", told.shuffled).member("seed", told.seed);
  if (told.container == CacheContainer::hdf5)
    w.member("container", setting_text(told.container)).member("gzip", told.gzip);
  w.member("teacher", facts.teacher).member("teacher_hash", facts.teacher_hash).member("tokenizer", facts.tokenizer);
  w.member("vocabulary", facts.vocabulary).member("real_vocabulary", facts.real_vocabulary);
  w.member("hidden_size", facts.hidden_size).member("scalar", facts.scalar).member("dataset", facts.dataset);
  w.member("dataset_hash", facts.dataset_hash).member("max_length", facts.max_length);
  w.member("documents", documents).member("tokens", tokens).member("rows", rows).member("text", text_hash);
  w.member("run_hash", run_hash()).member("complete", complete);
  w.key("files").begin_array();
  for (const CacheFile& file : files)
    w.begin_object().member("name", file.name).member("checksum", file.checksum).end_object();
  return w.end_array().end_object().text();
}

KDLIB_FUNC CacheMeta CacheMeta::read(const std::string& folder) {
  const std::string path = join_path(folder, "meta.json");
  require<IoError>(path_exists(folder), "[teacher cache] ", folder,
                   " is not there: give the folder of a cache that cache_logits made");
  require<IoError>(is_directory(folder), "[teacher cache] ", folder,
                   " is a file: give the folder of a cache that cache_logits made");
  require<IoError>(path_exists(path), "[teacher cache] ", folder,
                   " holds no meta.json: it is no teacher's cache (cache_logits makes one)");
  const Json json = Json::parse_file(path);
  const std::string format = json.string_or("format", "");
  require<FormatError>(format == "kdcache", "[teacher cache] ", path, ": format is \"", format,
                       "\", this reader needs \"kdcache\"");
  const std::int64_t found = json.at("version").as_int();
  require<FormatError>(found == version, "[teacher cache] ", path, ": version is ", found, ", this reader needs ",
                       version);
  const std::string alignment = json.string_or("alignment", "");
  require<FormatError>(alignment == "predicts_next", "[teacher cache] ", path, ": alignment is \"", alignment,
                       "\", this reader needs \"predicts_next\"");
  CacheMeta meta;
  meta.facts = detail::cache_facts_from(json);
  meta.settings = detail::cache_settings_from(json);
  meta.documents = detail::number_from(json, "documents", 0);
  meta.tokens = detail::number_from(json, "tokens", 0);
  meta.rows = detail::number_from(json, "rows", 0);
  meta.text_hash = json.string_or("text", "");
  meta.complete = json.at("complete").as_bool();
  for (const Json& file : json.at("files"))
    meta.files.push_back({std::string(file.at("name").as_string()), std::string(file.at("checksum").as_string())});
  const std::string run = json.string_or("run_hash", "");
  require<FormatError>(run == meta.run_hash(), "[teacher cache] ", path, ": run_hash is \"", run,
                       "\", its settings give \"", meta.run_hash(), "\": the file was changed by hand");
  return meta;
}

KDLIB_FUNC std::int64_t segment_count(const CacheMeta& meta, std::int64_t worker) {
  const std::int64_t W = meta.settings.workers, own = (meta.documents - worker + W - 1) / W;
  return (own + meta.settings.segment - 1) / meta.settings.segment;
}

KDLIB_FUNC std::vector<std::int64_t> segment_places(const CacheMeta& meta, std::int64_t worker, std::int64_t segment) {
  std::vector<std::int64_t> places;
  const std::int64_t W = meta.settings.workers, B = meta.settings.segment;
  for (std::int64_t j = segment * B; j < (segment + 1) * B && worker + W * j < meta.documents; ++j)
    places.push_back(worker + W * j);
  return places;
}

KDLIB_FUNC std::string segment_name(std::int64_t worker, std::int64_t segment, CacheContainer container) {
  char text[64];
  std::snprintf(text, sizeof text, "segments/%03lld_%06lld", static_cast<long long>(worker),
                static_cast<long long>(segment));
  return std::string(text) + (container == CacheContainer::hdf5 ? ".h5" : ".safetensors");
}

KDLIB_FUNC std::string cached_text_hash(const TokenBatch& documents) {
  const TokenBatch::Rows rows = documents.rows();
  Fingerprint f;
  f.add(std::span<const std::int32_t>(documents.ids));
  f.add(documents.offsets.data(), documents.offsets.size() * sizeof(std::int64_t));
  f.add(rows.token.data(), rows.token.size() * sizeof(std::int64_t));
  f.add(rows.weight.data(), rows.weight.size() * sizeof(float));
  return f.text();
}

KDLIB_NAMESPACE_END

#endif
