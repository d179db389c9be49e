// SPDX-License-Identifier: Apache-2.0
// What expert_use.hpp says of counts of experts.
#ifndef KDLIB_TRAIN_EXPERT_LOADS_INL_HPP
#define KDLIB_TRAIN_EXPERT_LOADS_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/train/expert_use.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_FUNC double sum_of(const std::vector<std::int64_t>& counts) {
  double sum = 0;
  for (const std::int64_t n : counts) sum += static_cast<double>(n);
  return sum;
}

}  // namespace detail

KDLIB_FUNC void ExpertUse::add(const RoutingRecord& record, std::int64_t experts) {
  ExpertUse more;
  more.counts = expert_histogram(record, experts);
  add(more);
}

KDLIB_FUNC void ExpertUse::add(const ExpertUse& other) {
  const auto& more = other.counts;
  if (counts.size() < more.size()) counts.resize(more.size(), std::vector<std::int64_t>(more[0].size(), 0));
  for (std::size_t m = 0; m < more.size(); ++m)
    for (std::size_t e = 0; e < more[m].size(); ++e) counts[m][e] += more[m][e];
  regularised = regularised || other.regularised;
  balance += other.balance;
  z += other.z;
}

KDLIB_FUNC double ExpertUse::entropy() const {
  double mean = 0;
  for (const auto& row : counts) {
    const double all = detail::sum_of(row);
    double h = 0;
    for (const std::int64_t n : row)
      if (n > 0) h -= static_cast<double>(n) / all * std::log(static_cast<double>(n) / all);
    mean += row.size() > 1 ? h / std::log(static_cast<double>(row.size())) : 1;
  }
  return mean / static_cast<double>(counts.size());
}

KDLIB_FUNC double ExpertUse::max_share() const {
  double most = 0;
  for (const auto& row : counts)
    if (const double all = detail::sum_of(row); all > 0)
      most = std::max(most, static_cast<double>(*std::max_element(row.begin(), row.end())) / all);
  return most;
}

KDLIB_FUNC std::array<double, 6> ExpertUse::loads() const {
  std::array<double, 6> parts{};
  double experts = 0;
  for (const auto& row : counts) {
    const double even = detail::sum_of(row) / static_cast<double>(row.size());
    for (const std::int64_t n : row) {
      const double load = even > 0 ? static_cast<double>(n) / even : 0;
      const std::size_t bin = n == 0 ? 0 : load <= 0.5 ? 1 : load <= 1 ? 2 : load <= 2 ? 3 : load <= 4 ? 4 : 5;
      ++parts[bin];
      ++experts;
    }
  }
  for (double& part : parts) part /= std::max(experts, 1.0);
  return parts;
}

KDLIB_NAMESPACE_END

#endif
