// SPDX-License-Identifier: Apache-2.0
// Bodies of run_store.hpp: what a run is doing, and how it ended.
#ifndef KDLIB_TOOLS_SERVICE_RUN_OUTCOME_INL_HPP
#define KDLIB_TOOLS_SERVICE_RUN_OUTCOME_INL_HPP

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "kdlib/core/clock.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/machines.hpp"
#include "kdlib/text/unicode.hpp"
#include "kdlib/tools/process_start.hpp"
#include "kdlib/tools/service/metrics_tail.hpp"
#include "kdlib/tools/service/run_store.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC std::string file_end(const std::string& path, std::size_t bytes) {
  const detail::FileDescriptor fd = detail::open_descriptor(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) return {};
  const std::uint64_t size = static_cast<std::uint64_t>(status.st_size);
  return detail::read_range(fd.get(), size > bytes ? size - bytes : 0, size);
}

KDLIB_TOOLS_FUNC std::string last_log_error(const std::string& log) {
  const std::string text = "\n" + file_end(log, 1 << 16);
  const std::size_t at = text.rfind("\nerror: ");
  if (at == std::string::npos) return {};
  const std::size_t begin = at + 8;
  return text.substr(begin, text.find('\n', begin) - begin);
}

KDLIB_TOOLS_FUNC Json last_status(const std::string& path) {
  std::string text = file_end(path, 1 << 14);
  while (!text.empty()) {
    const std::size_t end = text.rfind('\n');  // what follows is half a line
    if (end == std::string::npos) break;
    const std::size_t before = end == 0 ? std::string::npos : text.rfind('\n', end - 1);
    const std::size_t begin = before == std::string::npos ? 0 : before + 1;
    try {
      return Json::parse(text.substr(begin, end - begin), path);
    } catch (const FormatError&) {
      text.resize(begin);
    }
  }
  return {};
}

namespace detail {
/// What a run that has ended by itself left to read about why.
struct RunEnd {
  std::string sentence;
  bool disk_full = false, out_of_memory = false;
};

KDLIB_TOOLS_FUNC RunEnd end_told(const std::string& log, const std::string& status_file, const std::string& runs) {
  RunEnd out;
  out.sentence = last_log_error(log);
  const Json status = last_status(status_file);
  const std::string type = status.is_object() ? status.string_or("error", "") : std::string();
  if (!type.empty()) out.sentence = status.string_or("message", out.sentence);
  const auto says = [&](const char* words) { return out.sentence.find(words) != std::string::npos; };
  const std::int64_t number = type.empty() ? 0 : status.int_or("errno", 0);
  out.disk_full = number == ENOSPC || number == EDQUOT || says("No space left") || says("quota");
  // On a full disk the reason itself may not have found room.
  out.disk_full = out.disk_full || (out.sentence.empty() && free_disk(runs) < 256e3);
  out.out_of_memory = type == "bad_alloc" || number == ENOMEM || says("bad_alloc") || says("memory");
  return out;
}
}  // namespace detail

