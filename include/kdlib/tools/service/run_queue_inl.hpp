// SPDX-License-Identifier: Apache-2.0
// Bodies of run_queue.hpp.
#ifndef KDLIB_TOOLS_SERVICE_RUN_QUEUE_INL_HPP
#define KDLIB_TOOLS_SERVICE_RUN_QUEUE_INL_HPP

#include <algorithm>

#include "kdlib/tools/service/run_queue.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC bool RunQueue::add(const std::string& id, const std::string& device) {
  if (is_full()) return false;
  waiting_.push_back({id, device});
  return true;
}

KDLIB_TOOLS_FUNC void RunQueue::adopt(const std::string& id, const std::string& device) {
  running_.push_back({id, device});
}

KDLIB_TOOLS_FUNC std::string RunQueue::start_next() {
  for (std::size_t i = 0; i < waiting_.size(); ++i) {
    if (running(waiting_[i].device) >= static_cast<std::size_t>(jobs_)) continue;
    running_.push_back(waiting_[i]);
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
    return running_.back().id;
  }
  return {};
}

KDLIB_TOOLS_FUNC bool RunQueue::remove(const std::string& id) {
  const auto is_it = [&](const Entry& e) { return e.id == id; };
  return std::erase_if(waiting_, is_it) + std::erase_if(running_, is_it) > 0;
}

KDLIB_TOOLS_FUNC std::size_t RunQueue::position(const std::string& id) const {
  const auto at = std::find_if(waiting_.begin(), waiting_.end(), [&](const Entry& e) { return e.id == id; });
  if (at == waiting_.end()) return 0;
  return static_cast<std::size_t>(
      std::count_if(waiting_.begin(), at + 1, [&](const Entry& e) { return e.device == at->device; }));
}

KDLIB_TOOLS_FUNC std::size_t RunQueue::running(const std::string& device) const {
  return static_cast<std::size_t>(
      std::count_if(running_.begin(), running_.end(), [&](const Entry& e) { return e.device == device; }));
}

KDLIB_NAMESPACE_END

#endif
