// SPDX-License-Identifier: Apache-2.0
// Bodies of sweep_runs.hpp.
#ifndef KDLIB_TOOLS_SWEEP_RUNS_INL_HPP
#define KDLIB_TOOLS_SWEEP_RUNS_INL_HPP

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/system_inl.hpp"
#include "kdlib/tools/sweep_runs.hpp"
#include "kdlib/tools/yaml_settings.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_TOOLS_FUNC std::string sweep_log(const SweepPlan& plan, const SweepRun& run) {
  return join_path(join_path(plan.out, "logs"), run.name + ".log");
}

/// "1e-3" and "0.001", "on" and "true" are the same setting.
KDLIB_TOOLS_FUNC bool same_value(const std::string& a, const std::string& b) {
  if (a == b) return true;
  const auto truth = [](const std::string& s) {
    return s == "on" || s == "true" || s == "yes" ? 1 : s == "off" || s == "false" || s == "no" ? 0 : -1;
  };
  if (truth(a) >= 0 && truth(a) == truth(b)) return true;
  char *end_a = nullptr, *end_b = nullptr;
  const double x = std::strtod(a.c_str(), &end_a), y = std::strtod(b.c_str(), &end_b);
  return *end_a == 0 && *end_b == 0 && end_a != a.c_str() && end_b != b.c_str() &&
         static_cast<float>(x) == static_cast<float>(y);
}

KDLIB_TOOLS_FUNC std::vector<std::string> list_elements(const FileSetting& s) {
  std::vector<std::string> out;
  for (const std::string& value : s.values) {  // config.yaml may hold a list as one text with commas
    std::size_t at = 0;
    for (std::size_t comma; (comma = value.find(',', at)) != std::string::npos; at = comma + 1)
      out.push_back(value.substr(at, comma - at));
    out.push_back(value.substr(at));
  }
  return out;
}

KDLIB_TOOLS_FUNC void check_same_run(const std::string& config, const SweepRun& run) {
  const std::vector<FileSetting> before = read_yaml_settings(config);
  for (const FileSetting& wanted : run.settings) {
    if (wanted.key == "threads" || wanted.key == "preset" || wanted.key == "config" || wanted.key == "keep" ||
        wanted.key == "save-every")
      continue;
    for (const FileSetting& old : before) {
      if (old.key != wanted.key) continue;
      const std::vector<std::string> a = list_elements(old), b = list_elements(wanted);
      bool same = a.size() == b.size();
      for (std::size_t i = 0; same && i < a.size(); ++i) same = same_value(a[i], b[i]);
      const auto text = [](const FileSetting& s) { return s.values.empty() ? std::string() : s.values[0]; };
      require<SettingsError>(same, "[sweep] ", config, " has ", wanted.key, ": ", text(old), ", the sweep's file has ",
                             text(wanted), ": use another `out`, or remove that folder");
    }
  }
}

/// Last line that begins with "error:".
KDLIB_TOOLS_FUNC std::string last_error(const std::string& log) {
  std::string found;
  if (!path_exists(log)) return found;
  for (LineReader lines(log); const auto line = lines.next();)
    if (line->rfind("error:", 0) == 0) found = std::string(*line);
  return found;
}

