// SPDX-License-Identifier: Apache-2.0
// The numbers of a step under the names that sinks get.
#ifndef KDLIB_TRAIN_STEP_METRICS_HPP
#define KDLIB_TRAIN_STEP_METRICS_HPP

#include <string>
#include <utility>
#include <vector>

#include "kdlib/train/expert_use.hpp"
#include "kdlib/train/ranked_step.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

using NamedValues = std::vector<std::pair<std::string, double>>;

/// Means over the rows that have each value; what no row has is left out.
void append_row_metrics(NamedValues& out, const RowMetrics& m);
/// How KL(teacher || student) is spread over the step's rows; its mean is train/forward_kl.
void append_kl_spread(NamedValues& out, const RowSpread& kl);
void append_expert_use(NamedValues& out, const ExpertUse& use);
/// Where the time of the step went; nothing on one rank.
NamedValues rank_values(const RankedSums& all, double reduce_seconds);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/train/step_metrics_inl.hpp"
#endif

#endif
