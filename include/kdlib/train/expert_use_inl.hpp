// SPDX-License-Identifier: Apache-2.0
// Bodies of expert_use.hpp.
#ifndef KDLIB_TRAIN_EXPERT_USE_INL_HPP
#define KDLIB_TRAIN_EXPERT_USE_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/train/expert_use.hpp"

KDLIB_NAMESPACE_BEGIN
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
