// SPDX-License-Identifier: Apache-2.0
// Bodies of child_process.hpp.
#ifndef KDLIB_TOOLS_SERVICE_CHILD_PROCESS_INL_HPP
#define KDLIB_TOOLS_SERVICE_CHILD_PROCESS_INL_HPP

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/system_inl.hpp"
#include "kdlib/recipe/machines.hpp"
#include "kdlib/tools/service/child_process.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_TOOLS_FUNC double steady_seconds() {
  struct timespec now {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

KDLIB_TOOLS_FUNC std::vector<char*> exec_words(const std::string& program, const std::vector<std::string>& arguments) {
  std::vector<char*> words{const_cast<char*>(program.c_str())};
  for (const std::string& a : arguments) words.push_back(const_cast<char*>(a.c_str()));
  words.push_back(nullptr);
  return words;
}

/// Between fork and exec: usual signals, stdin from nowhere, no inherited descriptor from 3 on.
KDLIB_TOOLS_FUNC void prepare_exec(int in, int out, int error) {
  sigset_t none;
  ::sigemptyset(&none);
  for (const int number : {SIGTERM, SIGINT, SIGCHLD, SIGPIPE, SIGHUP}) ::signal(number, SIG_DFL);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::dup2(in, 0);
  ::dup2(out, 1);
  ::dup2(error, 2);
}

KDLIB_TOOLS_FUNC void read_some(struct pollfd& source, std::string& to) {
  if (source.fd < 0 || source.revents == 0) return;
  char buffer[1 << 14];
  const ssize_t n = ::read(source.fd, buffer, sizeof buffer);
  if (n > 0 && to.size() < (std::size_t{16} << 20)) to.append(buffer, static_cast<std::size_t>(n));
  if (n == 0 || (n < 0 && errno != EINTR)) source.fd = -1;
}

/// The 22nd field of /proc/PID/stat: when the process began, in ticks since the machine's start. Empty: no process, or
/// one that has ended and that its parent has not asked about yet.
KDLIB_TOOLS_FUNC std::string process_start(long pid) {
  const std::string fields = process_fields(pid);
  if (fields.size() < 2 || fields[1] == 'Z' || fields[1] == 'X') return {};
  std::size_t at = 0;
  for (int field = 3; field < 22 && at != std::string::npos; ++field) at = fields.find(' ', at + 1);
  return at == std::string::npos ? std::string() : fields.substr(at + 1, fields.find(' ', at + 1) - at - 1);
}

KDLIB_TOOLS_FUNC double oom_kills() { return kernel_number("/sys/fs/cgroup/memory.events", "oom_kill "); }

}  // namespace detail

KDLIB_TOOLS_FUNC std::string boot_id() {
  try {
    std::string id(36, '\0');
    const detail::FileDescriptor fd = detail::open_descriptor("/proc/sys/kernel/random/boot_id", O_RDONLY);
    return fd && ::read(fd.get(), id.data(), id.size()) == 36 ? id : std::string("unknown");
  } catch (const Error&) {
    return "unknown";
  }
}

KDLIB_TOOLS_FUNC CapturedChild run_captured(const std::string& program, const std::vector<std::string>& arguments,
                                            double seconds, const std::string& input) {
  int out[2], error[2];
  require<IoError>(::pipe2(out, O_CLOEXEC) == 0 && ::pipe2(error, O_CLOEXEC) == 0,
                   "[serve] no pipe: ", std::strerror(errno));
  const detail::FileDescriptor out_end(out[0]), error_end(error[0]);
  const detail::FileDescriptor in = detail::open_descriptor(input, O_RDONLY);
  if (!in) detail::fail_io("serve", input, errno);
  std::vector<char*> words = detail::exec_words(program, arguments);
  const pid_t child = ::fork();
  if (child == 0) {
    detail::prepare_exec(in.get(), out[1], error[1]);
    ::execv(program.c_str(), words.data());
    ::_exit(127);
  }
  ::close(out[1]);
  ::close(error[1]);
  require<IoError>(child > 0, "[serve] cannot start ", program, ": ", std::strerror(errno));
  CapturedChild result;
  struct pollfd sources[2] = {{out[0], POLLIN, 0}, {error[0], POLLIN, 0}};
  const double end = detail::steady_seconds() + seconds;
  while (sources[0].fd >= 0 || sources[1].fd >= 0) {
    const double left = end - detail::steady_seconds();
    if (left <= 0 && !result.timed_out) {
      result.timed_out = true;
      ::kill(child, SIGKILL);
    }
    sources[0].revents = sources[1].revents = 0;
    ::poll(sources, 2, left > 0 ? static_cast<int>(left * 1000) + 1 : 1000);
    detail::read_some(sources[0], result.out);
    detail::read_some(sources[1], result.error);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && !result.timed_out) result.status = WEXITSTATUS(status);
  require<IoError>(result.status != 127, "[serve] ", program,
                   " cannot be run; give the folder of the programs by --bin");
  return result;
}

