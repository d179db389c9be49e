// SPDX-License-Identifier: Apache-2.0
// Which run starts next: in order, at most so many at once on a device. No process, no clock.
#ifndef KDLIB_TOOLS_SERVICE_RUN_QUEUE_HPP
#define KDLIB_TOOLS_SERVICE_RUN_QUEUE_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// The queue of runs over devices. Runs of one device start in the order they came; a full device holds up no other.
class RunQueue {
 public:
  /// Waiting runs are `limit` at most.
  RunQueue(int jobs_per_device, std::size_t limit) : jobs_(jobs_per_device), limit_(limit) {}

  bool is_full() const { return waiting_.size() >= limit_; }
  /// Puts a run at the end; false where the queue is full.
  bool add(const std::string& id, const std::string& device);
  /// A run that goes on from before: it counts as started.
  void adopt(const std::string& id, const std::string& device);
  /// The run that may start now, which then counts as started; empty where none may.
  std::string start_next();
  /// Takes a run out, waiting or started; false where it is not known.
  bool remove(const std::string& id);
  /// Place among the waiting runs of its device from 1; 0: not waiting.
  std::size_t position(const std::string& id) const;
  std::size_t running(const std::string& device) const;
  std::size_t waiting() const { return waiting_.size(); }

 private:
  struct Entry {
    std::string id, device;
  };
  int jobs_;
  std::size_t limit_;
  std::vector<Entry> waiting_, running_;
};

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/run_queue_inl.hpp"
#endif

#endif
