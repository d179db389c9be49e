// SPDX-License-Identifier: Apache-2.0
// Bodies of response_cache.hpp.
#ifndef KDLIB_ROLLOUT_RESPONSE_CACHE_INL_HPP
#define KDLIB_ROLLOUT_RESPONSE_CACHE_INL_HPP

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <tuple>
#include <utility>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/checksum.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/rollout/response_cache.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void write_completion(JsonWriter& json, const Completion& answer) {
  json.member("ids", answer.ids).member("log_probs", answer.log_probs);
  json.member("full_log_probs", answer.full_log_probs).member("stopped", answer.stopped);
  if (!answer.given.empty()) json.member("given", answer.given);
}

KDLIB_FUNC std::optional<Completion> read_completion(const Json& json, std::int64_t vocabulary) {
  const Json ids = json.at("ids"), log_probs = json.at("log_probs"), full = json.at("full_log_probs");
  if (ids.size() == 0 || log_probs.size() != ids.size() || full.size() != ids.size()) return std::nullopt;
  Completion out;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::int64_t id = ids[i].as_int();
    if (id < 0 || id >= vocabulary) ids[i].refuse("is not an id of the teacher's vocabulary");
    out.ids.push_back(static_cast<std::int32_t>(id));
    out.log_probs.push_back(static_cast<float>(log_probs[i].as_double()));
    out.full_log_probs.push_back(static_cast<float>(full[i].as_double()));
  }
  out.stopped = json.at("stopped").as_bool();
  for (const Json& given : json.find_set("given").value_or(Json())) out.given.push_back(given.as_int() != 0 ? 1 : 0);
  if (!out.given.empty() && out.given.size() != out.ids.size()) return std::nullopt;
  return out;
}

KDLIB_FUNC std::string response_json(const Completion& answer, double seconds) {
  JsonWriter w;
  w.begin_object();
  write_completion(w, answer);
  return w.member("seconds", seconds).end_object().text();
}

/// The answer and its seconds in the text of a file. FormatError: another checksum, lengths that differ, an id outside
/// the vocabulary.
KDLIB_FUNC std::pair<Completion, double> read_response(const std::string& path, std::int64_t vocabulary) {
  const std::string text = read_file(path, std::uint64_t{1} << 28);
  const std::size_t end = text.find('\n');
  require<FormatError>(end != std::string::npos, "[answers] ", path, " is cut off");
  const std::string body = text.substr(end + 1), sum = checksum_text(std::string_view(body));
  require<FormatError>(text.substr(0, end) == sum, "[answers] ", path, " has the checksum ", sum, ", not ",
                       printable(std::string_view(text).substr(0, std::min<std::size_t>(end, 32))));
  const Json json = Json::parse(body, path);
  std::optional<Completion> answer = read_completion(json, vocabulary);
  if (!answer) json.refuse("has lists of different lengths");
  return {std::move(*answer), json.at("seconds").as_double()};
}

struct KeptResponse {
  std::string path;
  std::int64_t bytes = 0;
  std::int64_t seconds = 0, nanoseconds = 0;  // when it was last asked for
};

/// Every entry of the folder; files that vanish meanwhile are left out.
KDLIB_FUNC std::vector<KeptResponse> kept_responses(const std::string& folder) {
  std::vector<KeptResponse> out;
  for (const std::string& part : list_directory(folder)) {
    if (part.size() != 2 || !is_directory(join_path(folder, part))) continue;
    for (const std::string& name : list_directory(join_path(folder, part))) {
      const std::string path = join_path(join_path(folder, part), name);
      struct ::stat info {};
      if (name.size() != 69 || ::stat(path.c_str(), &info) != 0) continue;  // 64 digits and ".json"
      out.push_back({path, static_cast<std::int64_t>(info.st_size), static_cast<std::int64_t>(info.st_mtim.tv_sec),
                     static_cast<std::int64_t>(info.st_mtim.tv_nsec)});
    }
  }
  return out;
}

}  // namespace detail

KDLIB_FUNC double ResponseUse::hit_rate() const {
  return hits + misses > 0 ? static_cast<double>(hits) / static_cast<double>(hits + misses) : 0;
}

