// SPDX-License-Identifier: Apache-2.0
// Bodies of sweep_runs.hpp.
#ifndef KDLIB_TOOLS_SWEEP_RUNS_INL_HPP
#define KDLIB_TOOLS_SWEEP_RUNS_INL_HPP

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/tools/sweep_runs.hpp"
#include "kdlib/tools/yaml_settings.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

inline std::string sweep_log(const SweepPlan& plan, const SweepRun& run) {
  return join_path(join_path(plan.out, "logs"), run.name + ".log");
}

/// "1e-3" and "0.001", "on" and "true" are the same setting.
inline bool same_value(const std::string& a, const std::string& b) {
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

inline std::vector<std::string> list_elements(const FileSetting& s) {
  std::vector<std::string> out;
  for (const std::string& value : s.values) {  // config.yaml may hold a list as one text with commas
    std::size_t at = 0;
    for (std::size_t comma; (comma = value.find(',', at)) != std::string::npos; at = comma + 1)
      out.push_back(value.substr(at, comma - at));
    out.push_back(value.substr(at));
  }
  return out;
}

inline void check_same_run(const std::string& config, const SweepRun& run) {
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
      require<ConfigError>(same, "[sweep] ", config, " has ", wanted.key, ": ", text(old), ", the sweep's file has ",
                           text(wanted), ": use another `out`, or remove that folder");
    }
  }
}

/// Last line that begins with "error:".
inline std::string last_error(const std::string& log) {
  std::string found;
  if (!path_exists(log)) return found;
  for (LineReader lines(log); const auto line = lines.next();)
    if (line->rfind("error:", 0) == 0) found = std::string(*line);
  return found;
}

/// Starts a child with stdin from nowhere and both outputs in `log`; it is told to stop when this process dies.
inline pid_t start_child(const std::string& program, const std::vector<std::string>& arguments,
                         const std::string& log) {
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666),
            in = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  require<IoError>(out >= 0 && in >= 0, "[sweep] cannot write ", log, ": ", std::strerror(errno));
  std::vector<char*> words{const_cast<char*>(program.c_str())};
  for (const std::string& a : arguments) words.push_back(const_cast<char*>(a.c_str()));
  words.push_back(nullptr);
  const pid_t parent = ::getpid(), child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(143);  // it died in between
    ::setpgid(0, 0);  // an interrupt at the terminal reaches the sweep alone, which passes it on once
    ::dup2(in, 0);
    ::dup2(out, 1);
    ::dup2(out, 2);
    ::execv(program.c_str(), words.data());
    const std::string message = concat("error: cannot run ", program, ": ", std::strerror(errno), "\n");
    (void)!::write(2, message.data(), message.size());
    ::_exit(127);
  }
  ::close(out);
  ::close(in);
  require<IoError>(child > 0, "[sweep] cannot start ", program, ": ", std::strerror(errno));
  return child;
}

inline void pause_milliseconds(long milliseconds) {
  const struct timespec pause { milliseconds / 1000, milliseconds % 1000 * 1000000 };
  ::nanosleep(&pause, nullptr);
}

inline std::string ending_of(int status) {
  return WIFEXITED(status) ? concat("exit status ", WEXITSTATUS(status)) : concat("ended by signal ", WTERMSIG(status));
}

}  // namespace detail

inline SweepStatus sweep_status(const SweepPlan& plan, const SweepRun& run) {
  const std::string folder = plan.folder(run), config = join_path(folder, "config.yaml");
  if (path_exists(config)) detail::check_same_run(config, run);
  if (path_exists(join_path(folder, "result.json"))) return {SweepState::done, ""};
  const std::string error = detail::last_error(detail::sweep_log(plan, run));
  return error.empty() ? SweepStatus{} : SweepStatus{SweepState::failed, error};
}

inline std::vector<SweepStatus> run_sweep(const SweepPlan& plan, const std::vector<const SweepRun*>& runs,
                                          const SweepSettings& settings, const std::function<bool()>& stop,
                                          const std::function<void(const SweepProgress&)>& progress) {
  struct Child {
    pid_t process;
    std::size_t run;
  };
  make_directories(join_path(plan.out, "logs"));
  std::vector<SweepStatus> out(runs.size());
  std::vector<Child> children;
  SweepProgress now;
  now.total = runs.size();
  const auto start = std::chrono::steady_clock::now();
  const auto report = [&] {
    now.running.clear();
    for (const Child& c : children) now.running.push_back(runs[c.run]->name);
    now.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    progress(now);
  };
  bool stopping = false;
  for (std::size_t next = 0; next < runs.size() || !children.empty();) {
    if (!stopping && stop()) {
      stopping = true;
      for (const Child& c : children) ::kill(c.process, SIGTERM);
    }
    if (stopping) next = runs.size();
    bool changed = false;
    while (next < runs.size() && children.size() < static_cast<std::size_t>(settings.jobs)) {
      std::vector<std::string> arguments = sweep_arguments(plan, *runs[next]);
      const auto& given = runs[next]->settings;
      const bool own = std::any_of(given.begin(), given.end(), [](const FileSetting& s) { return s.key == "threads"; });
      if (settings.threads > 0 && !own) arguments.push_back(concat("--threads=", settings.threads));
      children.push_back(
          {detail::start_child(settings.program, arguments, detail::sweep_log(plan, *runs[next])), next});
      ++next;
      changed = true;
    }
    for (std::size_t c = 0; c < children.size();) {
      int status = 0;
      if (::waitpid(children[c].process, &status, WNOHANG) != children[c].process) {
        ++c;
        continue;
      }
      SweepStatus& result = out[children[c].run];
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0) result.state = SweepState::done;
      else if (!stopping)
        result = {SweepState::failed, detail::last_error(detail::sweep_log(plan, *runs[children[c].run]))};
      if (result.state == SweepState::failed && result.error.empty()) {
        result.error = "error: " + detail::ending_of(status);
        AppendFile log(detail::sweep_log(plan, *runs[children[c].run]));
        log.write_line(result.error);  // so that a later look at the folder finds it
        log.flush();
      }
      now.finished += result.state == SweepState::done;
      now.failed += result.state == SweepState::failed;
      children.erase(children.begin() + static_cast<std::ptrdiff_t>(c));
      changed = true;
    }
    const double since = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (changed || since - now.seconds > 1) report();
    if (!changed) detail::pause_milliseconds(20);
  }
  return out;
}

inline ChildOutput run_child(const std::string& program, const std::vector<std::string>& arguments,
                             const std::string& log) {
  const pid_t child = detail::start_child(program, arguments, log);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    require<IoError>(errno == EINTR, "[sweep] lost the process of ", program, ": ", std::strerror(errno));
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(log)};
}

KDLIB_NAMESPACE_END

#endif
