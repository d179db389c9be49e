// SPDX-License-Identifier: Apache-2.0
// Bodies of step_metrics.hpp.
#ifndef KDLIB_TRAIN_STEP_METRICS_INL_HPP
#define KDLIB_TRAIN_STEP_METRICS_INL_HPP

#include <algorithm>

#include "kdlib/core/error.hpp"
#include "kdlib/train/step_metrics.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void append_row_metrics(NamedValues& out, const RowMetrics& m) {
  const auto mean = [&out](const char* name, double sum, double weight) {
    if (weight > 0) out.emplace_back(name, sum / weight);
  };
  mean("train/student_entropy", m.student_entropy, m.weight);
  mean("train/teacher_entropy", m.teacher_entropy, m.teacher_weight);
  mean("train/forward_kl", m.forward_kl, m.teacher_weight);
  mean("train/reverse_kl", m.reverse_kl, m.teacher_weight);
  mean("train/top1_agreement", m.top1_agreement, m.teacher_weight);
  mean("train/top5_overlap", m.top5_overlap, m.teacher_weight);
  mean("train/top5_contains", m.top5_contains, m.teacher_weight);
  mean("train/label_log_prob", m.label_log_prob, m.label_weight);
  mean("train/label_top1", m.label_top1, m.label_weight);
  if (m.label_rank > 0) mean("train/label_rank", m.label_rank, m.label_weight);
  mean("train/js", m.js, m.js_weight);
  mean("train/teacher_support_mass", m.teacher_support_mass, m.support_weight);
  mean("train/student_support_mass", m.student_support_mass, m.support_weight);
  mean("train/tail_loss", m.tail_loss, m.support_weight);
  mean("train/clamp_fraction", m.clamped, m.clamp_weight);
  mean("train/skipped_blocks", m.skipped_blocks, m.threshold_weight);
}

KDLIB_FUNC void append_kl_spread(NamedValues& out, const RowSpread& kl) {
  if (kl.weight <= 0) return;
  out.emplace_back("train/kl_std", kl.deviation());
  out.emplace_back("train/kl_min", kl.least);
  out.emplace_back("train/kl_max", kl.most);
}

KDLIB_FUNC void append_expert_use(NamedValues& out, const ExpertUse& use) {
  if (use.empty()) return;
  out.emplace_back("experts/entropy", use.entropy());
  out.emplace_back("experts/max_share", use.max_share());
  const auto loads = use.loads();
  for (std::size_t i = 0; i < loads.size(); ++i)
    out.emplace_back(concat("experts/", ExpertUse::load_names[i]), loads[i]);
  if (!use.regularised) return;
  out.emplace_back("experts/balance", use.balance);
  out.emplace_back("experts/z", use.z);
}

KDLIB_FUNC NamedValues step_values(const StepReport& r, double tokens, double source_seconds, const StepSums& sums,
                                   const std::vector<Span>& spans, const SpanWeights* weights) {
  NamedValues values{{"time", r.seconds},
                     {"tokens", tokens},
                     {"train/loss", r.loss},
                     {"train/grad_norm", r.gradient_norm},
                     {"train/rate", r.rate},
                     {"train/tokens", r.tokens},
                     {"train/tokens_per_s", r.tokens_per_s},
                     {"train/step_seconds", r.step_seconds},
                     {"train/source_seconds", source_seconds}};
  if (r.skipped) values.emplace_back("train/skipped", 1);
  append_row_metrics(values, sums.metrics);
  append_kl_spread(values, sums.kl);
  append_expert_use(values, sums.experts);
  for (std::size_t i = 0; i < sums.span_loss.size(); ++i) {
    if (sums.span_loss[i].weight <= 0) continue;
    // The rows' weights are those of the span over its denominator, times what the source made of them.
    values.emplace_back("train/loss/" + spans[i].name, sums.span_loss[i].sum / spans[i].weight);
    values.emplace_back("train/tokens/" + spans[i].name, weights->losses()[i].loss.weight);
  }
  return values;
}

KDLIB_FUNC NamedValues rank_values(const RankedSums& all, double reduce_seconds) {
  if (all.ranks.size() < 2) return {};
  double most = 0, sum = 0, slowest_seconds = 0, source_seconds = 0;
  std::size_t slowest = 0;
  for (std::size_t r = 0; r < all.ranks.size(); ++r) {
    const RankTimes& times = all.ranks[r];
    most = std::max(most, times.tokens);
    sum += times.tokens;
    source_seconds = std::max(source_seconds, times.source_seconds);
    const double seconds = times.source_seconds + times.gradient_seconds;
    if (seconds > slowest_seconds) slowest = r, slowest_seconds = seconds;
  }
  NamedValues values{{"dp/ranks", static_cast<double>(all.ranks.size())},
                     {"dp/write_seconds", source_seconds},
                     {"dp/reduce_seconds", reduce_seconds},
                     {"dp/slowest_rank", static_cast<double>(slowest)}};
  if (sum > 0) values.emplace_back("dp/imbalance", most * static_cast<double>(all.ranks.size()) / sum);
  return values;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