KDLIB_FUNC std::string ResponseUse::text() const {
  char out[128];
  const std::int64_t asked = hits + misses;
  std::snprintf(out, sizeof out, "%lld of %lld answers (%.0f %%) were there, %.1f s saved",
                static_cast<long long>(hits), static_cast<long long>(asked), 100 * hit_rate(), saved_seconds);
  return out;
}

KDLIB_FUNC ResponseCache::ResponseCache(std::string folder, std::int64_t most_bytes)
    : folder_(std::move(folder)), most_bytes_(most_bytes) {
  require<ConfigError>(most_bytes >= std::int64_t{1} << 20, "[answers] the limit of ", folder_, " is ", most_bytes,
                       " bytes; it must be 1 MiB or more");
  make_directories(folder_);
}

KDLIB_FUNC std::string ResponseCache::key(const std::string& model_hash, const WritingRequest& request,
                                          const Sampler& sampler, const SettingsList& how) {
  SettingsList list = {{"format", "kdlib answers 1"}, {"model", model_hash}};
  append_fields(list, "sampler", sampler);
  list.insert(list.end(), how.begin(), how.end());
  list.emplace_back("step", setting_text(request.step));
  list.emplace_back("row", setting_text(request.row));
  Sha256 hash;
  for (const auto& [name, value] : list) hash.add(concat(name, "=", value.size(), ":", value, "\n"));
  hash.add(request.prompt.data(), request.prompt.size() * sizeof(std::int32_t));
  return hash.digest();
}

KDLIB_FUNC std::string ResponseCache::path_of(const std::string& key) const {
  return join_path(join_path(folder_, key.substr(0, 2)), key + ".json");
}

KDLIB_FUNC std::optional<Completion> ResponseCache::find(const std::string& key, std::int64_t vocabulary) {
  const std::string path = path_of(key);
  if (path_exists(path)) {
    try {
      auto [answer, seconds] = detail::read_response(path, vocabulary);
      ++use_.hits;
      use_.saved_seconds += seconds;
      static_cast<void>(::utimensat(AT_FDCWD, path.c_str(), nullptr, 0));  // it was asked for now
      return std::move(answer);
    } catch (const Error& error) {
      if (use_.damaged++ == 0)
        notes_.push_back(concat("an answer of the teacher is damaged and is written again: ", error.what()));
    }
  }
  ++use_.misses;
  return std::nullopt;
}

KDLIB_FUNC void ResponseCache::store(const std::string& key, const Completion& answer, double seconds) {
  const std::string body = detail::response_json(answer, seconds), path = path_of(key),
                    text = checksum_text(std::string_view(body)) + "\n" + body;
  make_directories(parent_path(path));
  write_file_atomically(path, text);
  if (bytes_ < 0) {
    bytes_ = 0;
    for (const detail::KeptResponse& kept : detail::kept_responses(folder_)) bytes_ += kept.bytes;
  } else {
    bytes_ += static_cast<std::int64_t>(text.size());
  }
  if (bytes_ > most_bytes_) evict();
}

/// Removes what was asked for least recently until a tenth of the limit is free.
KDLIB_FUNC void ResponseCache::evict() {
  std::vector<detail::KeptResponse> all = detail::kept_responses(folder_);
  std::sort(all.begin(), all.end(), [](const detail::KeptResponse& a, const detail::KeptResponse& b) {
    return std::tie(a.seconds, a.nanoseconds, a.path) < std::tie(b.seconds, b.nanoseconds, b.path);
  });
  bytes_ = 0;
  for (const detail::KeptResponse& kept : all) bytes_ += kept.bytes;
  for (const detail::KeptResponse& kept : all) {
    if (bytes_ <= most_bytes_ - most_bytes_ / 10) break;
    remove_tree(kept.path);
    bytes_ -= kept.bytes;
    ++use_.evicted;
  }
}

KDLIB_FUNC std::vector<std::string> ResponseCache::take_notes() { return std::exchange(notes_, {}); }

KDLIB_NAMESPACE_END

#endif