KDLIB_TOOLS_FUNC void RunStore::end(Entry& e) {
  RunRecord& r = e.record;
  const KeeperFiles f = files(r.id);
  queue_.remove(r.id);
  r.ended = now_seconds();
  e.stop_deadline = 0;
  const auto exit = read_keeper_exit(f.exit);
  const detail::RunEnd told = detail::end_told(f.log, service_file(r.id, ".status"), runs_);
  const auto says = [&](RunState state, const char* reason, const std::string& detail) {
    r.state = state, r.reason = reason, r.detail = replace_invalid_utf8(detail);
    save(e);
  };
  const std::string go_on = "; resume it: it goes on from its last checkpoint";
  if (!exit && path_exists(join_path(folder(r.id), "result.json")) &&
      path_exists(join_path(folder(r.id), "report.html")))
    return says(RunState::completed, "", "");
  if (!exit) {
    if (r.boot != boot_id()) return says(RunState::interrupted, "host_restart", "the machine was restarted" + go_on);
    if (told.disk_full) return says(RunState::failed, "disk_full", "the disk is full" + go_on);
    return says(RunState::interrupted, "killed", "the run and its keeper vanished" + go_on);
  }
  if (exit->status == 0) return says(RunState::completed, "", "");
  if (exit->status == low_memory_status || (exit->memory_floor && (exit->status == 143 || exit->signal != 0)))
    return says(RunState::stopped, "out_of_memory",
                "memory ran short, so that the run was asked to save and stop; resume it with half the batch and twice "
                "the micro-batches: the gradient is the same");
  if (r.stop_asked && (exit->status == 143 || exit->status == 130)) return says(RunState::stopped, "user", "");
  if (exit->signal != 0 && r.stop_asked) return says(RunState::stopped, "user", "ended by force" + go_on);
  if (exit->out_of_memory)
    return says(RunState::failed, "out_of_memory",
                "the system killed the run for its memory; resume it with half the batch");
  if (exit->signal != 0) return says(RunState::failed, "killed", concat("ended by signal ", exit->signal, go_on));
  if (exit->status == 143 || exit->status == 130)
    return says(RunState::stopped, "user", concat("asked to stop from outside of the service", go_on));
  std::string sentence = told.sentence;
  if (sentence.empty() && told.disk_full) sentence = "the disk is full" + go_on;
  if (sentence.empty()) sentence = concat("exit status ", exit->status, "; its log says more");
  const char* reason = told.disk_full ? "disk_full" : told.out_of_memory ? "out_of_memory" : "error";
  says(RunState::failed, reason, sentence);
}

namespace detail {
/// What a log without a --status-file beside it says of the time before the first step.
KDLIB_TOOLS_FUNC const char* phase_of_log(const std::string& log) {
  const auto last = [&](const char* words) { return static_cast<std::ptrdiff_t>(log.rfind(words)); };
  const std::ptrdiff_t writing = last("writes"), measuring = last("measuring");
  return writing < 0 && measuring < 0 ? "loading" : writing > measuring ? "writing" : "measuring";
}
}  // namespace detail

KDLIB_TOOLS_FUNC RunPhase RunStore::phase(const std::string& id) {
  const RunRecord& r = get(id);
  RunPhase out{"ended", 0, r.total_steps, 0};
  MetricsTail& metrics = tail(id);
  if (metrics.size() > 0) out.step = std::max<std::int64_t>(0, metrics.step(metrics.size() - 1));
  out.done = out.step;
  if (r.state == RunState::queued) out.name = "waiting";
  if (!is_active(r.state)) return out;
  const Json status = last_status(service_file(id, ".status"));
  if (status.is_object() && status.contains("phase")) {
    out.name = status.string_or("phase", "");
    if (const std::int64_t total = status.int_or("total", 0); total > 0 && out.name == "writing")
      out.done = status.int_or("done", 0), out.total = total;
    return out;
  }
  const bool finished = out.step >= r.total_steps && r.total_steps > 0;
  out.name = finished ? "finishing" : out.step > 0 ? "training" : detail::phase_of_log(file_end(log_path(id), 4096));
  return out;
}

KDLIB_TOOLS_FUNC std::optional<RunMemory> RunStore::memory(const std::string& id) const {
  if (!is_active(get(id).state)) return std::nullopt;
  const long child = kept_child(files(id));
  if (child <= 0) return std::nullopt;
  RunMemory out;
  const std::string status = concat("/proc/", child, "/status");
  out.resident = std::max(0.0, 1024 * detail::kernel_number(status.c_str(), "VmRSS:"));
  out.peak = std::max(0.0, 1024 * detail::kernel_number(status.c_str(), "VmHWM:"));
  out.available = std::max(0.0, 1024 * detail::kernel_number("/proc/meminfo", "MemAvailable:"));
  out.limit = std::max(0.0, detail::kernel_number("/sys/fs/cgroup/memory.max", ""));
  return out;
}

KDLIB_NAMESPACE_END

#endif
