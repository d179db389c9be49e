// SPDX-License-Identifier: Apache-2.0
// Bodies of run_store.hpp.
#ifndef KDLIB_TOOLS_SERVICE_RUN_STORE_INL_HPP
#define KDLIB_TOOLS_SERVICE_RUN_STORE_INL_HPP

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "kdlib/core/clock.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/machines.hpp"
#include "kdlib/text/unicode.hpp"
#include "kdlib/tools/process_start.hpp"
#include "kdlib/tools/service/message.hpp"
#include "kdlib/tools/service/metrics_tail.hpp"
#include "kdlib/tools/service/run_store.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC RunStore::RunStore(const ServiceSettings& settings)
    : settings_(settings), queue_(settings.jobs_per_device, static_cast<std::size_t>(settings.queue)) {
  make_directories(join_path(settings.runs, ".service"));
  runs_ = detail::resolved_path(settings.runs);
  const std::string lock = join_path(runs_, ".service/lock");
  lock_ = detail::open_descriptor(lock, O_RDWR | O_CREAT, 0600);
  if (!lock_) detail::fail_io("serve", lock, errno);
  require<IoError>(::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0, "[serve] another service holds ", runs_,
                   "; stop it, or use another --runs");
  load();
}

KDLIB_TOOLS_FUNC std::string RunStore::folder(const std::string& id) const { return join_path(runs_, id); }
KDLIB_TOOLS_FUNC std::string RunStore::log_path(const std::string& id) const {
  return join_path(folder(id), "log.txt");
}
KDLIB_TOOLS_FUNC std::string RunStore::service_file(const std::string& id, const char* ending) const {
  return join_path(runs_, concat(".service/", id, ending));
}
KDLIB_TOOLS_FUNC KeeperFiles RunStore::files(const std::string& id) const {
  return {log_path(id), service_file(id, ".lock"), service_file(id, ".pids"), service_file(id, ".exit")};
}

KDLIB_TOOLS_FUNC bool RunStore::save(Entry& e) {
  ++e.version;
  try {
    write_file_atomically(service_file(e.record.id, ".json"), e.record.json());
    e.unsaved = false;
  } catch (const IoError& error) {
    if (!e.unsaved) std::fprintf(stderr, "[serve] the record of %s: %s\n", e.record.id.c_str(), error.what());
    e.unsaved = true;
  }
  return !e.unsaved;
}

KDLIB_TOOLS_FUNC void RunStore::save_later(Entry& e, double now) {
  if (!e.unsaved || now < e.save_again) return;
  e.save_again = now + 1;
  save(e);
}

KDLIB_TOOLS_FUNC void RunStore::load() {
  const std::string place = join_path(runs_, ".service");
  remove_stale_temporaries(place);
  for (const std::string& name : list_directory(place)) {
    if (name.size() < 6 || name.substr(name.size() - 5) != ".json") continue;
    auto e = std::make_unique<Entry>();
    try {
      e->record = RunRecord::read(join_path(place, name));
    } catch (const Error& error) {  // one damaged record hides one run, not all of them
      std::fprintf(stderr, "[serve] a run is left out: %s\n", error.what());
      continue;
    }
    entries_.push_back(std::move(e));
  }
  std::sort(entries_.begin(), entries_.end(),
            [](const auto& a, const auto& b) { return a->record.order < b->record.order; });
  for (const auto& e : entries_) {
    next_order_ = std::max(next_order_, e->record.order + 1);
    take_over(*e);
  }
}

KDLIB_TOOLS_FUNC void RunStore::take_over(Entry& e) {
  RunRecord& r = e.record;
  if (r.state == RunState::queued && is_kept(files(r.id).lock)) {  // started, but that could not be written
    r.state = RunState::running;
    queue_.adopt(r.id, r.device);
    save(e);
  } else if (r.state == RunState::queued) {
    if (!queue_.add(r.id, r.device)) {
      r.state = RunState::interrupted;
      r.detail = "the queue is shorter than before the restart";
      save(e);
    }
  } else if (is_active(r.state)) {
    if (is_kept(files(r.id).lock)) queue_.adopt(r.id, r.device);
    else end(e);
  }
}