KDLIB_TOOLS_FUNC void start_keeper(const KeeperOrder& order) {
  std::vector<std::string> words{
      "keep", order.files.log, order.files.pids, order.files.exit, std::to_string(order.memory_floor), order.program};
  words.insert(words.end(), order.arguments.begin(), order.arguments.end());
  std::vector<char*> argv = detail::exec_words(order.self, words);
  const detail::FileDescriptor null = detail::open_descriptor("/dev/null", O_RDWR);
  // The lock belongs to the open file, which the keeper inherits: whoever looks at it sees it held from now on.
  const detail::FileDescriptor lock = detail::open_descriptor(order.files.lock, O_RDWR | O_CREAT, 0600);
  if (!lock) detail::fail_io("serve", order.files.lock, errno);
  require<IoError>(::flock(lock.get(), LOCK_EX | LOCK_NB) == 0, "[serve] another keeper holds ", order.files.lock);
  int ready[2];  // the keeper writes here once the program runs
  require<IoError>(::pipe2(ready, O_CLOEXEC) == 0, "[serve] no pipe: ", std::strerror(errno));
  const detail::FileDescriptor answer(ready[0]);
  const pid_t child = ::fork();
  if (child == 0) {
    ::setsid();
    if (::fork() != 0) ::_exit(0);  // nobody's child: it is not waited for
    detail::prepare_exec(null.get(), null.get(), null.get());
    const int pipe = ::fcntl(ready[1], F_DUPFD, 10), held = ::fcntl(lock.get(), F_DUPFD, 10);
    ::dup2(pipe, 3);
    ::dup2(held, 4);
    for (int fd = 5; fd < 1024; ++fd) ::close(fd);
    ::execv(order.self.c_str(), argv.data());
    ::_exit(127);
  }
  ::close(ready[1]);
  require<IoError>(child > 0, "[serve] cannot start the keeper of a run: ", std::strerror(errno));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  char word = 0;
  ssize_t n = 0;
  do n = ::read(answer.get(), &word, 1);
  while (n < 0 && errno == EINTR);
  require<IoError>(n == 1 && word == 'k', "[serve] the keeper of the run did not start; can ", order.files.log,
                   " and the files beside ", order.files.pids, " be written?");
}

KDLIB_TOOLS_FUNC bool is_kept(const std::string& lock) {
  const detail::FileDescriptor fd = detail::open_descriptor(lock, O_RDONLY);
  if (!fd) return false;
  return ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

KDLIB_TOOLS_FUNC long kept_child(const KeeperFiles& files) {
  try {
    if (!path_exists(files.pids)) return 0;
    const Json pids = Json::parse(read_file(files.pids, 4096), files.pids);
    const long child = static_cast<long>(pids.at("child").as_int());
    return child > 1 && detail::process_start(child) == pids.at("child_start").as_string() ? child : 0;
  } catch (const Error&) {  // damaged: nothing is known of the process
    return 0;
  }
}

KDLIB_TOOLS_FUNC int signal_kept(const KeeperFiles& files, int number) {
  const long child = kept_child(files);
  if (child == 0) return ESRCH;
  return ::kill(static_cast<pid_t>(child), number) == 0 ? 0 : errno;
}

KDLIB_TOOLS_FUNC std::optional<KeeperExit> read_keeper_exit(const std::string& path) {
  if (!path_exists(path)) return std::nullopt;
  try {
    const Json json = Json::parse(read_file(path, 4096), path);
    KeeperExit out;
    out.status = static_cast<int>(json.at("status").as_int());
    out.signal = static_cast<int>(json.at("signal").as_int());
    out.out_of_memory = json.bool_or("out_of_memory", false);
    out.memory_floor = json.bool_or("memory_floor", false);
    return out;
  } catch (const Error&) {  // damaged: as if it were not there
    return std::nullopt;
  }
}

namespace detail {

/// Waits for the child; asks it to stop once where memory runs short.
KDLIB_TOOLS_FUNC KeeperExit wait_kept(pid_t child, double floor) {
  KeeperExit out;
  const double kills_before = oom_kills();
  int status = 0;
  for (;;) {
    const pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child || (ended < 0 && errno != EINTR)) break;
    if (!out.memory_floor && floor > 0 && free_memory_share() < floor) {
      out.memory_floor = true;
      ::kill(child, SIGTERM);
    }
    sigset_t waited;
    ::sigemptyset(&waited);
    ::sigaddset(&waited, SIGCHLD);
    const struct timespec second { 1, 0 };
    ::sigtimedwait(&waited, nullptr, &second);
  }
  if (WIFEXITED(status)) out.status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) out.signal = WTERMSIG(status);
  out.out_of_memory = out.signal == SIGKILL && oom_kills() > kills_before && kills_before >= 0;
  return out;
}

