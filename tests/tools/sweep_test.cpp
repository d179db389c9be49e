// SPDX-License-Identifier: Apache-2.0
// Sweep files: the product of the axes, what is left out, errors with file and line; means, deviations and the plot.
#include <cmath>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/tools/distil_options.hpp"
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
