// SPDX-License-Identifier: Apache-2.0
// sweep: a grid of runs of `distil` from one YAML file, resumable, with one table, a plot and error bars over seeds.
#include <kdlib/core/parallel.hpp>
#include <kdlib/io/paths.hpp>
#include <kdlib/io/writable_folder.hpp>

#include <kdlib/tools/evaluation_table.hpp>
#include <kdlib/tools/folder_lock.hpp>
#include <kdlib/tools/options.hpp>
#include <kdlib/tools/process_start.hpp>
#include <kdlib/tools/progress.hpp>
#include <kdlib/tools/stop_signals.hpp>
#include <kdlib/tools/sweep_table.hpp>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

namespace kd = kdlib;

namespace {

struct Settings {
  std::string file, program, only;
  int jobs = 1, threads = 0;
  bool resume = false, dry_run = false, table = false;
  std::uint64_t seed = 1;
};

kd::Options make_options(Settings& s) {
  kd::Options o{"sweep",
                "Runs a grid of distillations; what is done is not done again. The files of the sweep: table.md, "
                "sweep.json, plot.svg, report.html, runs/, logs/."};
  o.positional("FILE.yaml", s.file, "out, settings, grid, except (docs/formats.md)")
      .add("jobs", s.jobs, "N", "runs at once")
      .at_least(1)
      .add("resume", s.resume, "go on in a folder that holds runs already; failed ones are tried again")
      .add("only", s.only, "I/N",
           "every N-th run from the I-th on (1/N to N/N), for job arrays; implies --resume, writes no table")
      .add("table", s.table, "write the table of what is there and stop")
      .add("dry-run", s.dry_run, "list the runs with an estimate of their time and stop")
      .add("program", s.program, "PATH", "the program distil (default: the one beside this program)");
  return o.common(s.threads, s.seed);
}

std::string beside_this_program(const char* name) {
  char path[4096];
  const ssize_t size = ::readlink("/proc/self/exe", path, sizeof path);
  kd::require<kd::IoError>(size > 0 && size < static_cast<ssize_t>(sizeof path),
                           "[sweep] /proc/self/exe cannot be read: give --program");
  return kd::join_path(kd::parent_path(std::string(path, static_cast<std::size_t>(size))), name);
}

/// The runs of this call: all, or every N-th.
std::vector<const kd::SweepRun*> chosen_runs(const kd::SweepPlan& plan, const std::string& only) {
  std::size_t first = 0, step = 1;
  if (!only.empty()) {
    char* end = nullptr;
    const unsigned long i = std::strtoul(only.c_str(), &end, 10), n = *end == '/' ? std::strtoul(end + 1, &end, 10) : 0;
    kd::require<kd::UsageError>(*end == 0 && i >= 1 && n >= i && only[0] != '-' && only[0] != '+', "--only ", only,
                                ": it must be I/N with 1 <= I <= N");
    first = i - 1;
    step = n;
  }
  std::vector<const kd::SweepRun*> out;
  for (std::size_t r = first; r < plan.runs.size(); r += step) out.push_back(&plan.runs[r]);
  return out;
}

/// Seconds that `distil --dry-run` predicts for the steps of a run; NaN and its message where it refuses.
std::pair<double, std::string> predicted_seconds(const std::string& program, const kd::SweepPlan& plan,
                                                 const kd::SweepRun& run, const kd::StopSignals& signals) {
  std::vector<std::string> arguments = kd::sweep_arguments(plan, run);
  arguments.emplace_back("--dry-run");
  const kd::ChildOutput answer = kd::run_child(program, arguments, [&] { return signals.signal() != 0; });
  const std::string line = "all steps, before evaluation";  // and its time, at the end of the line
  const std::size_t at_line = answer.text.find(line),
                    end = at_line == std::string::npos ? at_line
                                                       : std::min(answer.text.find('\n', at_line), answer.text.size());
  const std::size_t begin =
      at_line == std::string::npos ? at_line : answer.text.find_first_not_of(' ', at_line + line.size());
  if (answer.status != 0 || begin == std::string::npos) {
    const std::size_t at = answer.text.find("error:");
    return {std::nan(""), at == std::string::npos ? kd::concat("exit status ", answer.status)
                                                  : answer.text.substr(at, answer.text.find('\n', at) - at)};
  }
  double seconds = 0, part = 0;
  for (const char c : answer.text.substr(begin, end - begin)) {
    if (c == ':') seconds = (seconds + part) * 60, part = 0;
    else part = 10 * part + (c - '0');
  }
  return {seconds + part, ""};
}

/// Of a grid too large to be listed or run: its size and its first runs.
void print_large_plan(const kd::SweepPlan& plan) {
  for (const kd::SweepRun& run : plan.runs) std::printf("%s\n", kd::terminal_text(run.name).c_str());
  std::printf("... %zu runs, before `except`: too many to list, and a sweep may have %zu at most\n", plan.grid_size,
              kd::SweepPlan::max_runs);
}

void print_run(const Settings& s, const kd::SweepPlan& plan, const kd::SweepRun& run, const std::string& state) {
  std::string command = s.program;
  for (const std::string& word : kd::sweep_arguments(plan, run)) command += " " + word;
  std::printf("%s  %s\n    %s\n", run.name.c_str(), kd::terminal_text(state).c_str(),
              kd::terminal_text(command).c_str());
}

/// One line a run; the estimate of runs that differ in the seed alone is made once. Answers the exit status: 0 where
/// all can run.
int print_plan(const Settings& s, const kd::SweepPlan& plan) {
  if (plan.too_large()) return print_large_plan(plan), 0;
  const kd::StopSignals signals;
  std::map<std::vector<std::string>, std::pair<double, std::string>> known;
  double total = 0;
  bool good = true;
  const std::vector<const kd::SweepRun*> runs = chosen_runs(plan, s.only);
  for (const kd::SweepRun* run : runs) {
    std::vector<std::string> labels = run->labels;
    if (plan.seed_axis() < labels.size()) labels.erase(labels.begin() + static_cast<std::ptrdiff_t>(plan.seed_axis()));
    auto at = known.find(labels);
    if (at == known.end()) at = known.emplace(labels, predicted_seconds(s.program, plan, *run, signals)).first;
    if (signals.signal() != 0) return 128 + signals.signal();
    const auto& [seconds, problem] = at->second;
    const bool done = kd::sweep_status(plan, *run).state == kd::SweepState::done;
    print_run(s, plan, *run, done ? "done" : problem.empty() ? "about " + kd::duration_text(seconds) : problem);
    good = good && (done || problem.empty());
    if (!done && problem.empty()) total += seconds;
  }
  std::printf("%zu runs; about %s for the steps of those that are left, with %d at once, before evaluation\n",
              runs.size(), kd::duration_text(total / s.jobs).c_str(), s.jobs);
  return good ? 0 : 1;
}

int finish(const kd::SweepPlan& plan) {
  const kd::SweepResult result = kd::collect_sweep(plan);
  kd::write_sweep_files(plan, result);
  std::fputs(kd::terminal_text(kd::sweep_markdown(plan, result)).c_str(), stdout);
  const auto failed = std::count_if(result.statuses.begin(), result.statuses.end(),
                                    [](const kd::SweepStatus& x) { return x.state == kd::SweepState::failed; });
  return failed > 0 ? 1 : 0;
}

/// Keeps a second sweep out of the folder; processes of a job array (--only) share it, each run being locked by its
/// log.
void lock_folder(const Settings& s, const kd::SweepPlan& plan, kd::SharedFolderLock& lock) {
  using Mode = kd::SharedFolderLock::Mode;
  kd::check_writable_folder(plan.out, "[sweep] out");
  kd::make_directories(plan.out);
  kd::require<kd::IoError>(
      lock.try_take(plan.out, s.only.empty() ? Mode::alone : Mode::shared), "[sweep] ", plan.out,
      ": another sweep is at work in this folder; wait for it, choose another `out`, or divide the "
      "runs with --only I/N in both");
}

int run(const Settings& s, const kd::SweepPlan& plan) {
  kd::require<kd::UsageError>(!plan.too_large(), plan.path, ": the grid has ", plan.grid_size,
                              " runs; a sweep may have ", kd::SweepPlan::max_runs,
                              " at most: leave out values, or split the file");
  kd::StopSignals signals;
  kd::Progress progress;
  kd::SharedFolderLock lock;
  lock_folder(s, plan, lock);
  std::vector<const kd::SweepRun*> left;
  std::size_t there = 0;
  for (const kd::SweepRun* r : chosen_runs(plan, s.only)) {
    if (signals.signal() != 0) return 128 + signals.signal();
    const kd::SweepState state = kd::sweep_status(plan, *r).state;
    if (state != kd::SweepState::done) left.push_back(r);
    there += state == kd::SweepState::done;
  }
  const bool begun = kd::path_exists(kd::join_path(plan.out, "runs"));
  kd::require<kd::UsageError>(!begun || s.resume || !s.only.empty(), plan.out,
                              " holds runs already: --resume goes on with them; for others choose another `out`");
  kd::mark_sweep_folder(plan);
  if (there > 0) progress.note(kd::concat(there, " runs are done already"));
  const kd::SweepSettings how{.program = s.program, .jobs = s.jobs, .threads = s.threads};
  const auto statuses = kd::run_sweep(
      plan, left, how, [&] { return signals.signal() != 0; },
      [&](const kd::SweepProgress& p) {
        std::string detail = p.failed > 0 ? kd::concat(p.failed, " failed; ") : "";
        for (const std::string& name : p.running) detail += (&name == &p.running[0] ? "" : " and ") + name;
        progress.show(static_cast<std::int64_t>(p.finished + p.failed), static_cast<std::int64_t>(p.total), p.seconds,
                      detail);
      });
  progress.finish();
  std::size_t failed = 0;
  for (std::size_t i = 0; i < statuses.size(); ++i) {
    if (statuses[i].state != kd::SweepState::failed) continue;
    ++failed;
    progress.note(kd::terminal_text(kd::concat(left[i]->name, ": ", statuses[i].error)));
  }
  if (signals.signal() != 0) {
    progress.note("stopped; the runs have saved what they had: --resume goes on");
    return 128 + signals.signal();
  }
  return s.only.empty() ? finish(plan) : failed > 0 ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) try {
  kd::start_process();
  Settings s;
  kd::Options options = make_options(s);
  options.parse(argc, argv);
  options.check_needs({{{"jobs", "only", "program", "dry-run"}, !s.table, "--table runs nothing"}});
  if (s.program.empty()) s.program = beside_this_program("distil");
  kd::require<kd::UsageError>(::access(s.program.c_str(), X_OK) == 0, s.program,
                              " cannot be run: give --program PATH of distil");
  const kd::SweepPlan plan = kd::reading_config_file("FILE.yaml", [&s] { return kd::read_sweep(s.file); });
  if (s.dry_run) return kd::finish(print_plan(s, plan));
  kd::check_sweep_folder(plan);
  if (s.table) return kd::finish(finish(plan));
  if (s.threads == 0 && s.jobs > 1) s.threads = std::max(1, kd::thread_count() / s.jobs);
  return kd::finish(run(s, plan));
} catch (const std::exception& error) {
  return kd::report(error);
}
