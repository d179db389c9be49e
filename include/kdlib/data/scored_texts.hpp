// SPDX-License-Identifier: Apache-2.0
// Carries a teacher's log-probabilities of documents from a source of scored text to the loss, and sums about the
// student back.
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

/// The value that stands in place of a log-probability for a row that no teacher scored. No real log-probability is
/// above 0. AnchoredPolicyGradient takes the cross-entropy of such rows.
inline constexpr float unscored_row = 1;

/// Sums over the scored rows of a step, computed with the student before its update. Each row counts once, whatever its
/// weight.
struct ScoredRowSums {
  std::array<double, 2> rows{}, gap{};  // of spans 0 (thought) and 1 (answer); gap: log p_t - log p_s
  double ratio = 0;     // sum of p_s / mu, not limited; mu: probability in the model that drew the token
  double mismatch = 0;  // sum of log mu - log p_s
};

/// The scored texts of one step. The source of the batches adds the texts. The teacher of the objective (ScoredTeacher)
/// reads them and adds what it observed of the student.
class ScoredTexts {
 public:
  /// Begins a step. `scored` says that a teacher scored the texts of the step, which add() then gives; otherwise the
  /// step has no scored texts.
  void begin_step(bool scored) {
    texts_.clear();
    scored_ = scored;
    sums_ = {};
  }
  /// Adds a document. log_probs[t] is the log-probability of the token after token t. `source` is the name of the
  /// document in TokenBatch::sources.
  void add(std::string source, std::vector<float> log_probs) {
    texts_.emplace_back(std::move(source), std::move(log_probs));
  }
  bool scored() const { return scored_; }
  /// Returns the log-probabilities of the document `source`. InputError: the step has no document of that name.
  const std::vector<float>& at(const std::string& source) const {
    for (const auto& [name, log_probs] : texts_)
      if (name == source) return log_probs;
    fail<InputError>("[scored texts] nothing is known of '", source,
                     "': the batch must come from the source that this teacher was made with");
  }

  /// Adds one row: the span of its token, and the log-probability of the token under the teacher, under the student,
  /// and under the model that drew the token (behaviour).
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
