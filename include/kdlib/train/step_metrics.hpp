// SPDX-License-Identifier: Apache-2.0
// What a training run does that does not depend on its types: the numbers of a step under the names that sinks get, and
// what ranks and checkpoints must have alike.
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

/// Means over the rows that have each value; what no row has is left out.
void append_row_metrics(NamedValues& out, const RowMetrics& m);
/// How KL(teacher || student) is spread over the step's rows; its mean is train/forward_kl.
void append_kl_spread(NamedValues& out, const RowSpread& kl);
void append_expert_use(NamedValues& out, const ExpertUse& use);
/// What a sink gets of a step, but for what ranks, source and teacher add. `weights`: of `spans`, nullptr without
/// spans.
NamedValues step_values(const StepReport& r, double tokens, double source_seconds, const StepSums& sums,
                        const std::vector<Span>& spans, const SpanWeights* weights);
std::string skipped_text(std::int64_t step);
/// TrainingError: `what` (loss or gradient) is not finite in this step. `saved_step`: below 0 where none was saved.
[[noreturn]] void fail_not_finite(std::int64_t step, const char* what, std::int64_t saved_step, bool no_update,
                                  const StepSums& sums, double norm, double rate);
/// What all ranks must have alike, besides what a checkpoint keeps.
void append_equal_settings(SettingsList& list, const RunSettings& settings, std::int64_t first_step);
/// ConfigError: the checkpoint of another stage is not the end of the one before.
void check_stage_before(const TrainState& saved, const StageContext& context);
/// The first rank's. Every rank calls it.
Evaluation first_evaluation(AnyCommunicator& communicator, const Evaluation& mine);
/// Where the time of the step went; nothing on one rank.
NamedValues rank_values(const RankedSums& all, double reduce_seconds);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/train/run_texts_inl.hpp"
#include "kdlib/train/step_metrics_inl.hpp"
#endif

#endif
