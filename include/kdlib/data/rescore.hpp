// SPDX-License-Identifier: Apache-2.0
// A teacher's log-probability of every token of token files that counts, in parts that several workers make.
#ifndef KDLIB_DATA_RESCORE_HPP
#define KDLIB_DATA_RESCORE_HPP

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kdlib/data/token_shards.hpp"

KDLIB_NAMESPACE_BEGIN

/// Bounds of the bins that log-probabilities are counted in: bin i holds x with bounds[i + 1] < x <= bounds[i], the
/// last one everything below.
inline constexpr std::array<double, 8> log_prob_bounds{0, -0.01, -0.03, -0.1, -0.3, -1, -3, -10};
/// The bin of x <= 0.
std::size_t log_prob_bin(double x);

/// Which documents are scored, how they are stored, and which of the work is this worker's.
struct RescoreSettings {
  std::string out;                       // a folder
  std::string fraction = "0.2";          // share of the documents, by blake2b64 of "rescore:" + key
  std::vector<std::string> strata{};     // "LANGUAGE/EXERCISE=SHARE", * for any: the first that fits, before `fraction`
  std::int64_t min_reasoning = 1;        // tokens of the thought
  bool store_f32 = false;                // else the bits of 16-bit floats
  std::int64_t part_documents = 1024;    // documents a part
  std::int64_t worker = 0, workers = 1;  // this worker makes parts worker, worker + workers, ...
  std::string teacher{};                 // hash or name of the teacher: part of the run's hash
  std::string dtype{};                   // of its arithmetic
  std::int64_t ahead = 0;                // documents that `announce` is told of before they are scored
  std::function<void(std::span<const std::int32_t> ids)> announce{};  // of a teacher that can begin early
  std::function<void(const std::string&)> message{};
  std::function<void(std::int64_t documents, std::int64_t tokens)> progress{};
};

/// The teacher's natural log-probability of ids[t + 1] given ids[0 .. t], at temperature 1, for t in [0, ids - 1).
using ScoreDocument = std::function<std::vector<double>(std::span<const std::int32_t> ids)>;

/// What a worker did.
struct RescoreResult {
  std::int64_t selected = 0, parts = 0;     // documents and parts of all workers
  std::int64_t made_parts = 0, scored = 0;  // parts and tokens of this call
  bool complete = false;                    // all parts are there: manifest.json is written
};

/// Scores the selected documents of a split: train, nothing cut off, a long enough thought. Each is read with the word
/// `medium` where it names an effort. Writes OUT/parts/part_PPPPP_{tokens,lossmask,span,teacherlogp}.{bin,idx},
/// part_PPPPP_rows.jsonl and, last, part_PPPPP.json; OUT/manifest.json when every part of every worker is whole. A part
/// is whole if its .json has this run's hash and its files have their hashes; others are made again. The number of
/// workers changes nothing.
///
/// SettingsError: a share or stratum that cannot be read, a folder with parts of another run. ConfigError: no document
/// is selected.
/// FormatError, with key and position: a log-probability that is NaN, infinite, above 1e-3 or below -1000.
RescoreResult rescore_documents(const TokenShards& shards, const RescoreSettings& settings, const ScoreDocument& score);

/// What a run that trains on rescored parts knows of them. What is empty may be anything.
struct RescoredNeeds {
  std::string token_files{};                  // TokenShards::run() of the files that it trains on
  std::string teacher{};                      // RescoreSettings::teacher
  std::string fraction{};                     // RescoreSettings::fraction; 0.20 is 0.2
  std::optional<std::int64_t> min_reasoning;  // RescoreSettings::min_reasoning
};

/// What the manifest of rescored parts says that they were made of.
struct RescoredOrigin {
  std::string root;         // the folder
  std::string token_files;  // TokenShards::run()
  std::string teacher;      // hash or name
  std::string fraction;
  std::int64_t min_reasoning = 0;

  /// Of ROOT/manifest.json, which rescore_documents() wrote.
  static RescoredOrigin read(const std::string& root);
  /// ConfigError, with both values: the parts are of other token files, another teacher or another selection.
  void require_same(const RescoredNeeds& needs) const;
};

/// Scores `count` documents again, those with the smallest blake2b64("verify:" + key), and answers the largest
/// difference. FormatError naming key and position where it is above limit * max(1, |x|), x the new value.
double verify_rescored(const TokenShards& parts, std::int64_t count, double limit, const ScoreDocument& score);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/rescore_inl.hpp"
#endif

#endif
