// SPDX-License-Identifier: Apache-2.0
// Bodies of any_sum.hpp.
#ifndef KDLIB_LOSS_ANY_SUM_INL_HPP
#define KDLIB_LOSS_ANY_SUM_INL_HPP

#include <cmath>

#include "kdlib/loss/any_sum.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Whether targets of kind `have` tell what a loss of kind `need` reads.
constexpr bool tells(LossNeeds have, LossNeeds need) {
  if (need == LossNeeds::labels || need == have) return true;
  return have == LossNeeds::vocabulary && need == LossNeeds::sampled_tokens;
}

/// What a teacher must be for a loss of this kind, as a part of a sentence.
const char* needs_text(LossNeeds needs);

template <class Targets>
constexpr LossNeeds targets_tell = gives_support<Targets>   ? LossNeeds::top_k
                                   : Targets::teacher_rows  ? LossNeeds::vocabulary
                                   : Targets::teacher_label ? LossNeeds::sampled_tokens
                                                            : LossNeeds::labels;
}  // namespace detail

template <LossNeeds Needs>
detail::MixTerms& AnySum<Needs>::new_mix(float temperature) {
  detail::MixTerms& mix = mixes_[mix_count_++];
  mix.temperature = temperature;
  return mix;
}

template <LossNeeds Needs>
void AnySum<Needs>::add(const AnyTerm& term) {
  require<ConfigError>(count_ < most_terms, "[AnySum] a sum takes ", most_terms, " terms at most");
  require<ConfigError>(std::isfinite(term.weight), "[AnySum] the weight of ", term.loss.name(), " is not finite");
  require<ConfigError>(detail::tells(Needs, term.loss.needs()), "[AnySum] ", term.loss.name(), " reads ",
                       detail::needs_text(term.loss.needs()), "; this sum is made for targets that tell ",
                       detail::needs_text(Needs));
  terms_[count_++] = term;
  term.loss.visit([&]<class L>(const L& loss) {
    if constexpr (!kdlib::reads_support<L>) {
      const auto temperature = static_cast<float>(temperature_of(loss));
      for (int i = 0; i < mix_count_; ++i)
        if (mixes_[i].temperature == temperature && mixes_[i].take(term.weight, loss)) return;
      new_mix(temperature).take(term.weight, loss);
    }
  });
}

template <LossNeeds Needs>
template <class F>
KDLIB_HOST_DEVICE void AnySum<Needs>::for_each(F&& f) const {
  using detail::MixKind;
  for (int i = 0; i < mix_count_; ++i) {
    const detail::MixTerms& mix = mixes_[i];
    if constexpr (Needs == LossNeeds::vocabulary) {
      if (mix.kind == MixKind::adaptive) f(mix.adaptive, mix.adaptive_loss);
      else if (mix.kind == MixKind::open) f(1.0, detail::OpenMix(mix));
      else if (mix.kind == MixKind::teacher) f(1.0, detail::TeacherMix(mix));
    }
    if (mix.kind == MixKind::student) f(1.0, detail::StudentMix(mix));
    else if (mix.kind == MixKind::label) f(1.0, detail::LabelMix(mix));
  }
  if constexpr (Needs == LossNeeds::top_k)
    for (int i = 0; i < count_; ++i)
      terms_[i].loss.visit([&]<class L>(const L& loss) {
        if constexpr (kdlib::reads_support<L>) f(terms_[i].weight, loss);
      });
}

template <LossNeeds Needs>
template <template <class> class E, class P>
KDLIB_INLINE EntryLoss<P> AnySum<Needs>::entry(const RowStatistics& row, const E<P>& x) const {
  EntryLoss<P> total{P(0), P(0)};
  for_each([&]<class L>(double weight, const L& l) {
    if constexpr (has_entry<L>) {
      const EntryOf<L, P>& own = x;
      const EntryLoss<P> e = l.entry(row, own);
      total.value = fma(P(weight * factor_of(l)), e.value, total.value);
      total.derivative = fma(P(weight * factor_of(l)), e.derivative, total.derivative);
    }
  });
  return total;
}

template <LossNeeds Needs>
KDLIB_HOST_DEVICE Dual AnySum<Needs>::at_label(const LabelPoint& point) const {
  Dual total;
  for_each([&]<class L>(double weight, const L& l) {
    if constexpr (has_label_part<L>) total = total + weight * factor_of(l) * l.at_label(point);
  });
  return total;
}

template <LossNeeds Needs>
KDLIB_HOST_DEVICE Dual AnySum<Needs>::at_normaliser(const RowStatistics& row) const {
  Dual total;
  for_each([&]<class L>(double weight, const L& l) {
    if constexpr (has_normaliser_part<L>) total = total + weight * factor_of(l) * l.at_normaliser(row);
  });
  return total;
}

template <LossNeeds Needs>
KDLIB_HOST_DEVICE bool AnySum<Needs>::clamped(const LabelPoint& point) const {
  bool any = false;
  for_each([&]<class L>(double, const L& l) {
    if constexpr (has_clamp<L>) any = any || l.clamped(point);
  });
  return any;
}

template <class Targets, class F>
auto with_loss(std::span<const AnyTerm> terms, F&& f) {
  constexpr LossNeeds have = detail::targets_tell<Targets>;
  require_targets(have, terms);
  if constexpr (have == LossNeeds::vocabulary) {
    if (terms.size() == 1 && terms[0].weight == 1) {
      const AnyLoss& loss = terms[0].loss;
      if (loss.is<ForwardKl>()) return f(loss.as<ForwardKl>());
      if (loss.is<ReverseKl>()) return f(loss.as<ReverseKl>());
      if (loss.is<JensenShannon>()) {
        const auto jsd = loss.as<JensenShannon>();  // at its ends it is one of the other two
        if (jsd.beta == 0) return f(ForwardKl{.temperature = jsd.temperature, .t_squared = jsd.t_squared});
        if (jsd.beta == 1) return f(ReverseKl{.temperature = jsd.temperature, .t_squared = jsd.t_squared});
        return f(jsd);
      }
    }
  }
  return f(AnySum<have>(terms));
}

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/loss/loss_needs_inl.hpp"
#endif

#endif
