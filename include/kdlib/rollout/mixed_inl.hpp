// SPDX-License-Identifier: Apache-2.0
// Bodies of mixed.hpp.
#ifndef KDLIB_ROLLOUT_MIXED_INL_HPP
#define KDLIB_ROLLOUT_MIXED_INL_HPP

#include <utility>

#include "kdlib/rollout/mixed.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// "mixed <batches>|<offline>|<online>"
struct MixedCursor {
  std::int64_t batches = -1;
  SourceCursor offline{}, online{};
};
/// ConfigError: another text.
MixedCursor parse_mixed_cursor(const SourceCursor& cursor);
/// ConfigError: a number out of its range.
void check_mixed(const MixedSettings& settings);
}  // namespace detail

template <class Offline, class Online>
Mixed<Offline, Online>::Mixed(Offline&& offline, Online&& online, MixedSettings settings)
    : offline_(std::forward<Offline>(offline)), online_(std::forward<Online>(online)), settings_(settings) {
  detail::check_mixed(settings);
}

template <class Offline, class Online>
template <class Student>
std::optional<TokenBatch> Mixed<Offline, Online>::next(Student& student) {
  static_assert(RolloutSource<std::remove_reference_t<Online>, Student>,
                "kdlib: the second argument of Mixed is not a RolloutSource of this student (next(student), cursor(), "
                "seek(cursor)): give a kd::OnPolicy "
                "or see kdlib/rollout/concepts.hpp");
  std::optional<TokenBatch> batch = next_is_student_written() ? online_.next(student) : offline_.next();
  if (batch) ++batches_;
  return batch;
}

template <class Offline, class Online>
bool Mixed<Offline, Online>::skip() {
  const auto pass = [](auto& part) {
    if constexpr (SkippableSource<std::remove_reference_t<decltype(part)>>) {
      return part.skip();
    } else {
      fail<ConfigError>("[Mixed] a part of the mix has no skip(): ranks cannot share it; see kdlib/data/concepts.hpp");
      return false;
    }
  };
  const bool there = next_is_student_written() ? pass(online_) : pass(offline_);
  if (there) ++batches_;
  return there;
}

template <class Offline, class Online>
template <class Student>
void Mixed<Offline, Online>::write_step(Student& student, std::int64_t batches, std::int64_t group,
                                        AnyCommunicator& ranks) {
  std::int64_t online = 0;
  for (std::int64_t i = 0; i < batches; ++i) online += is_student_written(i) ? 1 : 0;
  if (online == 0) return;
  if constexpr (requires { online_.write_step(student, online, group, ranks); })
    online_.write_step(student, online, group, ranks);
}

template <class Offline, class Online>
SourceCursor Mixed<Offline, Online>::cursor() const {
  return concat("mixed ", batches_, "|", offline_.cursor(), "|", online_.cursor());
}

template <class Offline, class Online>
void Mixed<Offline, Online>::seek(const SourceCursor& cursor) {
  const detail::MixedCursor place = detail::parse_mixed_cursor(cursor);
  offline_.seek(place.offline);
  online_.seek(place.online);
  batches_ = place.batches;
}

template <class Offline, class Online>
SourceDescription Mixed<Offline, Online>::describe() const {
  SourceDescription list = {{"source", "mixed"}};
  append_fields(list, "source", settings_);
  const auto take = [&list](const char* prefix, const auto& part) {
    if constexpr (requires { part.describe(); })
      for (const auto& [key, value] : part.describe()) list.emplace_back(prefix + key, value);
  };
  take("offline.", offline_);
  take("online.", online_);
  return list;
}

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/rollout/mixed_cursor_inl.hpp"
#endif

#endif
