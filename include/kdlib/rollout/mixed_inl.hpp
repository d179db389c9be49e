// SPDX-License-Identifier: Apache-2.0
// Bodies of mixed.hpp.
#ifndef KDLIB_ROLLOUT_MIXED_INL_HPP
#define KDLIB_ROLLOUT_MIXED_INL_HPP

#include <charconv>
#include <utility>

#include "kdlib/rollout/mixed.hpp"

KDLIB_NAMESPACE_BEGIN

inline bool student_writes(double lambda, std::uint64_t seed, std::int64_t step) {
  return Rng(seed, RngPurpose::lambda_coin, static_cast<std::uint32_t>(step)).uniform(0) <
         lambda;  // uniform is in [0, 1)
}

template <class Offline, class Online>
Mixed<Offline, Online>::Mixed(Offline&& offline, Online&& online, MixedSettings settings)
    : offline_(std::forward<Offline>(offline)), online_(std::forward<Online>(online)), settings_(settings) {
  require<ConfigError>(settings.lambda >= 0 && settings.lambda <= 1, "[Mixed] lambda is ", settings.lambda,
                       "; it must be from 0 (given text alone) to 1 (student-written text alone)");
  require<ConfigError>(settings.micro_batches >= 1, "[Mixed] micro_batches is ", settings.micro_batches,
                       "; it must be 1 or more");
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

/// "mixed <batches>|<offline>|<online>"
template <class Offline, class Online>
SourceCursor Mixed<Offline, Online>::cursor() const {
  return concat("mixed ", batches_, "|", offline_.cursor(), "|", online_.cursor());
}

template <class Offline, class Online>
void Mixed<Offline, Online>::seek(const SourceCursor& cursor) {
  const std::string prefix = "mixed ";
  const std::size_t first = cursor.find('|'), second = first == std::string::npos ? first : cursor.find('|', first + 1);
  std::int64_t batches = -1;
  const bool parsed = cursor.compare(0, prefix.size(), prefix) == 0 && second != std::string::npos && [&] {
    const auto result = std::from_chars(cursor.data() + prefix.size(), cursor.data() + first, batches);
    return result.ec == std::errc() && result.ptr == cursor.data() + first && batches >= 0;
  }();
  require<ConfigError>(
      parsed, "[Mixed] '", cursor,
      "' is no place in a mixed source: resume with the settings of the first run, or start in another folder");
  offline_.seek(cursor.substr(first + 1, second - first - 1));
  online_.seek(cursor.substr(second + 1));
  batches_ = batches;
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

#endif
