// SPDX-License-Identifier: Apache-2.0
// Bodies of step_metrics.hpp: what ranks and checkpoints must have alike, and what a step fails with.
#ifndef KDLIB_TRAIN_RUN_TEXTS_INL_HPP
#define KDLIB_TRAIN_RUN_TEXTS_INL_HPP

#include <string>
#include <string_view>

#include "kdlib/core/byte_pack.hpp"
#include "kdlib/core/error.hpp"
#include "kdlib/train/step_metrics.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::string skipped_text(std::int64_t step) {
  return concat("step ", step,
                " has no token that counts and is skipped; check masks and lengths if this happens often");
}

KDLIB_FUNC void fail_not_finite(std::int64_t step, const char* what, std::int64_t saved_step, bool no_update,
                                const StepSums& sums, double norm, double rate) {
  const std::string last =
      saved_step >= 0 ? concat("the last checkpoint is step ", saved_step) : std::string("no checkpoint was saved yet");
  const char* advice =
      no_update
          ? ". No update was made yet: the student's or the teacher's weights give it as they are (inspect --check "
            "lists tensors that are not finite), or the data of this step does"
          : ". Lower the rate, lengthen the warm-up or set clip_norm, and check the data of this step";
  fail<TrainingError>("[train] step ", step, ": the ", what, " is not finite (loss ", setting_text(sums.loss.mean()),
                      ", gradient norm ", setting_text(norm), ", rate ", setting_text(rate), "); ", last, advice);
}

KDLIB_FUNC void append_equal_settings(SettingsList& list, const RunSettings& settings, std::int64_t first_step) {
  const auto number = [&list](const char* key, std::int64_t value) { list.emplace_back(key, std::to_string(value)); };
  number("steps", settings.steps);
  number("first step", first_step);
  number("save_every", settings.save_every);
  number("evaluate_every", settings.evaluate_every);
  number("save", static_cast<std::int64_t>(settings.save));
  number("resume", settings.resume ? 1 : 0);
  number("hooks", settings.hooks != nullptr ? 1 : 0);
  number("recompute", settings.recompute ? 1 : 0);
  number("shard_optimizer", settings.ranks.shard_optimizer ? 1 : 0);
}

KDLIB_FUNC void check_stage_before(const TrainState& saved, const StageContext& context) {
  require<ConfigError>(saved.finished && saved.step == context.first_step, "[resume] the checkpoint is of step ",
                       saved.step, " of stage '", saved.stage, "', this run is stage '", context.name, "' from step ",
                       context.first_step, "; use the program that wrote it, or another folder");
}

KDLIB_FUNC Evaluation first_evaluation(AnyCommunicator& communicator, const Evaluation& mine) {
  BytePacker out;
  out.add(mine.best_by).add(mine.values.size());
  for (const auto& [name, value] : mine.values) out.add(std::string_view(name)).add(value);
  const Bytes bytes = communicator.broadcast_bytes(out.take());
  ByteUnpacker in(bytes);
  Evaluation first;
  first.best_by = in.get<double>();
  first.values.resize(in.get<std::size_t>());
  for (auto& [name, value] : first.values) name = in.text(), value = in.get<double>();
  return first;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
