// SPDX-License-Identifier: Apache-2.0
// Row weights that follow how sure a teacher is of each token, compared with a running mean of the teacher's
// log-probabilities.
#ifndef KDLIB_DATA_CONFIDENCE_HPP
#define KDLIB_DATA_CONFIDENCE_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/core/fields.hpp"

KDLIB_NAMESPACE_BEGIN

/// Shape and limits of the weights of ConfidenceWeights.
struct ConfidenceSettings {
  double temperature = 1;         // > 0, nats; a larger one makes weights more equal
  double least = 0.25, most = 4;  // limits of a weight, 0 < least <= 1 <= most
  double decay = 1;               // in (0, 1]; 1: mean over all steps; less: earlier steps count less
  bool center_by_span = false;    // true: thought and answer each have a mean of their own

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"temperature", "nats", "> 0", "a larger one makes weights more equal"}, self.temperature);
    f(FieldInfo{"least", "", "in (0, 1]", "limit of a weight"}, self.least);
    f(FieldInfo{"most", "", ">= 1", "limit of a weight"}, self.most);
    f(FieldInfo{"decay", "", "in (0, 1]", "of the running sums from step to step"}, self.decay);
    f(FieldInfo{"center_by_span", "", "", "a mean for each span"}, self.center_by_span);
  }
};

/// The weight of a token is w = exp(clamp((x - m) / temperature, ln least, ln most)), where x is the teacher's
/// log-probability of the token. The center m = S / N is a running mean of x. At the beginning of each step S <- decay
/// S + the sum of the step's x, added in the order of the step's rows, and N <- decay N + their number. m then stays
/// the same until the next step. No gradient passes through w.
class ConfidenceWeights {
 public:
  /// ConfigError: a setting is out of its range.
  explicit ConfidenceWeights(ConfidenceSettings settings = {});

  /// Takes the log-probabilities of all tokens that count in the next step. `spans` holds 0 (thought) or 1 (answer) for
  /// each of them. An empty step changes nothing. ShapeError: the lengths differ.
  void begin_step(const std::vector<float>& log_probs, const std::vector<std::int32_t>& spans);
  /// weight() returns the weight of a token in this step, center() the mean m of its span. ConfigError: no step with
  /// tokens (of that span, with center_by_span) has begun.
  double weight(float log_prob, std::int32_t span = 0) const;
  double center(std::int32_t span = 0) const;

  /// state() returns S and N of both means exactly, as one text without spaces; restore() takes that text back.
  /// FormatError: another text.
  std::string state() const;
  void restore(std::string_view state);
  const ConfidenceSettings& settings() const { return settings_; }

 private:
  std::size_t place(std::int32_t span) const { return settings_.center_by_span && span == 1 ? 1 : 0; }

  ConfidenceSettings settings_;
  double sum_[2] = {0, 0}, count_[2] = {0, 0};
};

/// Returns whether step `step` (from 0) of a stage belongs to a share of all steps, spread evenly: floor((step + 1) p)
/// > floor(step p), where p is `share` rounded to millionths. ConfigError: `share` is outside [0, 1], or the step is
/// negative or too large.
bool is_shared_step(std::int64_t step, double share);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/confidence_inl.hpp"
#endif

#endif
