// SPDX-License-Identifier: Apache-2.0
// serve: distillation in a browser. A page and an interface over runs of `distil`, which go on without this program.
#include <kdlib/io/atomic_file.hpp>
#include <kdlib/io/paths.hpp>

#include <kdlib/tools/options.hpp>
#include <kdlib/tools/process_start.hpp>
#include <kdlib/tools/service/child_process.hpp>
#include <kdlib/tools/service/http_server.hpp>

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "serve_teacher.hpp"
#include "service_page.hpp"  // made by CMake from web/

namespace kd = kdlib;

namespace {

kd::Options make_options(kd::ServiceSettings& s, TeacherOptions& teacher, std::string& token_file, bool& print_api) {
  kd::Options o{"serve",
                "Serves a page and an interface that start, watch and compare distillations on this machine; or, with "
                "--teacher, a model that scores text for distillations on other machines."};
  o.group("A teacher, instead of the page")
      .add("teacher", teacher.model, "MODEL",
           "Hugging Face directory, GGUF file, or the folder of a finished run of distil: distil --teacher "
           "http://HOST:PORT learns from it")
      .add("teacher-adapter", teacher.adapter, "DIR", "adapter in PEFT's format that is merged into the teacher")
      .add("teacher-name", teacher.name, "NAME", "what clients call it (default: the name of its file or folder)")
      .add("threads", teacher.threads, "N", "threads; 0: all CPUs that the process may use")
      .at_least(0);
  o.group("Folders")
      .add("root", s.roots, "DIR...",
           "folders with models and prompts that may be read (the folder of the runs always may)")
      .add("runs", s.runs, "DIR", "folder of the runs")
      .add("bin", s.programs, "DIR", "folder of distil, generate, score and tokenize (default: beside this program)");
  o.group("Network")
      .add("host", s.host, "ADDRESS", "address to listen on; beyond loopback --token-file and --allow-host are needed")
      .add("port", s.port, "N", "port; 0: any free one")
      .at_least(0)
      .at_most(65535)
      .add("allow-host", s.allow_hosts, "NAME...", "further names that browsers may use for this service")
      .add("token-file", token_file, "FILE", "file that holds the token (default: one is made, RUNS/.service/token)")
      .add("patience", s.patience, "S", "time that a request may take to come, and an answer to be taken", "seconds")
      .at_least(0.1);
  o.group("Runs")
      .add("device", s.devices, "NAME...", "devices that runs may use")
      .add("jobs-per-device", s.jobs_per_device, "N", "runs at once on a device")
      .at_least(1)
      .add("queue", s.queue, "N", "runs that may wait")
      .at_least(1)
      .add("stop-grace", s.stop_grace, "S", "time a stopped run has to save, before it is ended by force", "seconds")
      .at_least(0)
      .add("memory-floor", s.memory_floor, "X", "share of free memory below which a run saves and stops; 0: never")
      .at_least(0)
      .at_most(0.5);
  o.group("Development")
      .add("web", s.web, "DIR", "read the page from there instead of from this program")
      .add("print-api", print_api, "print the OpenAPI document and stop");
  return o;
}

std::string this_program() {
  char path[4096];
  const ssize_t size = ::readlink("/proc/self/exe", path, sizeof path);
  kd::require<kd::IoError>(size > 0 && size < static_cast<ssize_t>(sizeof path),
                           "[serve] /proc/self/exe cannot be read");
  return std::string(path, static_cast<std::size_t>(size));
}

/// The token of the file, or a new one in the runs' folder, for the owner alone.
std::string read_token(const kd::ServiceSettings& s, const std::string& file) {
  std::string path = file;
  if (path.empty()) {
    path = kd::join_path(s.runs, ".service/token");
    if (!kd::path_exists(path)) {
      kd::make_directories(kd::join_path(s.runs, ".service"));
      const mode_t before = ::umask(0077);
      kd::write_file_atomically(path, kd::random_hex(32) + "\n");
      ::umask(before);
    }
  }
  std::string token = kd::read_file(path, 4096);
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r' || token.back() == ' ')) token.pop_back();
  kd::require<kd::ConfigError>(token.size() >= 32, "[serve] the token in ", path, " has ", token.size(),
                               " characters; at least 32 are needed");
  struct stat status {};
  const bool closed = ::stat(path.c_str(), &status) == 0 && (status.st_mode & 0077) == 0;
  kd::require<kd::ConfigError>(closed, "[serve] others may read ", path, "; chmod 600 it");
  return token;
}

void check_host(const kd::ServiceSettings& s, const std::string& token_file) {
  const bool loopback = s.host == "::1" || s.host.compare(0, 4, "127.") == 0;
  kd::require<kd::UsageError>(loopback || (!token_file.empty() && !s.allow_hosts.empty()), "--host ", s.host,
                              " is not loopback: give --token-file (32 characters or more) and --allow-host, and "
                              "put a proxy with TLS in front; or use ssh -L and leave --host alone");
}

std::string address_of(const kd::ServiceSettings& s, int port) {
  const bool six = s.host.find(':') != std::string::npos;
  return kd::concat("http://", six ? "[" + s.host + "]" : s.host, ":", port);
}

int serve_a_teacher(const kd::ServiceSettings& s, const TeacherOptions& teacher, const std::string& token_file) {
  const std::string file = token_file.empty() ? kd::join_path(s.runs, ".service/token") : token_file;
  return serve_teacher(s, teacher, [&](int port) {
    std::printf("%s scores text; clients need the key in %s\n", address_of(s, port).c_str(), file.c_str());
    std::fflush(stdout);
  });
}

int serve(int argc, char** argv) {
  kd::start_process();
  ::signal(SIGPIPE, SIG_IGN);
  kd::ServiceSettings s;
  std::string token_file;
  bool print_api = false;
  TeacherOptions teacher;
  kd::Options options = make_options(s, teacher, token_file, print_api);
  options.parse(argc, argv);
  options.check_needs(
      {{{"teacher-adapter", "teacher-name", "threads"}, !teacher.model.empty(), "there is no --teacher MODEL"},
       {{"root", "bin", "device", "jobs-per-device", "queue", "stop-grace", "memory-floor", "web", "print-api"},
        teacher.model.empty(),
        "with --teacher there is no page and there are no runs"}});
  s.self = this_program();
  if (s.programs.empty()) s.programs = kd::parent_path(s.self);
  check_host(s, token_file);
  kd::make_directories(s.runs);
  s.token = read_token(s, token_file);
  if (!teacher.model.empty()) return serve_a_teacher(s, teacher, token_file);
  if (print_api) {
    const kd::ServiceApi api(
        s, {}, [](std::function<void()>) {}, [] { return 0.0; });
    std::puts(api.openapi().c_str());
    return 0;
  }
  const std::vector<kd::PageFile> page(std::begin(kdlib_page_files), std::end(kdlib_page_files));
  return kd::run_http_server(s, page, [&](int port) {
    const std::string at = address_of(s, port);
    // The token stands behind #, which browsers send to nobody. A file that is given is not printed.
    if (token_file.empty()) std::printf("%s/#token=%s\n", at.c_str(), s.token.c_str());
    else std::printf("%s/#token=(what is in %s)\n", at.c_str(), token_file.c_str());
    std::fflush(stdout);
  });
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc > 1 && std::strcmp(argv[1], "keep") == 0) return kd::keep_run(argc, argv);
  return kd::finish(serve(argc, argv));
} catch (const std::exception& error) {
  return kd::report(error);
}
