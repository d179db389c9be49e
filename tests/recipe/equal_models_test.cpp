// SPDX-License-Identifier: Apache-2.0
// A student that computes what its teacher computes is noticed by the content of the files, before the first step.
#include <algorithm>
#include <vector>

#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/checkpoint/random_weights.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "support/catch.hpp"
#include "support/sessions.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::reference_file;
using kdlib_tests::TemporaryDirectory;
using Toy = Session<Cpu, float>;

namespace {

struct Notes final : SessionEvents {
  std::vector<std::string> all;
  bool stepped = false, told_late = false;
  void on_note(const std::string& text) override {
    all.push_back(text);
    told_late = told_late || (stepped && text.rfind("warning: student and", 0) == 0);
  }
  void on_step(const StepReport&) override { stepped = true; }
};

struct Job {
  TemporaryDirectory dir;
  const std::string llama = reference_file("models/llama");

  Job() {
    std::string lines;
    for (int i = 0; i < 6; ++i) lines += concat("{\"ids\": [1, ", 10 + i, ", ", 40 + 3 * i, ", 7, 2]}\n");
    write_file_atomically(dir / "text.jsonl", lines);
  }
  /// A copy of the model in another folder.
  std::string copy(const char* name) const {
    const std::string to = dir / name;
    make_directories(to);
    write_file_atomically(to + "/model.safetensors", read_file(llama + "/model.safetensors"));
    write_file_atomically(to + "/config.json", read_file(llama + "/config.json"));
    return to;
  }
  RecipeSettings settings(const std::string& student) const {
    RecipeSettings s;
    s.models.teacher = llama;
    s.models.student = student;
    s.student.rounded = false;
    s.student.adapter.rank = 2;
    s.text.data.path = s.text.validation.path = dir / "text.jsonl";
    s.text.lambda = 0;
    s.training.steps = 1;
    s.training.warmup = 0;
    s.training.batch = 2;
    s.output.folder = dir / "out";
    return s;
  }
  /// The sentence of a run of these settings, or of its plan; empty: there is none.
  std::string warning(const RecipeSettings& settings, bool plan = false) const {
    Notes notes;
    Toy session(settings, &notes);
    if (plan) static_cast<void>(session.plan());
    else REQUIRE(session.run().finished);
    CHECK_FALSE(notes.told_late);
    remove_tree(dir / "out");
    const auto found = std::find_if(notes.all.begin(), notes.all.end(),
                                    [](const std::string& note) { return note.rfind("warning: student and", 0) == 0; });
    return found == notes.all.end() ? "" : *found;
  }
};

const std::string same = "warning: student and teacher are one model and nothing is rounded, so every divergence";

}  // namespace

TEST_CASE("a copy of the teacher in another folder is noticed, in a run and in its plan", "[recipe]") {
  const Job job;
  const std::string copy = job.copy("copy");
  CHECK(job.warning(job.settings(job.llama)).rfind(same, 0) == 0);
  CHECK(job.warning(job.settings(copy)).rfind(same, 0) == 0);
  CHECK(job.warning(job.settings(copy), true).rfind(same, 0) == 0);
  RecipeSettings all = job.settings(job.llama);  // under one path, too, where all weights are trained
  all.student.trains = RecipeTrains::all;
  CHECK(job.warning(all, true).rfind(same, 0) == 0);
  RecipeSettings rounded = job.settings(copy);
  rounded.student.rounded = true;
  rounded.student.format.group_size = 32;
  CHECK(job.warning(rounded, true) == "");
}

TEST_CASE("other weights, another configuration and an adapter on one side make another model", "[recipe]") {
  const Job job;
  const std::string copy = job.copy("copy"), config = read_file(copy + "/config.json");
  const auto with = [&](const std::string& key, const std::string& value) {
    const std::size_t at = config.find("\"" + key + "\""), begin = config.find(':', at) + 1,
                      end = config.find_first_of(",\n}", begin);
    REQUIRE(at != std::string::npos);
    write_file_atomically(copy + "/config.json", config.substr(0, begin) + " " + value + config.substr(end));
  };
  with("rms_norm_eps", "0.5");
  CHECK(job.warning(job.settings(copy), true) == "");
  with("initializer_range", "0.5");  // of new weights alone
  CHECK(job.warning(job.settings(copy), true).rfind(same, 0) == 0);
  write_file_atomically(copy + "/config.json", config);
  for (const std::string& folder : {job.dir / "a", copy}) {  // it makes the weights of a seed
    remove_tree(folder);
    save_random_model(folder, read_hf_config(job.llama), 5);
  }
  RecipeSettings seeds = job.settings(copy);
  seeds.models.teacher = job.dir / "a";
  CHECK(job.warning(seeds, true).rfind(same, 0) == 0);
  DecoderConfig narrow = read_hf_config(copy);
  narrow.initializer_range = 0.001;
  narrow.source_json.clear();
  save_random_model(copy, narrow, 5);
  CHECK(job.warning(seeds, true) == "");
  remove_tree(copy);
  job.copy("copy");
  std::string weights = read_file(copy + "/model.safetensors");
  weights[weights.size() - 3] = static_cast<char>(weights[weights.size() - 3] ^ 1);
  write_file_atomically(copy + "/model.safetensors", weights);
  CHECK(job.warning(job.settings(copy), true) == "");
}

TEST_CASE("of several teachers the one that is the student is named", "[recipe]") {
  const Job job;
  std::string lines;
  for (int i = 0; i < 6; ++i)
    lines += concat("{\"ids\": [1, ", 10 + i, ", 40, 7, 2], \"teacher\": \"", i % 2 == 0 ? "math" : "code", "\"}\n");
  write_file_atomically(job.dir / "text.jsonl", lines);
  RecipeSettings s = job.settings(job.copy("copy"));
  s.models.teacher.clear();
  s.models.teachers = {"code=" + reference_file("models/llama3_rope_bias"), "math=" + job.llama};
  const std::string said = job.warning(s);
  CHECK(said.rfind("warning: student and the teacher math are one model and nothing is rounded", 0) == 0);
}
