// SPDX-License-Identifier: Apache-2.0
// All runs of the service: records on disk, the queue, the processes behind them.
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

/// What a run is doing: what its --status-file says, else what its log and its metrics tell.
struct RunPhase {
  std::string name;                  // waiting, checking, loading, writing, measuring, training, finishing, ended
  std::int64_t done = 0, total = 0;  // of the phase: texts that are written, else steps; total 0: not known
  std::int64_t step = 0;             // the last one in metrics.jsonl
};

/// Memory in bytes; 0: not known.
struct RunMemory {
  double resident = 0, peak = 0;    // of the run's process
  double available = 0, limit = 0;  // of the machine or the container
};

/// One service owns a folder of runs (a lock). Everything that must outlive it is in files: a new service reads them,
/// takes over what still runs, and names the end of what does not.
class RunStore {
 public:
  /// IoError: the folder cannot be made, or another service holds it.
  explicit RunStore(const ServiceSettings& settings);

  /// Looks after processes and starts what may start. `now`: seconds of a steady clock.
  void tick(double now);

  const RunRecord* find(const std::string& id) const;
  /// ServiceProblem 404 without such a run.
  const RunRecord& get(const std::string& id) const;
  std::vector<const RunRecord*> newest_first() const;
  /// The run that an earlier request with that key made.
  const RunRecord* find_key(const std::string& key) const;

  /// Makes folder and record and puts the run into the queue. ServiceProblem 409: the name is taken; 429: the queue is
  /// full; 507: not enough room on the disk, or the record cannot be written.
  const RunRecord& create(RunRecord record);
  /// Asks a run to save and stop, by force at once or after the grace. Repeated calls change nothing.
  void stop(const std::string& id, bool force, double now);
  /// Queues a stopped, interrupted or failed run again; 409 for others.
  void resume(const std::string& id, const std::vector<std::string>& extra_arguments);
  /// Moves a run to runs/.trash; 409 while it is open.
  void remove(const std::string& id);

  MetricsTail& tail(const std::string& id);
  RunPhase phase(const std::string& id);
  std::size_t queue_position(const std::string& id) const { return queue_.position(id); }
  /// Goes up with each change of the record.
  std::uint64_t version(const std::string& id) const;
  /// Whether runs are given a --status-file (this distil has it).
  void give_status_files(bool give) { gives_status_ = give; }
  /// Memory of the run's process and of the machine; nothing where no process is there.
  std::optional<RunMemory> memory(const std::string& id) const;
  const RunQueue& queue() const { return queue_; }

  std::string folder(const std::string& id) const;
  std::string log_path(const std::string& id) const;
  /// Runs end up in the folder of runs, by its real path.
  const std::string& runs() const { return runs_; }

 private:
  struct Entry {
    RunRecord record;
    std::uint64_t version = 0;
    double stop_deadline = 0;
    bool signalled = false;
    bool unsaved = false;  // the record on the disk is older: it could not be written
    double save_again = 0;
    std::unique_ptr<MetricsTail> tail{};
  };
  Entry& entry(const std::string& id);
  std::string service_file(const std::string& id, const char* ending) const;
  KeeperFiles files(const std::string& id) const;
  /// Writes the record. Where that fails (a full disk), the state stays in memory and is written later.
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

/// The last line of a --status-file, as JSON; null where there is none.
Json last_status(const std::string& path);
/// The last line of a log that begins with "error:", without that word; empty where there is none.
std::string last_log_error(const std::string& log);
/// The last `bytes` of a file.
std::string file_end(const std::string& path, std::size_t bytes);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/run_outcome_inl.hpp"
#include "kdlib/tools/service/run_store_inl.hpp"
#endif

#endif
