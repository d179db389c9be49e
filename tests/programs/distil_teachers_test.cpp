// SPDX-License-Identifier: Apache-2.0
// distil --teachers: every line has its own teacher, in memory, from a cache or on a server.
#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "support/catch.hpp"
#include "support/fake_teacher.hpp"
#include "support/run_files.hpp"
#include "support/run_program.hpp"
#include "support/tolerance.hpp"

using namespace kdlib_tests;

namespace {

/// Lines of ids; `name(i)` is the teacher of line i, empty: the line names none.
template <class Name>
std::string lines(int first, int count, Name&& name) {
  std::string out;
  for (int i = first; i < first + count; ++i) {
    out += "{\"ids\": [1";
    for (int k = 0; k < 5 + i % 4; ++k) out += kdlib::concat(", ", 3 + (7 * i + 31 * k + i * k) % 240);
    const std::string teacher = name(i);
    out += teacher.empty() ? "]}\n" : "], \"teacher\": \"" + teacher + "\"}\n";
  }
  return out;
}

std::string nobody(int) { return ""; }
std::string every_third(int i) { return i % 3 == 0 ? "math" : "code"; }

struct Job {
  TemporaryDirectory dir;
  std::string model = reference_file("models/llama");

  Job() {
    write("data.jsonl", lines(0, 24, every_third));
    write("validation.jsonl", lines(100, 6, every_third));
    // The same without names, for runs with one teacher.
    write("plain.jsonl", lines(0, 24, nobody));
    write("plain_validation.jsonl", lines(100, 6, nobody));
  }
  void write(const std::string& name, const std::string& text) const { kdlib::write_file_atomically(dir / name, text); }
  /// `data` names the file of the text; with "plain" the held-out text has no names either.
  ProgramAnswer distil(const std::string& out, const std::string& teachers, const std::string& data = "data",
                       const std::string& more = "") const {
    return run_program(
        "distil",
        teachers + " --out " + (dir / out) + " --data " + (dir / data) + ".jsonl --validation " +
            (dir / (data == "plain" ? "plain_validation.jsonl" : "validation.jsonl")) +
            " --steps 5 --batch 3 --lora-rank 4 --quantize int4 --group-size 32 --warmup 2 --save-every 2 --keep 5 "
            "--learning-rate 0.002 --threads 1 " +
            more);
  }
  std::string student() const { return "--student " + model + " "; }
  std::string adapter(const std::string& out) const {
    return kdlib::read_file(dir / (out + "/adapter/adapter_model.safetensors"));
  }
  std::vector<double> metric(const std::string& out, const char* key) const { return metric_of_run(dir / out, key); }
  double total(const std::string& out, const char* key) const {
    double sum = 0;
    for (const double value : metric(out, key)) sum += value;
    return sum;
  }
  /// A cache of all lines, whoever marks them.
  void cache(const std::string& name, const std::string& more) const {
    const ProgramAnswer answer = run_program("cache_logits", "--teacher " + model + " --data " + (dir / "plain.jsonl") +
                                                                 " --out " + (dir / name) + " --batch 3 " + more);
    INFO(answer.error);
    REQUIRE(answer.status == 0);
  }
};

void require_done(const ProgramAnswer& answer) {
  INFO(answer.error);
  REQUIRE(answer.status == 0);
}

#define KDLIB_NEEDS_PROGRAMS()                           \
  for (const char* program : {"distil", "cache_logits"}) \
    if (!exists(program_path(program))) KDLIB_SKIP("the programs distil and cache_logits are not built")

}  // namespace

TEST_CASE("distil with one of several teachers for all lines has the bytes of distil beside it", "[programs][distil]") {
  KDLIB_NEEDS_PROGRAMS();
  const Job job;
  job.write("math.jsonl", lines(0, 24, [](int) { return "math"; }));
  const ProgramAnswer unread = job.distil("unread", "--teacher " + job.model);
  CHECK_THAT(unread.error, contains("data.jsonl:1: teacher is an unknown key"));  // names that nobody would look at
  require_done(job.distil("live", "--teacher " + job.model, "plain"));
  const std::string two = "--teachers math=" + job.model + " --teachers code=" + job.model + " ";
  require_done(job.distil("named", job.student() + two, "math", "--teacher-otherwise math"));
  CHECK(job.adapter("named") == job.adapter("live"));
  CHECK(job.metric("named", "train/loss") == job.metric("live", "train/loss"));
  CHECK(job.total("named", "teacher/code/rows") == 0);
  CHECK(job.total("named", "teacher/math/rows") == job.total("live", "train/tokens"));
}

