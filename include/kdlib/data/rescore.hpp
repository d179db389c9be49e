// SPDX-License-Identifier: Apache-2.0
// Computes a teacher's log-probability of every token that counts in token files. The work is divided into parts, which
// several workers can make.
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

/// Bounds of the bins in which log-probabilities are counted. Bin i holds x with bounds[i + 1] < x <= bounds[i]; the
/// last bin holds everything up to its bound.
inline constexpr std::array<double, 8> log_prob_bounds{0, -0.01, -0.03, -0.1, -0.3, -1, -3, -10};
/// Returns the bin of x <= 0.
std::size_t log_prob_bin(double x);

/// Which documents are scored, how the scores are stored, and which part of the work this worker does.
struct RescoreSettings {
  std::string out;                       // a folder
  std::string fraction = "0.2";          // share of documents, chosen by blake2b64 of "rescore:" + key
  std::vector<std::string> strata{};     // "LANGUAGE/EXERCISE=SHARE", * for any; the first that fits is used
  std::int64_t min_reasoning = 1;        // least number of tokens of a thought
  bool store_f32 = false;                // true: float; false: the bits of 16-bit floats
  std::int64_t part_documents = 1024;    // documents of a part, >= 1
  std::int64_t worker = 0, workers = 1;  // this worker makes parts worker, worker + workers, ...
  std::string teacher{};                 // hash or name of the teacher, part of the run's hash
  std::string dtype{};                   // dtype of the teacher's arithmetic, part of the run's hash
  std::int64_t ahead = 0;                // documents that are passed to `announce` before they are scored
  std::function<void(std::span<const std::int32_t> ids)> announce{};  // for a teacher that can start early
  std::function<void(const std::string&)> message{};
  std::function<void(std::int64_t documents, std::int64_t tokens)> progress{};
};

/// Returns the teacher's natural log-probability of ids[t + 1] given ids[0 .. t], at temperature 1, for t in [0,
/// ids.size() - 1).
using ScoreDocument = std::function<std::vector<double>(std::span<const std::int32_t> ids)>;

/// What a worker did.
struct RescoreResult {
  std::int64_t selected = 0, parts = 0;     // documents and parts, over all workers
  std::int64_t made_parts = 0, scored = 0;  // parts and tokens that this call made
  bool complete = false;                    // all parts exist, and manifest.json was written
};

/// Scores the selected documents of `shards` (usually the split train): those from which nothing was cut and whose
/// thought is long enough. A document that names an effort is scored with the word `medium`. Writes
/// OUT/parts/part_PPPPP_{tokens,lossmask,span,teacherlogp}.{bin,idx}, part_PPPPP_rows.jsonl and, last, part_PPPPP.json.
/// Writes OUT/manifest.json when every part of every worker is whole. A part is whole if its .json exists and its files
/// have the hashes in it; all other parts of this worker are made again. The number of workers does not change the
/// result.
///
/// SettingsError: a share or stratum cannot be read, a setting is out of its range, or the folder holds parts of
/// another run. ConfigError: no document is selected, or the data set has no rows.jsonl.
/// FormatError, naming key and position: a log-probability is NaN, infinite, above 1e-3 or below -1000.
RescoreResult rescore_documents(const TokenShards& shards, const RescoreSettings& settings, const ScoreDocument& score);

/// What a run that trains on rescored parts expects of them. A member that is empty may have any value.
struct RescoredNeeds {
  std::string token_files{};                  // TokenShards::run() of the token files of the run
  std::string teacher{};                      // RescoreSettings::teacher
  std::string fraction{};                     // RescoreSettings::fraction; "0.20" equals "0.2"
  std::optional<std::int64_t> min_reasoning;  // RescoreSettings::min_reasoning
};

/// What rescored parts were made of, as their manifest says.
struct RescoredOrigin {
  std::string root;         // the folder
  std::string token_files;  // TokenShards::run()
  std::string teacher;      // hash or name
  std::string fraction;
  std::int64_t min_reasoning = 0;

  /// Reads ROOT/manifest.json, which rescore_documents() wrote.
  static RescoredOrigin read(const std::string& root);
  /// ConfigError, with both values: the parts were made of other token files, by another teacher or with another
  /// selection.
  void require_same(const RescoredNeeds& needs) const;
};

/// Scores `count` documents again, those with the smallest blake2b64("verify:" + key), and returns the largest
/// difference. FormatError, naming key and position: a difference is above limit * max(1, |x|), where x is the new
/// value.
double verify_rescored(const TokenShards& parts, std::int64_t count, double limit, const ScoreDocument& score);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/rescore_inl.hpp"
#endif

#endif
