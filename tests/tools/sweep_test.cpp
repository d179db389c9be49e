// SPDX-License-Identifier: Apache-2.0
// Sweep files: the product of the axes, what is left out, errors with file and line; means, deviations and the plot.
#include <sys/file.h>
#include <unistd.h>

#include <cmath>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/recipe/result.hpp"
#include "kdlib/tools/distil_options.hpp"
#include "kdlib/tools/folder_lock.hpp"
#include "kdlib/tools/sweep_table.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using kdlib_tests::near;
using kdlib_tests::TemporaryDirectory;
using kdlib_tests::Tolerance;

namespace {

const char* const grid = R"(out: OUT
settings:
  teacher: m
  steps: 5
  lora-targets: [q_proj, v_proj]
grid:
  quantizer:
    int4 g32: {quantize: int4, group-size: 32}
    none: {quantize: none, steps: 7}
  lambda: [0, 0.5]
  seed: [1, 2]
except:
  - {quantizer: none, lambda: [0.5]}
)";

SweepPlan plan_of(const TemporaryDirectory& dir, std::string text) {
  if (const std::size_t at = text.find("OUT"); at != std::string::npos) text.replace(at, 3, dir.path());
  write_file_atomically(dir / "s.yaml", text);
  return read_sweep(dir / "s.yaml");
}

/// A finished run with held-out forward KL `before` -> `after`.
void finish(const SweepPlan& plan, const SweepRun& run, double before, double after) {
  make_directories(plan.folder(run));
  RecipeResult r;
  r.seconds = 2;
  r.rows = {{"teacher", 0, 0, 1, 1, 3, 1, 1, 10},
            {"rounded", before, before, 0.5, 0.5, 4, 1, 1, 10},
            {"distilled", after, after, 0.75, 0.5, 3.5, 1, 1, 10}};
  write_file_atomically(join_path(plan.folder(run), "result.json"), result_json(r));
}

}  // namespace

TEST_CASE("a plot whose values span a factor of 20 has a logarithmic axis from the last tick below the smallest",
          "[tools]") {
  DotPlot plot{"t", "nats", "after", "before", {}, {}};
  plot.rows = {{"a", 0.03, 0.04, 0.15, 0}, {"b", 0.4, 0.01, 1.04, 0}};
  const std::string svg = dot_plot_svg(plot);
  CHECK(svg.find("nats, logarithmic") != std::string::npos);
  for (const char* tick : {">0.02<", ">0.05<", ">0.1<", ">0.2<", ">0.5<", ">1<", ">2<"})
    CHECK(svg.find(tick) != std::string::npos);
  for (const char* tick : {">0.01<", ">5<"}) CHECK(svg.find(tick) == std::string::npos);
  CHECK(svg.find("nan") == std::string::npos);  // the bar of a reaches below 0
  plot.rows[1].before = 0.5;
  CHECK(dot_plot_svg(plot).find("logarithmic") == std::string::npos);
  plot.rows = {{"a", 0, 0.1, 3, 0}};
  CHECK(dot_plot_svg(plot).find("logarithmic") == std::string::npos);
}

TEST_CASE("the example grids hold runs that distil takes", "[tools]") {
  for (const auto& [file, count] :
       {std::pair<const char*, std::size_t>{"quantised_students.yaml", 270}, {"quantised_smollm2.yaml", 12}}) {
    const SweepPlan plan = read_sweep(kdlib_tests::source_dir() + "/examples/data/" + file);
    REQUIRE(plan.runs.size() == count);
    for (const SweepRun& run : plan.runs) {
      INFO(run.name);
      DistilCommand command;
      const std::vector<std::string> arguments = sweep_arguments(plan, run);
      std::vector<const char*> argv{"distil"};
      for (const std::string& a : arguments) argv.push_back(a.c_str());
      command.parse(static_cast<int>(argv.size()), argv.data());
      CHECK(command.settings().student.rounded);
    }
  }
}