/// Opens the log of a run and locks it; empty where another process holds it. The lock passes to the child with its
/// outputs and lasts until that has ended.
KDLIB_TOOLS_FUNC FileDescriptor open_log(const std::string& log) {
  FileDescriptor out = open_descriptor(log, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK);
  if (!out) fail_io("sweep", log, errno);
  struct stat status {};
  require<IoError>(::fstat(out.get(), &status) == 0 && S_ISREG(status.st_mode), "[sweep] ", log,
                   ": not a regular file");
  if (::flock(out.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return {};
  if (::ftruncate(out.get(), 0) != 0) fail_io("sweep", log, errno);
  return out;
}

/// Starts a child with stdin from nowhere and both outputs in `out`; it is told to stop when this process dies.
KDLIB_TOOLS_FUNC pid_t start_child(const std::string& program, const std::vector<std::string>& arguments, int out) {
  const FileDescriptor in = open_descriptor("/dev/null", O_RDONLY);
  if (!in) fail_io("sweep", "/dev/null", errno);
  std::vector<char*> words{const_cast<char*>(program.c_str())};
  for (const std::string& a : arguments) words.push_back(const_cast<char*>(a.c_str()));
  words.push_back(nullptr);
  // Between fork and exec the child has this process's handlers: a request to end must not be lost in them.
  sigset_t stops, before;
  sigemptyset(&stops);
  sigaddset(&stops, SIGTERM);
  sigaddset(&stops, SIGINT);
  ::sigprocmask(SIG_BLOCK, &stops, &before);
  const pid_t parent = ::getpid(), child = ::fork();
  if (child == 0) {
    ::signal(SIGTERM, SIG_DFL);
    ::signal(SIGINT, SIG_DFL);
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(143);  // it died in between
    ::setpgid(0, 0);  // an interrupt at the terminal reaches the sweep alone, which passes it on once
    ::dup2(in.get(), 0);
    ::dup2(out, 1);
    ::dup2(out, 2);
    ::execv(program.c_str(), words.data());
    const std::string message = concat("error: cannot run ", program, ": ", std::strerror(errno), "\n");
    (void)!::write(2, message.data(), message.size());
    ::_exit(127);
  }
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  require<IoError>(child > 0, "[sweep] cannot start ", program, ": ", std::strerror(errno));
  return child;
}

KDLIB_TOOLS_FUNC void pause_milliseconds(long milliseconds) {
  const struct timespec pause { milliseconds / 1000, milliseconds % 1000 * 1000000 };
  ::nanosleep(&pause, nullptr);
}

KDLIB_TOOLS_FUNC std::string ending_of(int status) {
  return WIFEXITED(status) ? concat("exit status ", WEXITSTATUS(status)) : concat("ended by signal ", WTERMSIG(status));
}

/// The children of one call of run_sweep.
class SweepRunner {
 public:
  SweepRunner(const SweepPlan& plan, const std::vector<const SweepRun*>& runs, const SweepSettings& settings,
              const std::function<void(const SweepProgress&)>& progress)
      : plan_(plan), runs_(runs), settings_(settings), progress_(progress), statuses_(runs.size()) {
    for (std::size_t i = 0; i < runs.size(); ++i) waiting_.push_back({i, -1});
    now_.total = runs.size();
  }

  std::vector<SweepStatus> run(const std::function<bool()>& stop) {
    while (!waiting_.empty() || !children_.empty()) {
      if (!stopping_ && stop()) {
        stopping_ = true;
        waiting_.clear();
        for (const Child& c : children_) ::kill(c.process, SIGTERM);
      }
      const bool started = start_waiting(), ended = collect_ended();
      if (started || ended || seconds() - now_.seconds > 1) report();
      if (!started && !ended) pause_milliseconds(20);
    }
    return std::move(statuses_);
  }

 private:
  struct Child {
    pid_t process;
    std::size_t run;
  };
  struct Waiting {
    std::size_t run;
    double held_since;  // when its log was first found held; -1: not yet
  };

  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

  void report() {
    now_.running.clear();
    for (const Child& c : children_) now_.running.push_back(runs_[c.run]->name);
    now_.seconds = seconds();
    progress_(now_);
  }

  /// Starts what can be started; true where something changed.
  bool start_waiting() {
    bool changed = false;
    for (std::size_t w = 0; w < waiting_.size() && children_.size() < static_cast<std::size_t>(settings_.jobs);) {
      Waiting& next = waiting_[w];
      const FileDescriptor log = open_log(sweep_log(plan_, *runs_[next.run]));
      if (log) {
        children_.push_back({start_child(settings_.program, arguments_of(*runs_[next.run]), log.get()), next.run});
      } else {
        if (next.held_since < 0) next.held_since = seconds();
        if (seconds() - next.held_since < settings_.patience) {
          ++w;
          continue;
        }
        refuse_held(next.run);
      }
      waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(w));
      changed = true;
    }
    return changed;
  }

  void refuse_held(std::size_t run) {
    statuses_[run] = {SweepState::failed,
                      concat("error: another process still writes ", sweep_log(plan_, *runs_[run]), " after ",
                             settings_.patience, " s: wait for it to end, or end it, then --resume")};
    ++now_.failed;
  }

  std::vector<std::string> arguments_of(const SweepRun& run) const {
    std::vector<std::string> arguments = sweep_arguments(plan_, run);
    const bool own =
        std::any_of(run.settings.begin(), run.settings.end(), [](const FileSetting& s) { return s.key == "threads"; });
    if (settings_.threads > 0 && !own) arguments.push_back(concat("--threads=", settings_.threads));
    return arguments;
  }

  bool collect_ended() {
    bool changed = false;
    for (std::size_t c = 0; c < children_.size();) {
      int status = 0;
      if (::waitpid(children_[c].process, &status, WNOHANG) != children_[c].process) {
        ++c;
        continue;
      }
      take_result(children_[c].run, status);
      children_.erase(children_.begin() + static_cast<std::ptrdiff_t>(c));
      changed = true;
    }
    return changed;
  }

  void take_result(std::size_t run, int status) {
    SweepStatus& result = statuses_[run];
    const std::string log = sweep_log(plan_, *runs_[run]);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) result.state = SweepState::done;
    else if (!stopping_) result = {SweepState::failed, last_error(log)};
    if (result.state == SweepState::failed && result.error.empty()) {
      result.error = "error: " + ending_of(status);
      AppendFile file(log);
      file.write_line(result.error);  // so that a later look at the folder finds it
      file.flush();
    }
    now_.finished += result.state == SweepState::done;
    now_.failed += result.state == SweepState::failed;
  }

  const SweepPlan& plan_;
  const std::vector<const SweepRun*>& runs_;
  const SweepSettings& settings_;
  const std::function<void(const SweepProgress&)>& progress_;
  std::vector<SweepStatus> statuses_;
  std::vector<Waiting> waiting_;
  std::vector<Child> children_;
  SweepProgress now_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  bool stopping_ = false;
};

}  // namespace detail