TEST_CASE("teachers in memory and in a cache mark one micro-batch together, and a run with them goes on",
          "[programs][distil]") {
  KDLIB_NEEDS_PROGRAMS();
  const Job job;
  job.cache("cache", "--kind hidden --threads 1");
  require_done(job.distil("live", "--teacher " + job.model, "plain"));
  const std::string mixed = job.student() + "--teachers math=" + job.model + " code=" + (job.dir / "cache") + " ";
  const ProgramAnswer answer = job.distil("mixed", mixed);
  require_done(answer);
  CHECK_THAT(answer.error, contains("the teacher math is " + job.model + ": 10 lines") &&
                               contains("the teacher code is") && contains("20 lines") &&
                               contains("does not hold the held-out text of the teacher code"));
  const auto a = job.metric("mixed", "train/loss"), b = job.metric("live", "train/loss");
  REQUIRE(a.size() == 5);
  for (std::size_t i = 0; i < 5; ++i) CHECK(near(a[i], b[i], 1e-4));  // products of other numbers of rows
  CHECK(job.total("mixed", "teacher/math/rows") > 0);
  CHECK(job.total("mixed", "teacher/code/rows") > 0);
  CHECK(job.total("mixed", "teacher/math/rows") + job.total("mixed", "teacher/code/rows") ==
        job.total("live", "train/tokens"));
  CHECK_THAT(kdlib::read_file(job.dir / "mixed/report.html"), contains("math: " + job.model));

  // As if it had been killed behind step 2.
  const std::string whole = job.adapter("mixed");
  const auto losses = job.metric("mixed", "train/loss");
  for (const char* gone : {"checkpoints/4", "checkpoints/5", "adapter"}) kdlib::remove_tree(job.dir / "mixed/" + gone);
  kdlib::remove_tree(job.dir / "mixed/result.json");
  kdlib::write_file_atomically(job.dir / "other.jsonl", lines(0, 24, [](int) { return "code"; }));
  const ProgramAnswer changed = job.distil("mixed", mixed, "other");
  CHECK(changed.status == 2);
  CHECK_THAT(changed.error, contains("data"));
  const ProgramAnswer swapped =
      job.distil("mixed", job.student() + "--teachers code=" + job.model + " math=" + (job.dir / "cache") + " ");
  CHECK(swapped.status == 2);
  CHECK_THAT(swapped.error, contains("teachers"));
  const ProgramAnswer again = job.distil("mixed", mixed);
  require_done(again);
  CHECK(again.error.find("step 1 of 5") == std::string::npos);  // it went on behind step 2
  CHECK(job.adapter("mixed") == whole);
  CHECK(job.metric("mixed", "train/loss") == losses);
}

TEST_CASE("a teacher in memory, a top-k cache and a server give their most probable tokens", "[programs][distil]") {
  KDLIB_NEEDS_PROGRAMS();
  const Job job;
  job.cache("cache", "--top-k 12 --temperatures 1 --store f32 --threads 1");
  // Two of one model: what a cache of its top-k alone gives.
  const std::string top = "--teacher-top-k 8 ";
  require_done(job.distil("cached", job.student() + "--cache " + (job.dir / "cache") + " ", "plain", top));
  const std::string two = job.student() + "--teachers math=" + job.model + " code=" + (job.dir / "cache") + " ";
  require_done(job.distil("two", two, "data", top));
  const auto a = job.metric("two", "train/loss"), b = job.metric("cached", "train/loss");
  REQUIRE(a.size() == 5);
  for (std::size_t i = 0; i < 5; ++i) CHECK(near(a[i], b[i], 1e-4));
  require_done(job.distil("fewest", two));
  CHECK_THAT(job.distil("fewest", two, "data", "--resume no").error, contains("the 12 most probable tokens"));

  const auto V = kdlib::Json::parse_file(job.model + "/config.json").at("vocab_size").as_int();
  const FormulaTeacher formula(V);
  FakeTeacherServer server([&](const FakeRequest& r) { return formula.answer(r); });
  job.write("three.jsonl", lines(0, 24, [](int i) { return i % 3 == 0 ? "math" : i % 3 == 1 ? "code" : "far"; }));
  const ProgramAnswer three =
      job.distil("three", two + "far=" + server.url() + " ", "three", top + "--teacher-api vllm --teacher-in-flight 2");
  if (three.error.find("built without libcurl") != std::string::npos) KDLIB_SKIP("libcurl is not here");
  require_done(three);
  CHECK(server.requests() > 8);
  CHECK_THAT(three.error, contains("the 8 most probable tokens"));
  for (const char* key : {"teacher/math/rows", "teacher/code/rows", "teacher/far/rows"})
    CHECK(job.total("three", key) > 0);
  CHECK(job.metric("three", "train/loss")[0] > 0);
}

