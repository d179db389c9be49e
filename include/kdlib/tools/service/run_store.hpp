// SPDX-License-Identifier: Apache-2.0
// All runs of the service: their records on disk, the queue, and the processes.
#ifndef KDLIB_TOOLS_SERVICE_RUN_STORE_HPP
#define KDLIB_TOOLS_SERVICE_RUN_STORE_HPP

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kdlib/io/system_inl.hpp"
#include "kdlib/tools/service/child_process.hpp"
#include "kdlib/tools/service/metrics_tail.hpp"
#include "kdlib/tools/service/run_queue.hpp"
#include "kdlib/tools/service/run_record.hpp"
#include "kdlib/tools/service/service_settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// What a run is doing at present, read from the run's --status-file, or else from its log and its metrics.
struct RunPhase {
  std::string name;                  // waiting, checking, loading, writing, measuring, training, finishing or ended
  std::int64_t done = 0, total = 0;  // progress: texts in the phase writing, else steps; total 0: unknown
  std::int64_t step = 0;             // last step in metrics.jsonl
};

/// Memory in bytes; 0: unknown.
struct RunMemory {
  double resident = 0, peak = 0;    // of the process of the run
  double available = 0, limit = 0;  // of the machine or the container
};

/// The runs in one folder. A lock ensures that only one service uses the folder. Everything that must outlive the
/// service is in files: a new service reads these files, takes over the runs that are still active, and records how the
/// others ended.
class RunStore {
 public:
  /// IoError: the folder cannot be made, or another service uses it.
  explicit RunStore(const ServiceSettings& settings);

  /// Checks the processes of active runs and starts the runs that may start. `now` is in seconds of a clock that never
  /// goes back.
  void tick(double now);

  const RunRecord* find(const std::string& id) const;
  /// Returns the record of a run. ServiceProblem 404: there is no such run.
  const RunRecord& get(const std::string& id) const;
  std::vector<const RunRecord*> newest_first() const;
  /// Returns the run that an earlier request with this idempotency key made, or nullptr.
  const RunRecord* find_key(const std::string& key) const;

  /// Makes the folder and the record of a run and puts the run into the queue. ServiceProblem 409: the name is already
  /// used; 429: the queue is full; 507: there is too little room on the disk, or the record cannot be written.
  const RunRecord& create(RunRecord record);
  /// Asks a run to save and stop. After the time ServiceSettings::stop_grace the run is killed; with `force` it is
  /// killed at once. Repeated calls change nothing, but a later call may add `force`.
  void stop(const std::string& id, bool force, double now);
  /// Queues a stopped, interrupted or failed run again. `extra_arguments` replace earlier arguments with the same
  /// flags. ServiceProblem 409: the run is in another state; 429: the queue is full.
  void resume(const std::string& id, const std::vector<std::string>& extra_arguments);
  /// Moves a run to runs/.trash. ServiceProblem 409: the run is queued or active.
  void remove(const std::string& id);

  MetricsTail& tail(const std::string& id);
  RunPhase phase(const std::string& id);
  std::size_t queue_position(const std::string& id) const { return queue_.position(id); }
  /// Returns a number that grows with each change of the record.
  std::uint64_t version(const std::string& id) const;
  /// Sets whether runs get a --status-file, which this distil must support.
  void give_status_files(bool give) { gives_status_ = give; }
  /// Returns the memory of the run's process and of the machine; nothing if the run has no process.
  std::optional<RunMemory> memory(const std::string& id) const;
  const RunQueue& queue() const { return queue_; }

  std::string folder(const std::string& id) const;
  std::string log_path(const std::string& id) const;
  /// Returns the real path of the folder of runs.
  const std::string& runs() const { return runs_; }

 private:
  struct Entry {
    RunRecord record;
    std::uint64_t version = 0;
    double stop_deadline = 0;
    bool signalled = false;
    bool unsaved = false;  // true: the record could not be written, so that the file on the disk is older
    double save_again = 0;
    std::unique_ptr<MetricsTail> tail{};
  };
  Entry& entry(const std::string& id);
  std::string service_file(const std::string& id, const char* ending) const;
  KeeperFiles files(const std::string& id) const;
  /// Writes the record. If this fails (a full disk), returns false; the state stays in memory and is written later.
  bool save(Entry& e);
  void save_later(Entry& e, double now);
  void load();
  void take_over(Entry& e);
  void start(Entry& e);
  void look_after(Entry& e, double now);
  void end(Entry& e);
  std::string free_id() const;

  const ServiceSettings& settings_;
  std::string runs_;
  detail::FileDescriptor lock_;
  std::vector<std::unique_ptr<Entry>> entries_;
  RunQueue queue_;
  std::int64_t next_order_ = 1;
  bool gives_status_ = false;
};

/// Returns the last line of a --status-file as JSON; null if there is none.
Json last_status(const std::string& path);
/// Returns the last line of a log that begins with "error:", without this word; empty if there is none.
std::string last_log_error(const std::string& log);
/// Returns the last `bytes` bytes of a file.
std::string file_end(const std::string& path, std::size_t bytes);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/run_outcome_inl.hpp"
#include "kdlib/tools/service/run_store_inl.hpp"
#endif

#endif