KDLIB_TOOLS_FUNC RunStore::Entry& RunStore::entry(const std::string& id) {
  for (const auto& e : entries_)
    if (e->record.id == id) return *e;
  throw ServiceProblem(404, "there is no run '" + replace_invalid_utf8(id) + "'", {{"run_id", "is no run"}});
}
KDLIB_TOOLS_FUNC const RunRecord* RunStore::find(const std::string& id) const {
  for (const auto& e : entries_)
    if (e->record.id == id) return &e->record;
  return nullptr;
}
KDLIB_TOOLS_FUNC const RunRecord& RunStore::get(const std::string& id) const {
  return const_cast<RunStore*>(this)->entry(id).record;
}
KDLIB_TOOLS_FUNC std::uint64_t RunStore::version(const std::string& id) const {
  return const_cast<RunStore*>(this)->entry(id).version;
}
KDLIB_TOOLS_FUNC std::vector<const RunRecord*> RunStore::newest_first() const {
  std::vector<const RunRecord*> out;
  for (const auto& e : entries_) out.push_back(&e->record);
  std::sort(out.begin(), out.end(), [](const RunRecord* a, const RunRecord* b) { return a->order > b->order; });
  return out;
}
KDLIB_TOOLS_FUNC const RunRecord* RunStore::find_key(const std::string& key) const {
  for (const auto& e : entries_)
    if (!key.empty() && e->record.idempotency_key == key) return &e->record;
  return nullptr;
}

KDLIB_TOOLS_FUNC std::string RunStore::free_id() const {
  const time_t now = static_cast<time_t>(now_seconds());
  struct tm parts {};
  ::gmtime_r(&now, &parts);
  char text[32];
  ::strftime(text, sizeof text, "distil_%Y%m%d_%H%M%S", &parts);
  std::string id = text;
  for (int n = 2; find(id) != nullptr || path_exists(folder(id)); ++n) id = concat(text, "_", n);
  return id;
}

KDLIB_TOOLS_FUNC const RunRecord& RunStore::create(RunRecord record) {
  if (queue_.is_full())
    throw ServiceProblem(429,
                         concat("the queue is full: ", queue_.waiting(), " runs wait; try again when one has ended"));
  if (free_disk(runs_) < 64e6)
    throw ServiceProblem(507, "less than 64 MB are free in " + runs_ + "; a run needs room for its checkpoints");
  if (record.id.empty()) record.id = free_id();
  if (find(record.id) != nullptr || ::mkdir(folder(record.id).c_str(), 0777) != 0) {
    if (find(record.id) == nullptr && errno != EEXIST) detail::fail_io("serve", folder(record.id), errno);
    throw ServiceProblem(409, "a run or folder '" + record.id + "' is there already", {{"run_id", "is taken"}});
  }
  auto e = std::make_unique<Entry>();
  e->record = std::move(record);
  e->record.created = now_seconds();
  e->record.order = next_order_++;
  e->record.state = RunState::queued;
  entries_.push_back(std::move(e));
  if (!save(*entries_.back())) {
    const std::string place = folder(entries_.back()->record.id);
    entries_.pop_back();
    remove_tree(place);
    throw ServiceProblem(507, "the record of the run cannot be written to " + runs_ + "; is the disk full?");
  }
  const RunRecord& made = entries_.back()->record;
  queue_.add(made.id, made.device);
  return made;
}

KDLIB_TOOLS_FUNC void RunStore::start(Entry& e) {
  RunRecord& r = e.record;
  for (const char* ending : {".exit", ".status"}) remove_tree(service_file(r.id, ending));  // of the attempt before
  r.state = RunState::starting;
  r.started = now_seconds();
  r.ended = 0;
  r.boot = boot_id();
  r.reason.clear(), r.detail.clear();
  r.stop_asked = r.force_asked = e.signalled = false;
  ++r.attempts;
  try {
    require<IoError>(save(e), "[serve] the record of ", r.id, " cannot be written; is the disk full?");
    KeeperOrder order{settings_.self, join_path(settings_.programs, "distil"), r.arguments, files(r.id),
                      settings_.memory_floor};
    order.arguments.insert(order.arguments.begin(), {"--out=" + folder(r.id), "--resume=auto"});
    if (gives_status_) order.arguments.push_back("--status-file=" + service_file(r.id, ".status"));
    start_keeper(order);
    r.state = RunState::running;
  } catch (const Error& error) {
    queue_.remove(r.id);
    r.state = RunState::failed;
    r.reason = "error";
    r.detail = error.what();
    r.ended = now_seconds();
  }
  save(e);
}

