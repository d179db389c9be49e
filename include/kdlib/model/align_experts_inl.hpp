// SPDX-License-Identifier: Apache-2.0
// Bodies of compress_experts.hpp: experts permuted to look alike.
#ifndef KDLIB_MODEL_ALIGN_EXPERTS_INL_HPP
#define KDLIB_MODEL_ALIGN_EXPERTS_INL_HPP

#include <algorithm>

#include "kdlib/core/parallel.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/model/compress_experts.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC double gated_distance(const GatedExpert& a, const GatedExpert& b) {
  double sum = 0;
  for (const auto& [x, y] : {std::pair(&a.gate, &b.gate), {&a.up, &b.up}, {&a.down, &b.down}}) {
    DenseMatrix rest = *x;
    add_scaled(rest, -1, *y);
    sum += rest.squares();
  }
  return sum;
}

KDLIB_FUNC ExpertOrder unmoved(std::int64_t neurons) {
  ExpertOrder order;
  for (std::int64_t i = 0; i < neurons; ++i) order.places.push_back(i);
  order.flips.assign(order.places.size(), 0);
  return order;
}

KDLIB_FUNC GatedExpert permuted(const GatedExpert& expert, const ExpertOrder& order) {
  GatedExpert out = expert;
  for (std::int64_t i = 0; i < expert.gate.rows; ++i) {
    const std::int64_t from = order.places[static_cast<std::size_t>(i)];
    const double sign = order.flips[static_cast<std::size_t>(i)] != 0 ? -1 : 1;
    for (std::int64_t j = 0; j < expert.gate.columns; ++j) {
      out.gate(i, j) = expert.gate(from, j);
      out.up(i, j) = sign * expert.up(from, j);
    }
    for (std::int64_t j = 0; j < expert.down.rows; ++j) out.down(j, i) = sign * expert.down(j, from);
  }
  return out;
}

/// True where the expert came nearer to the reference; then `whole`, its order so far, goes on.
KDLIB_FUNC bool align_one(GatedExpert& expert, const GatedExpert& reference, ExpertOrder& whole, DenseGemm gemm) {
  const DenseMatrix gates = multiply_by_transposed(reference.gate, expert.gate, gemm);
  DenseMatrix signs = multiply_by_transposed(reference.up, expert.up, gemm);
  add_scaled(signs, 1, multiply_transposed(reference.down, expert.down, gemm));
  DenseMatrix gain = gates;
  for (std::size_t i = 0; i < gain.values.size(); ++i) gain.values[i] += std::abs(signs.values[i]);
  ExpertOrder order, sum;
  order.places = best_assignment(gain);
  bool moves = false;
  for (std::size_t i = 0; i < order.places.size(); ++i) {
    const std::int64_t from = order.places[i];
    order.flips.push_back(signs(static_cast<std::int64_t>(i), from) < 0 ? 1 : 0);
    moves = moves || order.flips.back() != 0 || from != static_cast<std::int64_t>(i);
    sum.places.push_back(whole.places[static_cast<std::size_t>(from)]);
    sum.flips.push_back(static_cast<std::uint8_t>(order.flips.back() ^ whole.flips[static_cast<std::size_t>(from)]));
  }
  if (!moves) return false;
  GatedExpert turned = permuted(expert, order);
  if (!(gated_distance(turned, reference) < gated_distance(expert, reference))) return false;
  expert = std::move(turned);
  whole = std::move(sum);
  return true;
}

KDLIB_FUNC GatedExpert mean_expert(const std::vector<GatedExpert>& experts) {
  GatedExpert mean = experts[0];
  for (DenseMatrix* m : {&mean.gate, &mean.up, &mean.down}) std::fill(m->values.begin(), m->values.end(), 0.0);
  const double share = 1 / static_cast<double>(experts.size());
  for (const GatedExpert& e : experts) {
    add_scaled(mean.gate, share, e.gate);
    add_scaled(mean.up, share, e.up);
    add_scaled(mean.down, share, e.down);
  }
  return mean;
}

KDLIB_FUNC double spread_of(const std::vector<GatedExpert>& experts) {
  const GatedExpert mean = mean_expert(experts);
  double sum = 0;
  for (const GatedExpert& e : experts) sum += gated_distance(e, mean);
  return sum;
}

}  // namespace detail

KDLIB_FUNC AlignReport align_experts(std::vector<GatedExpert>& experts, const std::vector<double>& weights,
                                     DenseGemm gemm) {
  require<ShapeError>(!experts.empty() && experts.size() == weights.size(), "[align_experts] ", experts.size(),
                      " experts and ", weights.size(), " weights; one weight an expert is needed");
  for (std::size_t e = 0; e < experts.size(); ++e) {
    const std::int64_t inner = experts[e].gate.rows, hidden = experts[e].gate.columns;
    require<ShapeError>(inner == experts[0].gate.rows && hidden == experts[0].gate.columns &&
                            experts[e].up.rows == inner && experts[e].up.columns == hidden &&
                            experts[e].down.rows == hidden && experts[e].down.columns == inner,
                        "[align_experts] expert ", e, " has maps of other shapes than gate [", experts[0].gate.rows,
                        ", ", experts[0].gate.columns, "] of expert 0 asks for");
  }
  AlignReport report;
  report.before = detail::spread_of(experts);
  report.orders.assign(experts.size(), detail::unmoved(experts[0].gate.rows));
  const std::size_t largest =
      static_cast<std::size_t>(std::max_element(weights.begin(), weights.end()) - weights.begin());
  std::vector<std::uint8_t> moved(experts.size(), 0);  // bytes: threads write neighbours
  const auto towards = [&](const GatedExpert& reference, std::size_t but) {
    parallel_for(static_cast<std::int64_t>(experts.size()), 1, [&](std::int64_t begin, std::int64_t end) {
      for (auto e = static_cast<std::size_t>(begin); e < static_cast<std::size_t>(end); ++e) {
        check_stop();
        if (e != but && detail::align_one(experts[e], reference, report.orders[e], gemm)) moved[e] = 1;
      }
    });
  };
  const GatedExpert first = experts[largest];
  towards(first, largest);
  towards(detail::mean_expert(experts), experts.size());
  report.aligned = std::count(moved.begin(), moved.end(), 1);
  report.after = detail::spread_of(experts);
  return report;
}

KDLIB_NAMESPACE_END

#endif
