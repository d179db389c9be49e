// SPDX-License-Identifier: Apache-2.0
// Decides which run starts next: in order, with a limited number of runs at once on a device. This class starts no
// process and reads no clock.
#ifndef KDLIB_TOOLS_SERVICE_RUN_QUEUE_HPP
#define KDLIB_TOOLS_SERVICE_RUN_QUEUE_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// The queue of the runs of all devices. The runs of one device start in the order in which they came; a busy device
/// does not delay the runs of other devices.
class RunQueue {
 public:
  /// At most `jobs_per_device` runs are started at once on a device, and at most `limit` runs wait.
  RunQueue(int jobs_per_device, std::size_t limit) : jobs_(jobs_per_device), limit_(limit) {}

  bool is_full() const { return waiting_.size() >= limit_; }
  /// Adds a run at the end. Returns false if the queue is full.
  bool add(const std::string& id, const std::string& device);
  /// Adds a run that was started before; it counts as started.
  void adopt(const std::string& id, const std::string& device);
  /// Returns the run that may start now, which then counts as started; empty if no run may start.
  std::string start_next();
  /// Removes a waiting or started run. Returns false if the run is unknown.
  bool remove(const std::string& id);
  /// Returns the place of a run among the waiting runs of its device, from 1; 0 if the run does not wait.
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