TEST_CASE("a sweep is the product of its axes without what is left out", "[tools]") {
  const TemporaryDirectory dir;
  const SweepPlan plan = plan_of(dir, grid);
  REQUIRE(plan.runs.size() == 6);
  CHECK(plan.runs[0].name == "quantizer=int4-g32,lambda=0,seed=1");
  CHECK(plan.runs[3].name == "quantizer=int4-g32,lambda=0.5,seed=2");
  CHECK(plan.runs[5].name == "quantizer=none,lambda=0,seed=2");
  const std::vector<std::string> expected{"--teacher=m", "--steps=7", "--lora-targets",
                                          "q_proj",      "v_proj",    "--quantize=none",
                                          "--lambda=0",  "--seed=2",  "--out=" + plan.folder(plan.runs[5])};
  CHECK(sweep_arguments(plan, plan.runs[5]) == expected);
}

TEST_CASE("errors in a sweep's file name the line", "[tools]") {
  const TemporaryDirectory dir;
  const auto refuses = [&](const std::string& text, const std::string& part) {
    try {
      plan_of(dir, text);
    } catch (const UsageError& error) {
      INFO(error.what());
      CHECK(std::string(error.what()).find(part) != std::string::npos);
      return;
    }
    FAIL("not refused: " << text);
  };
  refuses("settings: {steps: 1}\ngrid: {seed: [1]}\n", "out is missing");
  refuses("out: o\n", "grid is missing");
  refuses("out: o\ngird: {seed: [1]}\n", ":2: there is no key gird");
  refuses("out: o\ngrid:\n  seed: [1, 1]\n", "seed has the value 1 twice");
  refuses("out: o\ngrid:\n  seed: 1\n", ":3: seed must be a list");
  refuses("out: o\ngrid:\n  out: [a]\n", "belongs to the sweep");
  refuses("out: o\nsettings: {resume: no}\ngrid: {seed: [1]}\n", ":2: resume belongs to the sweep");
  refuses("out: o\ngrid: {seed: [1]}\nexcept: [{sed: 1}]\n", ":3: except: there is no axis sed");
  refuses("out: o\ngrid: {seed: [1]}\nexcept: [{seed: 3}]\n", "has no value 3");
  refuses("out: o\ngrid: {seed: [1]}\nexcept: [{seed: 1}]\n", "leaves no run");
  refuses("out: o\ngrid: {quantizer: {a b: {steps: 1}, a-b: {steps: 2}}}\n",
          "two runs would have the folder quantizer=a-b");
  refuses("out: o\ngrid: [1\n", "not valid YAML");
}

TEST_CASE("means and deviations are over seeds and what failed is named", "[tools]") {
  const TemporaryDirectory dir;
  const SweepPlan plan = plan_of(dir, grid);
  finish(plan, plan.runs[0], 0.4, 0.1);
  finish(plan, plan.runs[1], 0.4, 0.3);
  finish(plan, plan.runs[2], 0.4, 0.2);
  make_directories(dir / "logs");
  write_file_atomically(dir / ("logs/" + plan.runs[3].name + ".log"), "step 1\nerror: disk full\nmore\n");
  const SweepResult r = collect_sweep(plan);
  REQUIRE(r.rows.size() == 3);
  CHECK(r.axes == std::vector<std::string>{"quantizer", "lambda"});
  const std::size_t after = 1, gone = 2, recovered = 7;
  CHECK(near(r.rows[0].means[after], 0.2, Tolerance<double>::elementwise));
  CHECK(near(r.rows[0].deviations[after], std::sqrt(0.02), Tolerance<double>::elementwise));
  CHECK(near(r.rows[0].means[gone], 0.5, Tolerance<double>::elementwise));  // 0.75 and 0.25
  CHECK(near(r.rows[0].means[recovered], 0.5, Tolerance<double>::elementwise));
  CHECK(r.rows[1].finished == 1);
  CHECK(std::isnan(r.rows[1].deviations[after]));
  CHECK(r.rows[2].finished == 0);
  const std::string text = sweep_markdown(plan, r);
  CHECK(text.find("3 of 6 runs have no result") != std::string::npos);
  CHECK(text.find(plan.runs[3].name + ": failed, error: disk full") != std::string::npos);
  CHECK(text.find(plan.runs[4].name + ": not finished") != std::string::npos);
  CHECK(text.find("| 1 of 2 |") != std::string::npos);
  const Json json = Json::parse(sweep_json(plan, r), "sweep.json");
  CHECK(json.at("runs").size() == 6);
  CHECK(json.at("runs")[3].at("state").as_string() == "failed");
  CHECK(json.at("rows")[1].at("metrics").at("forward_kl").at("sd").is_null());
  const std::string page = sweep_html(plan, r), svg = dot_plot_svg(sweep_plot(plan, r));
  CHECK(page.find(svg) != std::string::npos);
  CHECK(svg.find("prefers-color-scheme:dark") != std::string::npos);
  CHECK(svg.find("no result") != std::string::npos);
  CHECK(page.find("http://") == page.find("http://www.w3.org"));  // the name of SVG alone; nothing is fetched
  CHECK(page.find("https://") == std::string::npos);
}

