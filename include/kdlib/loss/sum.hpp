// SPDX-License-Identifier: Apache-2.0
// A weighted sum of losses is a loss again. The engine is instantiated once for the sum, and makes one pass if all
// terms have the same temperature.
#ifndef KDLIB_LOSS_SUM_HPP
#define KDLIB_LOSS_SUM_HPP

#include <cstddef>
#include <type_traits>
#include <utility>

#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// One term of a sum: weight * loss.
template <class L>
struct Term {
  using loss_type = L;
  double weight = 1;
  L loss;

  Term(double w, L l) : weight(w), loss(l) {}
};

namespace detail {
template <std::size_t I, class L>
struct SumSlot {
  double slot_weight;
  L slot_loss;
};
template <class Indices, class... Ls>
struct SumSlots;
template <std::size_t... I, class... Ls>
struct SumSlots<std::index_sequence<I...>, Ls...> : SumSlot<I, Ls>... {
  explicit SumSlots(const Term<Ls>&... terms) : SumSlot<I, Ls>{terms.weight, terms.loss}... {}
};
}  // namespace detail

/// Sum{Term{0.8, ReverseKl{.temperature = 2}}, Term{0.2, CrossEntropy{}}}: the sum of weight * loss over the terms.
/// Each term has its own temperature and T^2, and a term may be a Sum. Terms of equal temperature share every
/// exponential. The gradient is summed before it is rounded.
template <class... Ls>
class Sum : detail::SumSlots<std::index_sequence_for<Ls...>, Ls...> {
  static_assert(sizeof...(Ls) > 0, "a Sum needs at least one Term");
  static_assert(!(hides_teacher<Ls> || ...),
                "entry(row, x) of a Term's loss takes an Entry, which holds p_t and log_ratio of the teacher, but the "
                "loss does not say `static constexpr bool reads_teacher = true`; say so, or take a StudentEntry");
  static_assert(((RowLossShape<Ls> || hides_teacher<Ls>)&&...),
                "each Term of a Sum holds a row loss: an aggregate with entry(row, x) or at_label(point) or "
                "at_normaliser(row), see kdlib/loss/concepts.hpp");
  using Slots = detail::SumSlots<std::index_sequence_for<Ls...>, Ls...>;

 public:
  static constexpr bool is_sum = true;
  static constexpr int leaves = (leaf_count<Ls> + ...);
  static constexpr bool reads_teacher = (kdlib::reads_teacher<Ls> || ...);
  static constexpr bool reads_teacher_label = (kdlib::reads_teacher_label<Ls> || ...);

  static constexpr bool reads_support = (kdlib::reads_support<Ls> || ...);
  static constexpr bool reads_head_share = (kdlib::reads_head_share<Ls> || ...);

  static constexpr bool walked_by_groups = (kdlib::walked_by_groups<Ls> || ...);

  explicit Sum(Term<Ls>... terms) : Slots(terms...) {}

  /// Returns whether every term (and every term of inner sums) has this temperature.
  KDLIB_HOST_DEVICE bool has_temperature(double t) const {
    bool all = true;
    for_each([&](double, const auto& l) {
      if constexpr (is_loss_sum<std::decay_t<decltype(l)>>) all = all && l.has_temperature(t);
      else all = all && temperature_of(l) == t;
    });
    return all;
  }

  // The parts of a row loss, for terms of the same temperature. T^2 is multiplied into the weight of each term, because
  // t_squared may differ between terms.
  static constexpr Moments moments = (Moments{} | ... | moments_of<Ls>);
  template <template <class> class E, class P>
  requires(has_entry<Ls> || ...) KDLIB_INLINE EntryLoss<P> entry(const RowStatistics& row, const E<P>& x)
  const {
    EntryLoss<P> total{P(0), P(0)};
    add_entries(row, x, total, std::index_sequence_for<Ls...>{});
    return total;
  }
  KDLIB_HOST_DEVICE Dual at_label(const LabelPoint& point) const requires(has_label_part<Ls> || ...) {
    Dual total;
    for_each([&](double weight, const auto& l) {
      if constexpr (has_label_part<std::decay_t<decltype(l)>>)
        total = total + weight * factor_of(l) * l.at_label(point);
    });
    return total;
  }
  KDLIB_HOST_DEVICE bool clamped(const LabelPoint& point) const requires(has_clamp<Ls> || ...) {
    bool any = false;
    for_each([&](double, const auto& l) {
      if constexpr (has_clamp<std::decay_t<decltype(l)>>) any = any || l.clamped(point);
    });
    return any;
  }
  KDLIB_HOST_DEVICE Dual at_normaliser(const RowStatistics& row) const requires(has_normaliser_part<Ls> || ...) {
    Dual total;
    for_each([&](double weight, const auto& l) {
      if constexpr (has_normaliser_part<std::decay_t<decltype(l)>>)
        total = total + weight * factor_of(l) * l.at_normaliser(row);
    });
    return total;
  }
  KDLIB_HOST_DEVICE double derivative_sum(const RowStatistics& row) const
      requires((has_entry<Ls> || ...) && ((!has_entry<Ls> || has_derivative_sum<Ls>)&&...)) {
    double total = 0;
    for_each([&](double weight, const auto& l) {
      if constexpr (has_entry<std::decay_t<decltype(l)>>) total += weight * factor_of(l) * l.derivative_sum(row);
    });
    return total;
  }

  /// Calls f(weight, loss) for each term, in order. head_loss of one term, with an empty gradient, gives the value of
  /// this part of the sum.
  template <class F>
  KDLIB_HOST_DEVICE void for_each(F&& f) const {
    for_each_of(static_cast<F&&>(f), std::index_sequence_for<Ls...>{});
  }

 private:
  template <std::size_t I, class L, class E, class P>
  KDLIB_INLINE static void add_entry(const detail::SumSlot<I, L>& slot, const RowStatistics& row, const E& x,
                                     EntryLoss<P>& total) {
    if constexpr (has_entry<L>) {
      const EntryOf<L, P>& own = x;
      const EntryLoss<P> e = slot.slot_loss.entry(row, own);
      const P w = P(slot.slot_weight * factor_of(slot.slot_loss));
      total.value = fma(w, e.value, total.value);
      total.derivative = fma(w, e.derivative, total.derivative);
    }
  }
  template <class E, class P, std::size_t... I>
  KDLIB_INLINE void add_entries(const RowStatistics& row, const E& x, EntryLoss<P>& total,
                                std::index_sequence<I...>) const {
    (add_entry<I, Ls>(*this, row, x, total), ...);
  }
  template <class F, std::size_t... I>
  KDLIB_HOST_DEVICE void for_each_of(F&& f, std::index_sequence<I...>) const {
    (f(static_cast<const detail::SumSlot<I, Ls>&>(*this).slot_weight,
       static_cast<const detail::SumSlot<I, Ls>&>(*this).slot_loss),
     ...);
  }
};

KDLIB_NAMESPACE_END

#endif
