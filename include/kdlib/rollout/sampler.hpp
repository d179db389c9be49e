// SPDX-License-Identifier: Apache-2.0
// Draws the next token of a sequence from its logits, and says with which probability it did so.
#ifndef KDLIB_ROLLOUT_SAMPLER_HPP
#define KDLIB_ROLLOUT_SAMPLER_HPP

#include <cstdint>
#include <span>
#include <vector>

#include "kdlib/core/error.hpp"
#include "kdlib/core/fields.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/rollout/concepts.hpp"
#include "kdlib/tensor/view.hpp"

KDLIB_NAMESPACE_BEGIN

/// The temperature of drawing tokens. A type of its own: it does not convert to a number, so it cannot reach a loss by
/// mistake, and a loss keeps its own temperature.
class SampleTemperature {
 public:
  constexpr SampleTemperature(double value = 1.0)
      : value_(value) {}  // NOLINT: numbers become temperatures, not the other way round
  /// >= 0; 0 takes the most probable token.
  constexpr double value() const { return value_; }

 private:
  double value_;
};

/// How tokens are drawn. The filters work in the order temperature, top-k, top-p, min-p; each sees the renormalised
/// rest of the one before.
///  - top-k keeps every token whose logit is at least the k-th largest: tokens that tie with the k-th all stay.
///  - top-p keeps the smallest set of most probable tokens whose mass is at least top_p; of equal tokens the lower id
///  counts as more probable.
///  - min-p keeps tokens with at least min_p times the largest probability.
/// Source of the order and of the tie rule of top-k: the logits processors of Hugging Face transformers.
struct Sampler {
  SampleTemperature temperature{};    // >= 0; 0: the most probable token, the lowest id of equals
  std::int64_t top_k = 0;             // >= 0; 0: off
  double top_p = 1.0;                 // (0, 1]; 1: off
  double min_p = 0.0;                 // [0, 1]; 0: off
  std::int64_t max_new_tokens = 112;  // tokens, >= 1
  std::uint64_t seed = 1;
  std::vector<std::int32_t>
      stop_ids{};  // a sequence ends with the first of these, which is kept; empty: those of the text's source

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"temperature", "", ">= 0", "of drawing tokens; 0: the most probable one"}, self.temperature);
    f(FieldInfo{"top_k", "tokens", ">= 0", "the likeliest that are kept; 0: all"}, self.top_k);
    f(FieldInfo{"top_p", "", "in (0, 1]", "the likeliest tokens up to this mass are kept; 1: all"}, self.top_p);
    f(FieldInfo{"min_p", "", "in [0, 1]", "tokens below this share of the likeliest are cut; 0: none"}, self.min_p);
    f(FieldInfo{"max_new_tokens", "tokens", ">= 1", "longest text"}, self.max_new_tokens);
    f(FieldInfo{"seed", "", "", "of the draws"}, self.seed);
    f(FieldInfo{"stop_ids", "", "", "a sequence ends with the first of these"}, self.stop_ids);
  }

  bool greedy() const { return temperature.value() == 0; }
  bool truncates() const { return top_k > 0 || top_p < 1 || min_p > 0; }
  /// True where tokens come from the model's own distribution: temperature 1, nothing cut.
  bool draws_from_the_model() const { return temperature.value() == 1 && !truncates(); }
  /// ConfigError naming the key that is out of its range.
  void check() const;
};

/// A drawn token. `log_prob` is under the distribution that it was drawn from (0 when greedy), `full_log_prob` under
/// the model's own softmax at temperature 1 over the whole vocabulary. Natural logarithms.
struct SampledToken {
  std::int32_t id = 0;
  float log_prob = 0;
  float full_log_prob = 0;
};

/// Memory that sampling reuses from row to row; one for each thread.
struct SamplerWorkspace {
  struct Candidate {
    double logit;
    std::int32_t id;
    float weight;
  };
  std::vector<float> weights;         // [V] exp((logit - largest) / temperature)
  std::vector<double> block_sums;     // sums of `weights`, one for each block
  std::vector<Candidate> candidates;  // what top-p has to rank
  std::vector<double> values;         // what top-k has to rank
};

/// One token from logits [V] by the inverse of the distribution function at `uniform` in [0, 1), in the order of the
/// ids. -inf logits are never drawn. Error when a logit is NaN or +inf, or when all are -inf.
template <class T>
SampledToken sample_token(const Sampler& sampler, std::span<const T> logits, double uniform,
                          SamplerWorkspace& workspace);

/// A device that draws tokens where its logits are.
template <class D, class T>
concept DrawsTokens = requires(const T* logits, const double* uniform) {
  Kernels<D, T>::sample_rows({}, std::int64_t{}, std::int64_t{}, logits, uniform, nullptr);
};
/// One token of each row of logits [R, V] on such a device, at uniform [R]: those of sample_token, but where the
/// uniform number or a filter's edge lies within rounding. Waits for the device; Error as sample_token.
template <class T, class D>
requires DrawsTokens<D, T> std::vector<SampledToken> sample_tokens(const Sampler& sampler, View<const T, D> logits,
                                                                   std::span<const double> uniform);

/// The probabilities [V] that sample_token draws from: for tests and displays.
template <class T>
std::vector<double> sampling_distribution(const Sampler& sampler, std::span<const T> logits);

/// Refuses pairs of sampler and loss whose gradient is not that of the stated objective (ConfigError that says what to
/// set): an estimate from drawn tokens needs tokens of the model's own distribution, or the ratio q / mu with a mu that
/// is nowhere 0 (no truncation); a loss over the whole vocabulary on truncated text optimises another average over
/// contexts and has to be asked for.
void check_sampling_matches_loss(const Sampler& sampler, const SampledTextUse& use);

KDLIB_NAMESPACE_END

#include "kdlib/rollout/sampler_inl.hpp"

#endif
