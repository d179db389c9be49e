// SPDX-License-Identifier: Apache-2.0
// The parts of a training run that do not depend on its types: the numbers of a step under the names that metric sinks
// get, and checks of what ranks and checkpoints must have in common.
#ifndef KDLIB_TRAIN_STEP_METRICS_HPP
#define KDLIB_TRAIN_STEP_METRICS_HPP

#include <string>
#include <utility>
#include <vector>

#include "kdlib/train/expert_use.hpp"
#include "kdlib/train/ranked_step.hpp"
#include "kdlib/train/run.hpp"
#include "kdlib/train/state.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

using NamedValues = std::vector<std::pair<std::string, double>>;

/// Appends the mean of each value over the rows that have this value. A value that no row has is left out.
void append_row_metrics(NamedValues& out, const RowMetrics& m);
/// Appends the spread of KL(teacher || student) over the step's rows: train/kl_std, train/kl_min and train/kl_max. The
/// mean is train/forward_kl.
void append_kl_spread(NamedValues& out, const RowSpread& kl);
void append_expert_use(NamedValues& out, const ExpertUse& use);
/// Returns the values of a step for the metric sink, without those that ranks, source and teacher add. `weights`
/// belongs to `spans`; nullptr without spans.
NamedValues step_values(const StepReport& r, double tokens, double source_seconds, const StepSums& sums,
                        const std::vector<Span>& spans, const SpanWeights* weights);
std::string skipped_text(std::int64_t step);
/// Throws TrainingError because `what` ("loss" or "gradient") is not finite in this step. `saved_step` is the step of
/// the last checkpoint, or below 0 if there is none.
[[noreturn]] void fail_not_finite(std::int64_t step, const char* what, std::int64_t saved_step, bool no_update,
                                  const StepSums& sums, double norm, double rate);
/// Appends the settings that must be equal on all ranks, besides those that a checkpoint keeps.
void append_equal_settings(SettingsList& list, const RunSettings& settings, std::int64_t first_step);
/// Throws ConfigError if `saved`, a checkpoint of another stage, is not the end of the stage before this one.
void check_stage_before(const TrainState& saved, const StageContext& context);
/// Returns the evaluation of the first rank. Every rank must call the function.
Evaluation first_evaluation(AnyCommunicator& communicator, const Evaluation& mine);
/// Returns the metrics "dp/...", which say where the time of the step went; nothing on a single rank.
NamedValues rank_values(const RankedSums& all, double reduce_seconds);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/train/run_texts_inl.hpp"
#include "kdlib/train/step_metrics_inl.hpp"
#endif

#endif
