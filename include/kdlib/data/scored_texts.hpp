// SPDX-License-Identifier: Apache-2.0
// A teacher's log-probabilities of documents on their way from a source of scored text to the loss, and what comes back
// from there.
#ifndef KDLIB_DATA_SCORED_TEXTS_HPP
#define KDLIB_DATA_SCORED_TEXTS_HPP

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// What marks a row that no teacher scored: no log-probability is above 0. AnchoredPolicyGradient takes the
/// cross-entropy of such rows.
inline constexpr float unscored_row = 1;

/// What the rows of a step came to under the student before its update. Sums over scored rows, each counted once.
struct ScoredRowSums {
  std::array<double, 2> rows{}, gap{};  // of spans 0 (thought) and 1 (answer); gap: log p_t - log p_s
  double ratio = 0;                     // p_s / mu, not cut
  double mismatch = 0;                  // log mu - log p_s
};

/// The texts of one step. The source of a step's batches fills them in, the objective's teacher (ScoredTeacher) reads
/// them and adds what it saw of the student.
class ScoredTexts {
 public:
  /// `scored`: the step's texts are given by add(); else it has none that a teacher scored.
  void begin_step(bool scored) {
    texts_.clear();
    scored_ = scored;
    sums_ = {};
  }
  /// [tokens of the document] log-probabilities of the NEXT token; `source` is its name in TokenBatch::sources.
  void add(std::string source, std::vector<float> log_probs) {
    texts_.emplace_back(std::move(source), std::move(log_probs));
  }
  bool scored() const { return scored_; }
  /// InputError, naming it, where the document is not one of the step's.
  const std::vector<float>& at(const std::string& source) const {
    for (const auto& [name, log_probs] : texts_)
      if (name == source) return log_probs;
    fail<InputError>("[scored texts] nothing is known of '", source,
                     "': the batch must come from the source that this teacher was made with");
  }

  /// One row: its span, and three log-probabilities of its token: of the teacher, of the student and of what drew it.
  void observe(std::int32_t span, double teacher, double student, double behaviour) {
    if (span == 0 || span == 1) {
      sums_.rows[static_cast<std::size_t>(span)] += 1;
      sums_.gap[static_cast<std::size_t>(span)] += teacher - student;
    }
    sums_.ratio += std::exp(std::min(student - behaviour, 60.0));
    sums_.mismatch += behaviour - student;
  }
  const ScoredRowSums& sums() const { return sums_; }

 private:
  std::vector<std::pair<std::string, std::vector<float>>> texts_;
  bool scored_ = false;
  ScoredRowSums sums_;
};

KDLIB_NAMESPACE_END

#endif