TEST_CASE("lines and names that do not fit are refused before anything is written", "[programs][distil]") {
  KDLIB_NEEDS_PROGRAMS();
  const Job job;
  const std::string two = job.student() + "--teachers math=" + job.model + " code=" + job.model + " ";
  const auto refused = [&](const ProgramAnswer& answer, const std::string& part, int status = 2) {
    INFO(answer.error);
    CHECK(answer.status == status);
    CHECK_THAT(answer.error, contains(part));
    CHECK(!exists(job.dir / "out/metrics.jsonl"));
  };
  job.write("nobody.jsonl", lines(0, 4, [](int i) { return i == 2 ? "" : "math"; }));
  refused(job.distil("out", two, "nobody"), "nobody.jsonl:3 has no \"teacher\"", 1);
  job.write("stranger.jsonl", lines(0, 4, [](int i) { return i == 1 ? "latin" : "math"; }));
  refused(job.distil("out", two, "stranger"), "jsonl:2 asks for the teacher latin, which is none of math, code", 1);
  job.write("number.jsonl", "{\"ids\": [1, 2, 3], \"teacher\": 4}\n");
  refused(job.distil("out", two, "number"), "teacher", 1);
  const std::string s = job.student();
  refused(job.distil("out", s + "--teachers math=a math=b "), "names math twice: a and b");
  refused(job.distil("out", s + "--teachers math "), "it must be NAME=MODEL");
  refused(job.distil("out", s + "--teachers a/b=c "), "it must be NAME=MODEL");
  refused(job.distil("out", s + "--teachers math= "), "it must be NAME=MODEL");
  refused(job.distil("out", two + "--teacher-otherwise latin "), "--teacher-otherwise is latin");
  refused(run_program("distil", s + "--data x --loss cross_entropy --teacher-otherwise math"),
          "it belongs to --teachers");
  refused(job.distil("out", two + "--teacher x "), "--teacher names one for all");
  refused(job.distil("out", two + "--cache x "), "--cache stands for one teacher");
  refused(job.distil("out", two + "--teacher-adapter x "), "--teacher-adapter belongs to --teacher");
  refused(job.distil("out", "--teachers math=" + job.model + " "), "--student MODEL is needed");
  refused(job.distil("out", two + "--teacher-api vllm "), "--teacher-api would have no effect");
  refused(job.distil("out", two + "--dry-run "), "the teachers are math: ");
  refused(run_program("distil", two + "--out " + (job.dir / "out")), "--data FILE is needed, or --lambda 1");
  const std::string other = job.dir / "other";
  kdlib::DecoderConfig wider = kdlib::read_hf_config(job.model);
  wider.vocab_size += 7;
  kdlib::Decoder<kdlib::Cpu, float>::from_config(wider, 1).save_pretrained(other);
  std::string config = kdlib::read_file(other + "/config.json");
  config.replace(config.find("320"), 3, "327");
  kdlib::write_file_atomically(other + "/config.json", config);
  refused(job.distil("out", s + "--teachers math=" + job.model + " code=" + other + " "),
          "--teachers code=" + other + ": [vocabulary]", 1);
}
