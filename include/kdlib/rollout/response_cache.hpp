// SPDX-License-Identifier: Apache-2.0
// Answers of a teacher, kept by their request: other runs with the same teacher, prompts and sampler read them.
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
/// Writes the members ids, log_probs, full_log_probs and stopped of an answer, in this order, and then `given` if there
/// are given ids.
void write_completion(JsonWriter& json, const Completion& answer);
/// Reads these members. Returns nothing if there is no token or the lists have different lengths. Throws FormatError
/// for an id outside of [0, vocabulary) and for a member that is missing or of another type.
std::optional<Completion> read_completion(const Json& json, std::int64_t vocabulary);
}  // namespace detail

/// What a cache of answers did since it was opened.
struct ResponseUse {
  std::int64_t hits = 0, misses = 0;  // a damaged entry counts as a miss
  std::int64_t damaged = 0, evicted = 0;
  double saved_seconds = 0;  // time that the answers which were found took to write

  double hit_rate() const;  // hits / (hits + misses); 0 where nothing was asked
  /// Describes the use: "12 of 16 answers (75 %) were there, 34.5 s saved".
  std::string text() const;
};

/// A folder with one small file for each answer, <two digits>/<SHA-256 of the key>.json, with a checksum of its
/// content. Several processes may use it at once. If the folder grows beyond its limit, the least recently used answers
/// are removed. A damaged entry counts as missing; the first one is reported in take_notes().
class ResponseCache {
 public:
  /// Makes the folder. Throws IoError if that fails, ConfigError for a limit below 1 MiB.
  ResponseCache(std::string folder, std::int64_t most_bytes);

  /// Returns the key of one request: a hash of everything that its answer depends on. These are `model_hash`
  /// (content_hash of the model's files, adapter included), the prompt, all settings of the sampler, the counters of
  /// its random numbers and `how`. `how` has the context; it also has the scalar type and the number of texts that are
  /// decoded together, since both decide the last bits of logits.
  static std::string key(const std::string& model_hash, const WritingRequest& request, const Sampler& sampler,
                         const SettingsList& how);

  /// Returns the answer if it is there and whole and its ids are below `vocabulary`.
  std::optional<Completion> find(const std::string& key, std::int64_t vocabulary);
  /// Keeps an answer that took `seconds` to write.
  void store(const std::string& key, const Completion& answer, double seconds);

  const ResponseUse& use() const { return use_; }
  /// Returns the sentences that were collected since the last call.
  std::vector<std::string> take_notes();
  const std::string& folder() const { return folder_; }

 private:
  std::string path_of(const std::string& key) const;
  void evict();

  std::string folder_;
  std::int64_t most_bytes_;
  std::int64_t bytes_ = -1;  // in the folder, as far as this process knows; -1: not yet counted
  ResponseUse use_;
  std::vector<std::string> notes_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/rollout/response_cache_inl.hpp"
#endif

#endif
