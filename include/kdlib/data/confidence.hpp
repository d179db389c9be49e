// SPDX-License-Identifier: Apache-2.0
// Row weights that follow how sure a teacher is of each token, around a running mean of its log-probabilities.
#ifndef KDLIB_DATA_CONFIDENCE_HPP
#define KDLIB_DATA_CONFIDENCE_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/core/fields.hpp"

KDLIB_NAMESPACE_BEGIN

/// Shape and limits of the weights.
struct ConfidenceSettings {
  double temperature = 1;         // > 0: larger is flatter
  double least = 0.25, most = 4;  // limits of a weight, 0 < least <= 1 <= most
  double decay = 1;               // in (0, 1]: 1 keeps a mean over all steps, less fades
  bool center_by_span = false;    // thought and answer have a mean of their own

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"temperature", "nats", "> 0", "a larger one makes weights more equal"}, self.temperature);
    f(FieldInfo{"least", "", "in (0, 1]", "limit of a weight"}, self.least);
    f(FieldInfo{"most", "", ">= 1", "limit of a weight"}, self.most);
    f(FieldInfo{"decay", "", "in (0, 1]", "of the running sums from step to step"}, self.decay);
    f(FieldInfo{"center_by_span", "", "", "a mean for each span"}, self.center_by_span);
  }
};

/// w = exp(clamp((x - m) / temperature, ln least, ln most)) for a teacher's log-probability x of a token. The center
/// m = S / N is a running mean of x: before a step S <- decay S + sum of its x, N <- decay N + their number, added in
/// the order of the step's rows, and m stays what it then is until the next step. No gradient passes through w.
class ConfidenceWeights {
 public:
  /// ConfigError: a limit or temperature out of range.
  explicit ConfidenceWeights(ConfidenceSettings settings = {});

  /// Takes all counted tokens of the next step: spans 0 (thought) and 1 (answer), as long as `log_probs`. An empty step
  /// changes nothing.
  void begin_step(const std::vector<float>& log_probs, const std::vector<std::int32_t>& spans);
  /// The weight of a token in this step. ConfigError before the first step that had tokens.
  double weight(float log_prob, std::int32_t span = 0) const;
  double center(std::int32_t span = 0) const;

  /// S and N of both means, exactly, as one text without spaces; restore() takes it back. FormatError: another text.
  std::string state() const;
  void restore(std::string_view state);
  const ConfidenceSettings& settings() const { return settings_; }

 private:
  std::size_t place(std::int32_t span) const { return settings_.center_by_span && span == 1 ? 1 : 0; }

  ConfidenceSettings settings_;
  double sum_[2] = {0, 0}, count_[2] = {0, 0};
};

/// Whether step `step` (from 0) of a stage is of the kind that a share of all steps shall be, spread evenly:
/// floor((step + 1) p) > floor(step p), p the share in whole millionths. ConfigError unless share is in [0, 1].
bool is_shared_step(std::int64_t step, double share);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/confidence_inl.hpp"
#endif

#endif