KDLIB_TOOLS_FUNC void write_pids(const char* path, pid_t child) {
  JsonWriter json;
  json.begin_object().member("keeper", static_cast<std::int64_t>(::getpid()));
  json.member("keeper_start", process_start(::getpid())).member("child", static_cast<std::int64_t>(child));
  json.member("child_start", process_start(child)).member("boot", boot_id()).end_object();
  write_file_atomically(path, json.text());
}

KDLIB_TOOLS_FUNC void mark_for_oom() {
  const FileDescriptor fd = open_descriptor("/proc/self/oom_score_adj", O_WRONLY);
  if (fd) static_cast<void>(!::write(fd.get(), "500", 3));
}

/// Room for the end of a run: a file whose bytes are overwritten in place, which a full disk allows.
constexpr std::size_t exit_room = 512;

KDLIB_TOOLS_FUNC std::string reserve_path(std::string exit_file) {
  const std::size_t dot = exit_file.rfind(".exit");
  return exit_file.replace(dot == std::string::npos ? exit_file.size() : dot, 5, ".reserve");
}

KDLIB_TOOLS_FUNC bool write_block(int fd, std::string text) {
  text.resize(exit_room, '\n');
  return fd >= 0 && ::pwrite(fd, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()) && ::fsync(fd) == 0;
}

KDLIB_TOOLS_FUNC void write_exit(int reserved, const std::string& exit_file, const KeeperExit& end) {
  JsonWriter json;
  json.begin_object().member("status", end.status).member("signal", end.signal);
  json.member("out_of_memory", end.out_of_memory).member("memory_floor", end.memory_floor).end_object();
  if (write_block(reserved, json.text()) && ::rename(reserve_path(exit_file).c_str(), exit_file.c_str()) == 0) return;
  write_file_atomically(exit_file, json.text());
}

/// The program of a run, with the keeper's lock and the log as its output.
KDLIB_TOOLS_FUNC void become_program(char** words, int in, int out) {
  mark_for_oom();
  prepare_exec(in, out, out);
  ::close(3);
  ::execv(words[0], words);
  const std::string message = concat("error: cannot run ", words[0], ": ", std::strerror(errno), "\n");
  static_cast<void>(!::write(2, message.data(), message.size()));
  ::_exit(127);
}

}  // namespace detail

KDLIB_TOOLS_FUNC int keep_run(int argc, char** argv) {
  if (argc < 7) return 2;
  const char *log = argv[2], *pids = argv[3], *exit_file = argv[4];
  ::signal(SIGTERM, SIG_IGN);
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGHUP, SIG_IGN);
  sigset_t blocked;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &blocked, nullptr);
  // Both the keeper and the program hold the lock of descriptor 4: no CLOEXEC.
  if (::flock(4, LOCK_EX | LOCK_NB) != 0) return 1;
  ::unlink(exit_file);
  ::unlink(pids);
  const int out = ::open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666);
  const int in = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  const std::string room = detail::reserve_path(exit_file);
  const int reserved = ::open(room.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (out < 0 || !detail::write_block(reserved, "")) return 1;
  const pid_t child = ::fork();
  if (child == 0) detail::become_program(argv + 6, in, out);
  if (child < 0) return 1;
  try {
    detail::write_pids(pids, child);
  } catch (const Error&) {  // a program that nobody could stop must not run
    ::kill(child, SIGKILL);
    return 1;
  }
  static_cast<void>(!::write(3, "k", 1));
  ::close(3);
  detail::write_exit(reserved, exit_file, detail::wait_kept(child, std::strtod(argv[5], nullptr)));
  return 0;
}

KDLIB_NAMESPACE_END

#endif
