// SPDX-License-Identifier: Apache-2.0
// A loss of docs/losses.md whose type is only known at run time, for programs that read losses from text.
#ifndef KDLIB_LOSS_ANY_LOSS_HPP
#define KDLIB_LOSS_ANY_LOSS_HPP

#include <cassert>
#include <cstring>
#include <type_traits>

#include "kdlib/loss/adaptive_kl.hpp"
#include "kdlib/loss/cross_entropy.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/loss/jensen_shannon.hpp"
#include "kdlib/loss/policy_gradient.hpp"
#include "kdlib/loss/regularisers.hpp"
#include "kdlib/loss/reverse_kl.hpp"
#include "kdlib/loss/skew_kl.hpp"
#include "kdlib/loss/top_k.hpp"
#include "kdlib/loss/total_variation.hpp"

KDLIB_NAMESPACE_BEGIN

/// A list of loss types.
template <class... Ls>
struct LossTypes {
  static constexpr int count = static_cast<int>(sizeof...(Ls));

  /// Returns the place of L in the list, or -1.
  template <class L>
  static constexpr int place_of() {
    int place = -1, at = 0;
    ((std::is_same_v<L, Ls> ? void(place = at++) : void(++at)), ...);
    return place;
  }
  /// Calls f(L{}) for the type L at `place`.
  template <class F>
  KDLIB_HOST_DEVICE static void with_type(int place, F&& f) {
    int at = 0;
    static_cast<void>(((at++ == place ? (f(Ls{}), true) : false) || ...));
  }
  /// Calls f(L{}) for each type L, in order.
  template <class F>
  static void for_each(F&& f) {
    (f(Ls{}), ...);
  }
};

/// Every loss of docs/losses.md.
using AllLosses = LossTypes<CrossEntropy, ForwardKl, ReverseKl, JensenShannon, SkewForwardKl, SkewReverseKl,
                            TotalVariation, AdaptiveKl, NegativeEntropy, UniformCrossEntropy, ZLoss, PolicyGradient,
                            BaselinePolicyGradient, SampledKl<KlEstimator::k2>, SampledKl<KlEstimator::k3>,
                            TopKForwardKl, TopKReverseKl<TopKMass::tail>, TopKReverseKl<TopKMass::renormalised>>;

/// The kind of targets (the teacher's signal) that a loss needs.
enum class LossNeeds {
  labels,          // only the next token, no teacher
  sampled_tokens,  // the teacher's log-probability of each row's token
  vocabulary,      // the teacher's whole distribution
  top_k            // the teacher's K most probable tokens of each row
};
constexpr std::array<const char*, 4> enum_names(LossNeeds) {
  return {"labels", "sampled_tokens", "vocabulary", "top_k"};
}

/// The kind of targets that a loss of type L needs.
template <class L>
constexpr LossNeeds needs_of = reads_support<L>         ? LossNeeds::top_k
                               : reads_teacher<L>       ? LossNeeds::vocabulary
                               : reads_teacher_label<L> ? LossNeeds::sampled_tokens
                                                        : LossNeeds::labels;

/// A loss of AllLosses with its settings. AnyLoss is trivially copyable, without allocation or virtual calls.
class AnyLoss {
 public:
  AnyLoss() : AnyLoss(CrossEntropy{}) {}
  template <class L>
  requires(AllLosses::place_of<L>() >= 0) AnyLoss(const L& loss) : place_(AllLosses::place_of<L>()) {
    static_assert(std::is_trivially_copyable_v<L> && sizeof(L) <= sizeof bytes_);
    std::memcpy(bytes_, &loss, sizeof loss);
  }

  /// Calls f(loss) with the loss as its own type.
  template <class F>
  KDLIB_HOST_DEVICE void visit(F&& f) const {
    AllLosses::with_type(place_, [&](auto loss) {
      std::memcpy(&loss, bytes_, sizeof loss);
      f(std::as_const(loss));
    });
  }
  /// Calls f(loss), which may change the settings of the loss.
  template <class F>
  void change(F&& f) {
    AllLosses::with_type(place_, [&](auto loss) {
      std::memcpy(&loss, bytes_, sizeof loss);
      f(loss);
      std::memcpy(bytes_, &loss, sizeof loss);
    });
  }
  template <class L>
  bool is() const {
    return place_ == AllLosses::place_of<L>();
  }
  /// Returns the loss as type L. is<L>() must be true.
  template <class L>
  L as() const {
    assert(is<L>());
    L loss;
    std::memcpy(&loss, bytes_, sizeof loss);
    return loss;
  }
  LossNeeds needs() const {
    LossNeeds needs{};
    visit([&]<class L>(const L&) { needs = needs_of<L>; });
    return needs;
  }
  /// Returns the name of the type in small letters, such as "top_k_forward_kl".
  std::string name() const {
    std::string name;
    visit([&]<class L>(const L&) { name = snake_case(plain_type_name<L>()); });
    return name;
  }

 private:
  int place_;
  alignas(double) unsigned char bytes_[32] = {};
};
static_assert(std::is_trivially_copyable_v<AnyLoss>);

/// One term of a sum that is only known at run time.
struct AnyTerm {
  double weight = 1;
  AnyLoss loss;
};

/// Returns what a sum needs whose terms need `a` and `b`. ConfigError: one needs top-k targets and the other needs
/// something that top-k targets do not hold.
LossNeeds combined_needs(LossNeeds a, LossNeeds b);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/loss/any_loss_inl.hpp"
#endif

#endif
