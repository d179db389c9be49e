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
  ExpertUse more;
  more.counts = expert_histogram(record, experts);
  add(more);
}

inline void ExpertUse::add(const ExpertUse& other) {
  const auto& more = other.counts;
  if (counts.size() < more.size()) counts.resize(more.size(), std::vector<std::int64_t>(more[0].size(), 0));
  for (std::size_t m = 0; m < more.size(); ++m)
    for (std::size_t e = 0; e < more[m].size(); ++e) counts[m][e] += more[m][e];
  regularised = regularised || other.regularised;
  balance += other.balance;
  z += other.z;
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

template <class D>
void PendingUse<D>::add_to(ExpertUse& use) const {
  use.add(counted_);
  for (const RoutingRecord& record : routing_.passes()) use.add(record, experts_);
  if (routing_.passes().empty()) return;
  use.regularised = regularised_;
  use.balance += share_ * totals_.here.balance();
  use.z += share_ * totals_.here.z();
}

template <class Student>
RoutedPass<Student>::RoutedPass(Student& student, const TokenBatch& batch, bool replay, PendingUse<D>& use)
    : student_(student), use_(use) {
  if constexpr (RoutedModel<Student>) experts_ = student.experts();
  require<ConfigError>(!replay || experts_ > 0,
                       "[train] replay_routing is set, but the student has no mixture of experts; unset it");
  if (experts_ == 0) return;
  const RoutingRecord* follow = replay && !batch.routing.empty() ? &batch.routing : nullptr;
  if constexpr (PendingRoutedModel<Student>) student.set_pending_routing(&use.routing(), follow);
  else if constexpr (RoutedModel<Student>) student.set_routing(&record_, follow);
}

template <class Student>
RoutedPass<Student>::~RoutedPass() {
  if constexpr (RoutedModel<Student>)
    if (experts_ > 0) student_.set_routing(nullptr, nullptr);
}

template <class Student>
void RoutedPass<Student>::count(double share) {
  if (experts_ == 0) return;
  if constexpr (PendingRoutedModel<Student>) {
    const auto& policy = student_.router_policy();
    use_.put(experts_, share, policy.balance != 0 || policy.z != 0, student_.pending_router_totals());
  } else {
    ExpertUse use;
    use.add(record_, experts_);
    if constexpr (requires { student_.router_report().balance, student_.router_policy().balance; }) {
      use.regularised = student_.router_policy().balance != 0 || student_.router_policy().z != 0;
      use.balance = share * student_.router_report().balance;
      use.z = share * student_.router_report().z;
    }
    use_.put(std::move(use));
  }
}

KDLIB_NAMESPACE_END

#endif
