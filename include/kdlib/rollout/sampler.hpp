// SPDX-License-Identifier: Apache-2.0
// Draws the next token of a sequence from its logits, and gives the probability of the draw.
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

/// The temperature at which tokens are drawn. It is a type of its own that does not convert to a number, so it cannot
/// reach a loss by mistake: a loss has its own temperature.
class SampleTemperature {
 public:
  constexpr SampleTemperature(double value = 1.0)
      : value_(value) {}  // NOLINT: numbers become temperatures, not the other way round
  /// The temperature, >= 0. 0 takes the most probable token.
  constexpr double value() const { return value_; }

 private:
  double value_;
};

/// How tokens are drawn. The filters work in the order temperature, top-k, top-p, min-p. Each filter sees what the
/// filter before it kept, renormalised.
///  - top-k keeps every token whose logit is at least the k-th largest: tokens that tie with the k-th all stay.
///  - top-p keeps the smallest set of most probable tokens whose mass is at least top_p. Of equal tokens the lower id
///    counts as more probable.
///  - min-p keeps tokens with at least min_p times the largest probability.
/// Source of the order and of the tie rule of top-k: the logits processors of Hugging Face transformers.
struct Sampler {
  SampleTemperature temperature{};    // >= 0; 0: the most probable token, of equals the lowest id
  std::int64_t top_k = 0;             // >= 0; 0: off
  double top_p = 1.0;                 // (0, 1]; 1: off
  double min_p = 0.0;                 // [0, 1]; 0: off
  std::int64_t max_new_tokens = 112;  // tokens, >= 1
  std::uint64_t seed = 1;
  /// A sequence ends with the first of these ids, which stays in the text. Empty: the ids of the text's source.
  std::vector<std::int32_t> stop_ids{};

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
  /// True if tokens are drawn from the model's own distribution: temperature 1 and no filter.
  bool draws_from_the_model() const { return temperature.value() == 1 && !truncates(); }
  /// Throws ConfigError, which names the key that is out of its range.
  void check() const;
};

/// A drawn token. `log_prob` is its log-probability under the distribution that it was drawn from (0 if greedy),
/// `full_log_prob` that under the model's own softmax at temperature 1 over the whole vocabulary. Natural logarithms.
struct SampledToken {
  std::int32_t id = 0;
  float log_prob = 0;
  float full_log_prob = 0;
};

/// Memory that sampling uses again from row to row. Each thread needs its own.
struct SamplerWorkspace {
  struct Candidate {
    double logit;
    std::int32_t id;
    float weight;
  };
  std::vector<float> weights;         // [V] exp((logit - largest) / temperature)
  std::vector<double> block_sums;     // sums of `weights`, one for each block
  std::vector<Candidate> candidates;  // tokens that top-p has to rank
  std::vector<double> values;         // logits that top-k has to rank
};

/// Draws one token from logits [V]: inverts the distribution function, in the order of the ids, at `uniform` in [0, 1).
/// A logit of -inf is never drawn. Throws Error if a logit is NaN or +inf, or if all are -inf.
template <class T>
SampledToken sample_token(const Sampler& sampler, std::span<const T> logits, double uniform,
                          SamplerWorkspace& workspace);

/// A device that draws tokens where its logits are.
template <class D, class T>
concept DrawsTokens = requires(const T* logits, const double* uniform) {
  Kernels<D, T>::sample_rows({}, std::int64_t{}, std::int64_t{}, logits, uniform, nullptr);
};
/// Draws one token of each row of logits [R, V] on such a device, at uniform [R]. The tokens are those of sample_token,
/// except where the uniform number or the edge of a filter lies within rounding. Waits for the device. Throws Error as
/// sample_token does.
template <class T, class D>
requires DrawsTokens<D, T> std::vector<SampledToken> sample_tokens(const Sampler& sampler, View<const T, D> logits,
                                                                   std::span<const double> uniform);

/// Returns the probabilities [V] from which sample_token draws, for tests and displays.
template <class T>
std::vector<double> sampling_distribution(const Sampler& sampler, std::span<const T> logits);

/// Throws ConfigError, which says what to set, for a sampler and a loss whose gradient is not that of the stated
/// objective. A loss that estimates from drawn tokens needs tokens of the model's own distribution, or the ratio q / mu
/// with a mu that is nowhere 0 (no filter). A loss over the whole vocabulary on filtered text optimises another average
/// over contexts; the user must ask for this.
void check_sampling_matches_loss(const Sampler& sampler, const SampledTextUse& use);

KDLIB_NAMESPACE_END

#include "kdlib/rollout/sampler_inl.hpp"

#endif