TEST_CASE("a folder that holds a run with other settings is refused", "[tools]") {
  const TemporaryDirectory dir;
  const SweepPlan plan = plan_of(dir, grid);
  make_directories(plan.folder(plan.runs[0]));
  const std::string config = join_path(plan.folder(plan.runs[0]), "config.yaml");
  write_file_atomically(config, "teacher: m\nsteps: 5\nlambda: 0.0\nlora-targets: [q_proj, v_proj]\n");
  CHECK(sweep_status(plan, plan.runs[0]).state == SweepState::missing);
  write_file_atomically(config, "teacher: m\nsteps: 6\n");
  CHECK_THROWS_AS(sweep_status(plan, plan.runs[0]), ConfigError);
  write_file_atomically(config, "lora-targets: [q_proj, k_proj]\n");
  CHECK_THROWS_AS(sweep_status(plan, plan.runs[0]), ConfigError);
}

namespace {

/// A grid of `axes` axes with `values` values each.
std::string large_grid(int axes, int values) {
  std::string text = "out: OUT\ngrid:\n";
  for (int a = 0; a < axes; ++a) {
    text += concat("  axis", a, ": [0");
    for (int v = 1; v < values; ++v) text += concat(", ", v);
    text += "]\n";
  }
  return text;
}

const auto go_on = [] { return false; };

std::vector<const SweepRun*> all_runs(const SweepPlan& plan) {
  std::vector<const SweepRun*> out;
  for (const SweepRun& run : plan.runs) out.push_back(&run);
  return out;
}

}  // namespace

TEST_CASE("a large grid tells its size and first runs, one that nobody could wait for is refused", "[tools]") {
  const TemporaryDirectory dir;
  const SweepPlan million = plan_of(dir, large_grid(2, 1000));
  CHECK(million.grid_size == 1'000'000);
  CHECK(million.too_large());
  REQUIRE(million.runs.size() == SweepPlan::previewed_runs);
  CHECK(million.runs[19].name == "axis0=0,axis1=19");
  const SweepPlan small = plan_of(dir, large_grid(3, 10));
  CHECK(small.grid_size == 1000);
  CHECK(small.runs.size() == 1000);
  CHECK_FALSE(small.too_large());
  CHECK_THROWS_WITH(plan_of(dir, large_grid(4, 1000)),
                    contains("1000 x 1000 x 1000 x 1000 runs") && contains("50000 at most"));
  CHECK_THROWS_AS(plan_of(dir, large_grid(40, 1000)), UsageError);
}

TEST_CASE("labels are text in the table, whatever they hold", "[tools]") {
  const TemporaryDirectory dir;
  const SweepPlan plan =
      plan_of(dir, "out: OUT\ngrid:\n  which:\n    \"a|b\\n\\x1b[31m<i>\": {steps: 1}\n    \"`c`\": {steps: 2}\n");
  const std::string table = sweep_markdown(plan, collect_sweep(plan));
  CHECK_THAT(table, contains("| a\\|b \\\\x1B[31m\\<i\\> |"));
  CHECK_THAT(table, contains("| \\`c\\` |"));
  CHECK(table.find('\x1b') == std::string::npos);
}