KDLIB_TOOLS_FUNC void RunStore::tick(double now) {
  for (const auto& e : entries_) {
    if (is_active(e->record.state)) look_after(*e, now);
    save_later(*e, now);
  }
  for (std::string id; !(id = queue_.start_next()).empty();) start(entry(id));
}

KDLIB_TOOLS_FUNC void RunStore::look_after(Entry& e, double now) {
  RunRecord& r = e.record;
  const KeeperFiles f = files(r.id);
  if (!is_kept(f.lock)) return end(e);
  if (!r.stop_asked) return;
  if (e.stop_deadline == 0) e.stop_deadline = now + settings_.stop_grace;
  const bool force = r.force_asked || now > e.stop_deadline;
  if (force) {
    if (signal_kept(f, SIGKILL) == 0 && !r.force_asked) {
      r.force_asked = true;
      save(e);
    }
  } else if (!e.signalled) {
    e.signalled = signal_kept(f, SIGTERM) == 0;
  }
}

KDLIB_TOOLS_FUNC void RunStore::stop(const std::string& id, bool force, double now) {
  Entry& e = entry(id);
  RunRecord& r = e.record;
  if (r.state == RunState::queued) {
    queue_.remove(id);
    r.state = RunState::stopped;
    r.reason = "user";
    r.ended = now_seconds();
    save(e);
    return;
  }
  if (!is_active(r.state) || (r.stop_asked && (r.force_asked || !force))) return;
  r.stop_asked = true;
  r.force_asked = r.force_asked || force;
  r.state = RunState::stopping;
  save(e);
  look_after(e, now);
}

KDLIB_TOOLS_FUNC void RunStore::resume(const std::string& id, const std::vector<std::string>& extra_arguments) {
  Entry& e = entry(id);
  RunRecord& r = e.record;
  if (is_open(r.state) || r.state == RunState::completed)
    throw ServiceProblem(409,
                         concat("run ", id, " is ", run_state_name(r.state), "; only what has stopped is resumed"));
  if (queue_.is_full()) throw ServiceProblem(429, "the queue is full; try again when a run has ended");
  for (const std::string& argument : extra_arguments) {
    const std::string flag = argument.substr(0, argument.find('=') + 1);
    std::erase_if(r.arguments, [&](const std::string& a) { return a.compare(0, flag.size(), flag) == 0; });
    r.arguments.push_back(argument);
  }
  r.state = RunState::queued;
  r.order = next_order_++;
  r.ended = 0;
  r.stop_asked = r.force_asked = false;
  save(e);
  queue_.add(id, r.device);
}

KDLIB_TOOLS_FUNC void RunStore::remove(const std::string& id) {
  Entry& e = entry(id);
  if (is_open(e.record.state))
    throw ServiceProblem(409, concat("run ", id, " is ", run_state_name(e.record.state), "; stop it first"));
  const std::string trash = join_path(runs_, ".trash");
  make_directories(trash);
  std::string to = join_path(trash, id);
  for (int n = 2; path_exists(to); ++n) to = join_path(trash, concat(id, "_", n));
  if (path_exists(folder(id))) rename_path(folder(id), to);
  for (const char* ending : {".json", ".lock", ".pids", ".exit", ".reserve", ".status"})
    remove_tree(service_file(id, ending));
  std::erase_if(entries_, [&](const auto& other) { return other.get() == &e; });
}

KDLIB_TOOLS_FUNC MetricsTail& RunStore::tail(const std::string& id) {
  Entry& e = entry(id);
  if (!e.tail) {
    std::size_t open = 0;  // memory: the tails of a few runs
    for (const auto& other : entries_) open += other->tail != nullptr;
    for (const auto& other : entries_)
      if (open > 32 && other->tail != nullptr && !is_open(other->record.state)) other->tail.reset(), --open;
    e.tail = std::make_unique<MetricsTail>(join_path(folder(id), "metrics.jsonl"));
  }
  e.tail->refresh();
  return *e.tail;
}

KDLIB_NAMESPACE_END

#endif