KDLIB_TOOLS_FUNC SweepStatus sweep_status(const SweepPlan& plan, const SweepRun& run) {
  const std::string folder = plan.folder(run), config = join_path(folder, "config.yaml");
  if (path_exists(config)) detail::check_same_run(config, run);
  if (path_exists(join_path(folder, "result.json"))) return {SweepState::done, ""};
  const std::string error = detail::last_error(detail::sweep_log(plan, run));
  return error.empty() ? SweepStatus{} : SweepStatus{SweepState::failed, error};
}

KDLIB_TOOLS_FUNC std::vector<SweepStatus> run_sweep(const SweepPlan& plan, const std::vector<const SweepRun*>& runs,
                                                    const SweepSettings& settings, const std::function<bool()>& stop,
                                                    const std::function<void(const SweepProgress&)>& progress) {
  make_directories(join_path(plan.out, "logs"));
  return detail::SweepRunner(plan, runs, settings, progress).run(stop);
}

KDLIB_TOOLS_FUNC ChildOutput run_child(const std::string& program, const std::vector<std::string>& arguments,
                                       const std::function<bool()>& stop) {
  std::FILE* output = std::tmpfile();  // has no name that somebody could have taken
  require<IoError>(output != nullptr, "[sweep] no temporary file: ", std::strerror(errno));
  const pid_t child = detail::start_child(program, arguments, ::fileno(output));
  int status = 0;
  pid_t ended = 0;
  for (bool told = false; (ended = ::waitpid(child, &status, WNOHANG)) == 0; detail::pause_milliseconds(5)) {
    if (told || !stop()) continue;
    told = true;
    ::kill(child, SIGTERM);
  }
  ChildOutput out;
  char piece[4096];
  std::rewind(output);
  for (std::size_t got = 0; (got = std::fread(piece, 1, sizeof piece, output)) > 0;) out.text.append(piece, got);
  std::fclose(output);
  require<IoError>(ended == child, "[sweep] lost the process of ", program);
  out.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return out;
}

KDLIB_NAMESPACE_END

#endif
