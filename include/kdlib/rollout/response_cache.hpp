// SPDX-License-Identifier: Apache-2.0
// What a teacher wrote, kept by what it was asked: other runs with the same teacher, prompts and sampler read it.
#ifndef KDLIB_ROLLOUT_RESPONSE_CACHE_HPP
#define KDLIB_ROLLOUT_RESPONSE_CACHE_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/rollout/generate.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// The members ids, log_probs, full_log_probs, stopped and, where there are given ids, given of an answer, in that
/// order.
void write_completion(JsonWriter& json, const Completion& answer);
/// Reads them; nothing where there is no token or the lists have different lengths. FormatError: an id that is not
/// below `vocabulary`, a member that is missing or of another type.
std::optional<Completion> read_completion(const Json& json, std::int64_t vocabulary);
}  // namespace detail

/// What a cache of answers did since it was opened.
struct ResponseUse {
  std::int64_t hits = 0, misses = 0;  // a damaged entry is a miss
  std::int64_t damaged = 0, evicted = 0;
  double saved_seconds = 0;  // that the answers which were found took when they were written

  double hit_rate() const;  // hits / (hits + misses); 0 where nothing was asked
  /// "12 of 16 answers (75 %) were there, 34.5 s saved"
  std::string text() const;
};

/// A folder of one small file an answer, <two digits>/<SHA-256 of the key>.json, with a checksum of its content.
/// Several processes may use it at once. The answers that were asked for least recently are removed where the folder
/// grows beyond its limit. A damaged entry counts as not there and is said once in notes().
class ResponseCache {
 public:
  /// Makes the folder. IoError where it cannot be. ConfigError: a limit below 1 MiB.
  ResponseCache(std::string folder, std::int64_t most_bytes);

  /// What the answer to one request depends on: the model (content_hash of its files, adapter included), the prompt,
  /// all settings of the sampler, the counters of its random numbers and the context. The scalar type and how many
  /// texts are decoded together are in it too, since they decide the last bits of logits.
  static std::string key(const std::string& model_hash, const WritingRequest& request, const Sampler& sampler,
                         const SettingsList& how);

  /// The answer, if it is there and whole, with ids below `vocabulary`.
  std::optional<Completion> find(const std::string& key, std::int64_t vocabulary);
  /// Keeps an answer that took `seconds` to write.
  void store(const std::string& key, const Completion& answer, double seconds);

  const ResponseUse& use() const { return use_; }
  /// Sentences since the last call.
  std::vector<std::string> take_notes();
  const std::string& folder() const { return folder_; }

 private:
  std::string path_of(const std::string& key) const;
  void evict();

  std::string folder_;
  std::int64_t most_bytes_;
  std::int64_t bytes_ = -1;  // in the folder, as far as this process knows; -1: not counted yet
  ResponseUse use_;
  std::vector<std::string> notes_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/rollout/response_cache_inl.hpp"
#endif

#endif
