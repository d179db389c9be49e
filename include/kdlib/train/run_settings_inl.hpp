// SPDX-License-Identifier: Apache-2.0
// What a run's settings must be, and what of them a checkpoint keeps (trainer.hpp).
#ifndef KDLIB_TRAIN_RUN_SETTINGS_INL_HPP
#define KDLIB_TRAIN_RUN_SETTINGS_INL_HPP

#include <algorithm>
#include <string>

#include "kdlib/core/error.hpp"
#include "kdlib/train/environment.hpp"
#include "kdlib/train/trainer.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_FUNC void append_ranks(SettingsList& list, const RankSettings& ranks) {
  if (ranks.tree()) list.emplace_back("reduce", "tree");
  if (ranks.write_batch > 0) list.emplace_back("write_batch", std::to_string(ranks.write_batch));
}

KDLIB_FUNC void check_settings(const RunSettings& s) {
  require<ConfigError>(s.steps > 0, "[run] steps is ", s.steps, "; it must be above 0");
  require<ConfigError>(s.micro_batches > 0, "[run] micro_batches is ", s.micro_batches, "; it must be above 0");
  require<ConfigError>(s.clip_norm >= 0, "[run] clip_norm is ", s.clip_norm, "; it must be 0 (no clipping) or above");
  require<ConfigError>(s.gradient_threshold >= 0 && s.gradient_threshold < 1, "[run] gradient_threshold is ",
                       s.gradient_threshold, "; it must be in [0, 1)");
  require<ConfigError>(s.save_every >= 0 && s.keep >= 0 && s.evaluate_every >= 0,
                       "[run] save_every, keep and evaluate_every must be 0 or above");
  require<ConfigError>(s.ranks.write_batch >= 0, "[run] write_batch is ", s.ranks.write_batch,
                       "; it must be 0 (each micro-batch alone) or above");
  require<ConfigError>(s.save != SaveRule::best || (s.hooks != nullptr && s.evaluate_every > 0),
                       "[run] save is best and nothing chooses it: set hooks and evaluate_every");
}

KDLIB_FUNC void check_same_settings(const SettingsList& before, const SettingsList& now) {
  for (const auto& [key, value] : now) {
    const std::string old = setting_or_not_set(before, key);
    require<ConfigError>(old == value, "[resume] ", key, " was ", old, " and is now ", value,
                         ": go on with the old value, choose another folder, or start again without resuming");
  }
  for (const auto& [key, value] : before)
    require<ConfigError>(std::any_of(now.begin(), now.end(), [&k = key](const auto& e) { return e.first == k; }),
                         "[resume] ", key, " was ", value,
                         " and is now (not set): go on with the old value, choose another folder, or start again");
}

KDLIB_FUNC void check_named_once(const SettingsList& list) {
  for (std::size_t i = 0; i < list.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      require<ConfigError>(list[i].first != list[j].first, "[run] the setting ", list[i].first,
                           " is given twice; rename the one in RunSettings::settings");
}

KDLIB_FUNC void check_shareable(const RunSettings& s, bool weighs_rows, bool of_ranks, bool skippable) {
  require<ConfigError>(!weighs_rows,
                       "[run] the source weighs rows by what all batches of a step hold, and each "
                       "of ",
                       s.ranks.communicator.size(), " ranks has some of them: train on one rank");
  require<ConfigError>(of_ranks, "[run] ", s.ranks.communicator.size(),
                       " ranks would write the same files: give kd::RankedSink<kd::JsonLines>{communicator, path} and "
                       "kd::RankedStore<kd::Directory>{communicator, path}");
  require<ConfigError>(skippable, "[run] the source has no skip(): ranks cannot share it; see kdlib/data/concepts.hpp");
}

KDLIB_FUNC void check_ahead(const RunSettings& s, bool known) {
  require<ConfigError>(s.teacher_ahead >= 0, "[run] teacher_ahead is ", s.teacher_ahead, "; it must be 0 or above");
  require<ConfigError>(s.teacher_ahead == 0 || known, "[run] teacher_ahead is ", s.teacher_ahead,
                       ", and the source does not say which batches stay the same whatever the student learns "
                       "(next_is_student_written()), or weighs rows when their step comes: leave it 0");
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