TEST_CASE("a run whose log is held is put off until the holder lets go", "[tools]") {
  const TemporaryDirectory dir;
  const SweepPlan plan = plan_of(dir, "out: OUT\ngrid: {seed: [1, 2]}\n");
  make_directories(dir / "logs");
  int held = ::open((dir / "logs/seed=1.log").c_str(), O_WRONLY | O_CREAT, 0600);
  REQUIRE(held >= 0);
  REQUIRE(::write(held, "of an earlier run\n", 18) == 18);
  REQUIRE(::flock(held, LOCK_EX | LOCK_NB) == 0);
  // The other run is done first; then the holder ends, as a child of a killed sweep does.
  std::vector<std::size_t> finished;
  const auto statuses =
      run_sweep(plan, all_runs(plan), {.program = "/bin/true", .jobs = 2}, go_on, [&](const SweepProgress& p) {
        finished.push_back(p.finished);
        if (p.finished == 1 && held >= 0) {
          CHECK(read_file(dir / "logs/seed=1.log") == "of an earlier run\n");
          ::close(held);
          held = -1;
        }
      });
  CHECK(statuses[0].state == SweepState::done);
  CHECK(statuses[1].state == SweepState::done);
  CHECK(finished.back() == 2);
  CHECK(read_file(dir / "logs/seed=1.log").empty());
}

TEST_CASE("a run that is held for longer than the patience fails with what to do, and its log stays", "[tools]") {
  const TemporaryDirectory dir;
  const SweepPlan plan = plan_of(dir, "out: OUT\ngrid: {seed: [1]}\n");
  make_directories(dir / "logs");
  write_file_atomically(dir / "logs/seed=1.log", "of the other\n");
  const int held = ::open((dir / "logs/seed=1.log").c_str(), O_WRONLY);
  REQUIRE(::flock(held, LOCK_EX | LOCK_NB) == 0);
  const auto statuses =
      run_sweep(plan, all_runs(plan), {.program = "/bin/true", .patience = 0}, go_on, [](const SweepProgress&) {});
  CHECK(statuses[0].state == SweepState::failed);
  CHECK_THAT(statuses[0].error,
             contains("another process still writes") && contains("seed=1.log") && contains("--resume"));
  CHECK(read_file(dir / "logs/seed=1.log") == "of the other\n");
  ::close(held);
}

TEST_CASE("a planted link in place of a log is refused and its target left alone", "[tools]") {
  const TemporaryDirectory dir;
  const SweepPlan plan = plan_of(dir, "out: OUT\ngrid: {seed: [1]}\n");
  make_directories(dir / "logs");
  write_file_atomically(dir / "victim", "safe");
  REQUIRE(::symlink("../victim", (dir / "logs/seed=1.log").c_str()) == 0);
  CHECK_THROWS_AS(run_sweep(plan, all_runs(plan), {.program = "/bin/true"}, go_on, [](const SweepProgress&) {}),
                  IoError);
  CHECK(read_file(dir / "victim") == "safe");
}

TEST_CASE("the output of a child needs no file that others could take, and a stop ends it", "[tools]") {
  const ChildOutput said = run_child("/bin/echo", {"two", "words"}, go_on);
  CHECK(said.status == 0);
  CHECK(said.text == "two words\n");
  CHECK(run_child("/bin/false", {}, go_on).status == 1);
  CHECK(run_child("/bin/sleep", {"1000"}, [] { return true; }).status == -1);
  const ChildOutput none = run_child("/nowhere/program", {}, go_on);
  CHECK(none.status == 127);
  CHECK_THAT(none.text, contains("cannot run /nowhere/program"));
}

TEST_CASE("one sweep has a folder alone, or all that are there share it", "[tools]") {
  using Mode = SharedFolderLock::Mode;
  const TemporaryDirectory dir;
  SharedFolderLock first, second, third;
  {
    SharedFolderLock alone;
    CHECK(alone.try_take(dir.path(), Mode::alone));
    CHECK_FALSE(first.try_take(dir.path(), Mode::alone));
    CHECK_FALSE(first.try_take(dir.path(), Mode::shared));
  }
  CHECK(first.try_take(dir.path(), Mode::shared));
  CHECK(second.try_take(dir.path(), Mode::shared));
  CHECK_FALSE(third.try_take(dir.path(), Mode::alone));
  CHECK_THROWS_AS(third.try_take(dir / "none", Mode::alone), IoError);
}
