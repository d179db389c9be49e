// SPDX-License-Identifier: Apache-2.0
// A teacher for text that was scored before: the source of the text brings the teacher's log-probabilities
// (ScoredTexts).
#ifndef KDLIB_TEACHER_SCORED_HPP
#define KDLIB_TEACHER_SCORED_HPP

#include <memory>
#include <utility>
#include <vector>

#include "kdlib/core/fields.hpp"
#include "kdlib/data/scored_texts.hpp"
#include "kdlib/loss/targets.hpp"
#include "kdlib/teacher/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// A TeacherSource that gives the log-probability of each next token, taken from ScoredTexts, or `unscored_row` for
/// every row if the step was not scored. Copies share the texts. The teacher adds the student's log-probabilities of
/// scored rows to ScoredTexts::sums().
class ScoredTeacher {
 public:
  using targets_type = SampledTargets;

  /// `observing`: true has the student's log-probability of every scored row computed for ScoredTexts::sums(), which
  /// costs one more product with the head.
  ScoredTeacher(std::shared_ptr<ScoredTexts> texts, std::int64_t vocabulary, bool observing = true)
      : texts_(std::move(texts)), vocabulary_(vocabulary), observing_(observing) {}

  std::int64_t vocab_size() const { return vocabulary_; }
  /// Takes the log-probabilities of the batch's rows. InputError: a document has no name, or its length is not that of
  /// the scored text with this name.
  void prepare(const TokenBatch& batch) {
    const TokenBatch::Rows rows = batch.rows();
    rows_.assign(rows.token.size(), unscored_row);
    if (!texts_->scored()) return;
    std::int64_t b = 0;
    for (std::size_t r = 0; r < rows.token.size(); ++r) {
      const std::int64_t token = rows.token[r];
      while (batch.offsets[static_cast<std::size_t>(b + 1)] <= token) ++b;
      require<InputError>(batch.sources.size() > static_cast<std::size_t>(b), "[scored teacher] document ", b,
                          " of the batch has no name");
      const std::string& name = batch.sources[static_cast<std::size_t>(b)];
      const std::vector<float>& text = texts_->at(name);
      require<InputError>(static_cast<std::int64_t>(text.size()) == batch.length(b), "[scored teacher] ", name, " has ",
                          batch.length(b), " tokens, and ", text.size(), " were scored");
      rows_[r] = text[static_cast<std::size_t>(token - batch.offsets[static_cast<std::size_t>(b)])];
    }
  }
  targets_type targets(std::int64_t begin, std::int64_t count) const {
    return {std::span<const float>(rows_).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count))};
  }

  bool observes() const { return observing_ && texts_->scored(); }
  void observe(const TokenBatch::Rows& rows, const std::vector<double>& log_probs) {
    for (std::size_t r = 0; r < log_probs.size(); ++r)
      texts_->observe(rows.span.empty() ? -1 : rows.span[r], static_cast<double>(rows_[r]), log_probs[r],
                      static_cast<double>(rows.behaviour.at(r)));
  }
  SettingsList describe() const { return {{"teacher", "scored"}}; }

 private:
  std::shared_ptr<ScoredTexts> texts_;
  std::int64_t vocabulary_;
  bool observing_;
  std::vector<float> rows_;  // [R] log-probabilities of the prepared batch
};

KDLIB_NAMESPACE_END

#endif
