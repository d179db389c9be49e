// SPDX-License-Identifier: Apache-2.0
// The settings of a run's parts as a checkpoint keeps and compares them, from the fields that the parts list.
//
// A loss, optimizer, schedule or selection of the user's own is never compared by its type alone: fields that it lists
// (core/fields.hpp) or the members of a small aggregate are compared by value, `describe()` is taken as it is, and a
// type that offers none of them does not compile. A schedule or selection that is a plain function is compared by what
// it answers.
#ifndef KDLIB_TRAIN_DESCRIBED_PARTS_INL_HPP
#define KDLIB_TRAIN_DESCRIBED_PARTS_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kdlib/core/fingerprint.hpp"
#include "kdlib/train/concepts.hpp"
#include "kdlib/train/environment.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

struct MarkedTrainable;

template <class X>
concept Described = requires(const X& x) {
  { x.describe() } -> std::convertible_to<SettingsList>;
};

/// What the part says of itself, where it does.
template <class X>
void append_described(SettingsList& list, const X& x) {
  if constexpr (Described<X>)
    for (auto& entry : x.describe()) list.push_back(std::move(entry));
}

/// Name and fields of a part.
template <class X>
void append_part(SettingsList& list, const std::string& role, const X& x) {
  for (auto& entry : named_fields(role, x)) list.push_back(std::move(entry));
}

template <class O>
void append_optimizer(SettingsList& list, const O& optimizer) {
  if constexpr (Described<O>) {
    append_described(list, optimizer);
  } else {
    static_assert(has_comparable_fields<O>,
                  "kdlib: a checkpoint cannot compare the settings of this optimizer, so a changed one would go on "
                  "unnoticed: list them in visit_fields(self, f) (kdlib/core/fields.hpp) or offer describe()");
    append_part(list, "optimizer", optimizer);
  }
}

/// Adds a number's bits to a fingerprint.
inline void add_number(Fingerprint& fingerprint, double x) {
  std::int64_t bits = 0;
  std::memcpy(&bits, &x, sizeof bits);
  fingerprint.add(bits);
}

/// A function without fields is compared by its rates: the first 1024, then steps that grow by a sixteenth.
template <class S>
void append_schedule(SettingsList& list, const S& schedule) {
  if constexpr (Described<S>) {
    append_described(list, schedule);
  } else if constexpr (HasFields<S> || has_plain_members<S>) {
    append_part(list, "schedule", schedule);
  } else {
    Fingerprint fingerprint;
    for (std::int64_t step = 0; step < (std::int64_t{1} << 31); step += step < 1024 ? 1 : step / 16)
      add_number(fingerprint, static_cast<double>(schedule(step)));
    list.emplace_back("schedule", "function");
    list.emplace_back("schedule.rates", fingerprint.text());
  }
}

/// A function that selects parameters is compared by the multipliers of all of them.
template <class Selection, class Scope>
void append_selection(SettingsList& list, const Selection& selection, const Scope& scope) {
  if constexpr (Described<Selection>) {
    append_described(list, selection);
  } else if constexpr (!std::is_same_v<Selection, MarkedTrainable>) {
    Fingerprint fingerprint;
    for (const auto* parameter : scope.all()) {
      fingerprint.add(std::string_view(parameter->name));
      add_number(fingerprint, static_cast<double>(selection(parameter->name)));
    }
    list.emplace_back("parameters", "selected by a function");
    list.emplace_back("parameters.rates", fingerprint.text());
  }
}

/// Name and fields of a loss and, for a sum, of its terms.
template <class L>
void append_loss(SettingsList& list, const std::string& prefix, const L& loss) {
  if constexpr (is_loss_sum<L>) {
    int i = 0;
    const auto append = [&](double weight, const auto& term) {
      const std::string name = concat(prefix, ".", i++);
      list.emplace_back(name + ".weight", setting_text(weight));
      append_loss(list, name, term);
    };
    if constexpr (requires { loss.for_each_term(append); }) loss.for_each_term(append);  // as the user gave them
    else loss.for_each(append);
  } else if constexpr (Described<L>) {
    list.emplace_back(prefix, plain_type_name<L>());
    append_described(list, loss);
  } else {
    static_assert(
        has_comparable_fields<L>,
        "kdlib: a checkpoint cannot compare the members of this loss, so a changed one would go on unnoticed: "
        "list them in visit_fields(self, f) (kdlib/core/fields.hpp) or offer describe()");
    append_part(list, prefix, loss);
  }
}

/// ConfigError that names the first setting in which a run differs from the checkpoint that it would go on from.
void check_same_settings(const SettingsList& before, const SettingsList& now);

/// Refuses a schedule that moves nothing at any step of the run, or whose rates are no rates.
template <class S>
void check_rates(const S& schedule, std::int64_t steps) {
  bool moves = false;
  for (std::int64_t step = 0; step < steps; ++step) {
    const double rate = static_cast<double>(schedule(step));
    require<ConfigError>(std::isfinite(rate) && rate >= 0, "[run] the schedule's rate at step ", step, " is ",
                         setting_text(rate), "; a rate must be finite and 0 or above");
    moves = moves || rate > 0;
  }
  require<ConfigError>(moves, "[run] the schedule's rate is 0 at each of the ", steps,
                       " steps: nothing would be trained. Set its peak, and its total to the steps of the run");
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
