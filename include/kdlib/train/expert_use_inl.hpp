// SPDX-License-Identifier: Apache-2.0
// Bodies of expert_use.hpp.
#ifndef KDLIB_TRAIN_EXPERT_USE_INL_HPP
#define KDLIB_TRAIN_EXPERT_USE_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/train/expert_use.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

inline double sum_of(const std::vector<std::int64_t>& counts) {
  double sum = 0;
  for (const std::int64_t n : counts) sum += static_cast<double>(n);
  return sum;
}

}  // namespace detail

inline void ExpertUse::add(const RoutingRecord& record, std::int64_t experts) {
  const auto more = expert_histogram(record, experts);
  if (counts.size() < more.size())
    counts.resize(more.size(), std::vector<std::int64_t>(static_cast<std::size_t>(experts), 0));
  for (std::size_t m = 0; m < more.size(); ++m)
    for (std::size_t e = 0; e < more[m].size(); ++e) counts[m][e] += more[m][e];
}

inline double ExpertUse::entropy() const {
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

inline double ExpertUse::max_share() const {
  double most = 0;
  for (const auto& row : counts)
    if (const double all = detail::sum_of(row); all > 0)
      most = std::max(most, static_cast<double>(*std::max_element(row.begin(), row.end())) / all);
  return most;
}

inline std::array<double, 6> ExpertUse::loads() const {
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

template <class Student>
RoutedPass<Student>::RoutedPass(Student& student, const TokenBatch& batch, bool replay) : student_(student) {
  if constexpr (RoutedModel<Student>) experts_ = student.experts();
  require<ConfigError>(!replay || experts_ > 0,
                       "[train] replay_routing is set, but the student has no mixture of experts; unset it");
  if (experts_ == 0) return;
  if constexpr (RoutedModel<Student>)
    student.set_routing(&record_, replay && !batch.routing.empty() ? &batch.routing : nullptr);
}

template <class Student>
RoutedPass<Student>::~RoutedPass() {
  if constexpr (RoutedModel<Student>)
    if (experts_ > 0) student_.set_routing(nullptr, nullptr);
}

template <class Student>
void RoutedPass<Student>::count(ExpertUse& use, double share) const {
  if (experts_ == 0) return;
  use.add(record_, experts_);
  if constexpr (requires { student_.router_report().balance, student_.router_policy().balance; }) {
    use.regularised = student_.router_policy().balance != 0 || student_.router_policy().z != 0;
    use.balance += share * student_.router_report().balance;
    use.z += share * student_.router_report().z;
  } else {
    static_cast<void>(share);
  }
}

KDLIB_NAMESPACE_END

#endif
