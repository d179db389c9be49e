// SPDX-License-Identifier: Apache-2.0
// cache_logits, and distil --cache: students that learn without their teacher in memory.
#include <cmath>

#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/run_program.hpp"
#include "support/tolerance.hpp"

using namespace kdlib_tests;

namespace {

std::string lines(int first, int count) {
  std::string out;
  for (int i = first; i < first + count; ++i) {
    out += "{\"ids\": [1";
    for (int k = 0; k < 5 + i % 4; ++k) out += kdlib::concat(", ", 3 + (7 * i + 31 * k + i * k) % 240);
    out += "]}\n";
  }
  return out;
}

/// Text, held-out text and a teacher.
struct Job {
  TemporaryDirectory dir;
  std::string teacher = reference_file("models/llama");

  Job() {
    kdlib::write_file_atomically(dir / "data.jsonl", lines(0, 24));
    kdlib::write_file_atomically(dir / "validation.jsonl", lines(100, 6));
  }
  void cache(const std::string& name, const std::string& data, const std::string& more) const {
    const ProgramAnswer answer = run_program("cache_logits", "--teacher " + teacher + " --data " + (dir / data) +
                                                                 " --out " + (dir / name) + " --batch 3 " + more);
    INFO(answer.error);
    REQUIRE(answer.status == 0);
    CHECK_THAT(answer.out, contains("complete") && contains("bytes a row"));
  }
  ProgramAnswer distil(const std::string& out, const std::string& from, const std::string& more = "") const {
    return run_program(
        "distil",
        from + " --out " + (dir / out) +
            " --steps 5 --batch 3 --lora-rank 4 --quantize int4 --group-size 32 --warmup 2 "
            "--learning-rate 0.002 --threads 1 " +
            (more.find("--validation") == std::string::npos ? "--validation " + (dir / "validation.jsonl") + " " : "") +
            more);
  }
  std::string live() const { return "--teacher " + teacher + " --data " + (dir / "data.jsonl"); }
  std::string cached(const std::string& name) const { return "--student " + teacher + " --cache " + (dir / name); }
  std::string adapter(const std::string& out) const {
    return kdlib::read_file(dir / (out + "/adapter/adapter_model.safetensors"));
  }
  /// A value of every step.
  std::vector<double> metric(const std::string& out, const char* key) const { return metric_of_run(dir / out, key); }
};

#define KDLIB_NEEDS_PROGRAMS()                           \
  for (const char* program : {"distil", "cache_logits"}) \
    if (!exists(program_path(program))) KDLIB_SKIP("the programs distil and cache_logits are not built")

}  // namespace

TEST_CASE("distil from a hidden-state cache gives the bytes of distil beside the teacher", "[programs][cache]") {
  KDLIB_NEEDS_PROGRAMS();
  const Job job;
  job.cache("cache", "data.jsonl", "--kind hidden --order run --threads 1 --segment 6");
  job.cache("held_out", "validation.jsonl", "--kind hidden --threads 1");
  const std::string held_out = "--validation-cache " + (job.dir / "held_out") + " ";
  const ProgramAnswer live = job.distil("live", job.live());
  INFO(live.error);
  REQUIRE(live.status == 0);
  const std::string data = " --data " + (job.dir / "data.jsonl");
  const ProgramAnswer cached =
      job.distil("cached", job.cached("cache") + data, held_out + "--validation " + (job.dir / "validation.jsonl"));
  INFO(cached.error);
  REQUIRE(cached.status == 0);
  CHECK(job.adapter("cached") == job.adapter("live"));
  for (const char* key : {"train/loss", "train/forward_kl", "train/grad_norm", "train/teacher_entropy"})
    CHECK(job.metric("cached", key) == job.metric("live", key));
  const auto a = job.metric("cached", "evaluation/forward_kl"), b = job.metric("live", "evaluation/forward_kl");
  REQUIRE(a.size() == b.size());
  REQUIRE(!a.empty());
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(near(a[i], b[i], 1e-6));  // the held-out batches are others
  CHECK_THAT(cached.error, contains("hidden states in") && contains("trained: an adapter"));

  // The cache brings its text along, also the held-out one.
  const ProgramAnswer alone = job.distil("alone", job.cached("cache"), held_out);
  INFO(alone.error);
  REQUIRE(alone.status == 0);
  CHECK(job.adapter("alone") == job.adapter("live"));
}

TEST_CASE("distil from a top-k cache with K = V has the live losses; without held-out rows perplexity is measured",
          "[programs][cache]") {
  KDLIB_NEEDS_PROGRAMS();
  const Job job;
  const kdlib::Json config = kdlib::Json::parse_file(job.teacher + "/config.json");
  const std::string all = std::to_string(config.at("vocab_size").as_int());
  job.cache("cache", "data.jsonl", "--top-k " + all + " --temperatures 1,2 --store f32 --order run --threads 1");
  for (const std::string loss : {"forward_kl", "reverse_kl(temperature=2)"}) {
    const std::string more = "--loss \"" + loss + "\" --resume no ";
    const ProgramAnswer live = job.distil("live", job.live(), more),
                        cached = job.distil("cached", job.cached("cache"), more);
    INFO(live.error << cached.error);
    REQUIRE(live.status == 0);
    REQUIRE(cached.status == 0);
    const auto a = job.metric("cached", "train/loss"), b = job.metric("live", "train/loss");
    REQUIRE(a.size() == 5);
    CHECK(near(a[0], b[0], 1e-6));
    for (std::size_t i = 1; i < a.size(); ++i) CHECK(near(a[i], b[i], 1e-4));  // Adam divides by small gradients
    CHECK_THAT(cached.error, contains("does not hold the held-out text") && contains("perplexity"));
    CHECK(job.metric("cached", "evaluation/forward_kl").empty());
    CHECK(job.metric("cached", "evaluation/perplexity").size() >= 2);
  }
}

TEST_CASE("distil holds out a share of what a top-k cache has and measures its objective there", "[programs][cache]") {
  KDLIB_NEEDS_PROGRAMS();
  const Job job;
  std::string text;  // with prompts, by which texts are divided
  for (int i = 0; i < 24; ++i)
    text += kdlib::concat("{\"ids\": [1, ", 10 + i, ", ", 40 + 3 * i, ", 7, 9, ", 60 + i,
                          "], \"loss_mask\": [0,0,0,1,1,1]}\n");
  kdlib::write_file_atomically(job.dir / "data.jsonl", text);
  job.cache("cache", "data.jsonl", "--top-k 8 --temperatures 1");
  const ProgramAnswer answer =
      job.distil("out", job.cached("cache"),
                 "--validation-share 0.3 --loss \"0.9 forward_kl + 0.1 cross_entropy\" --teacher-top-k 4 --mass tail");
  INFO(answer.error);
  REQUIRE(answer.status == 0);
  const auto objective = job.metric("out", "evaluation/objective");
  REQUIRE(objective.size() >= 2);
  CHECK(objective.back() < objective.front());
  CHECK(job.metric("out", "train/teacher_support_mass").size() == 5);
  // No divergence over the vocabulary is known, so its error is not, either; the objective's is not measured.
  const kdlib::Json result = kdlib::Json::parse_file(job.dir / "out/result.json");
  for (const kdlib::Json& row : result.at("models")) {
    CHECK_FALSE(row.at("objective").is_null());
    for (const char* name :
         {"forward_kl", "forward_kl_error", "reverse_kl_error", "top1_agreement_error", "objective_error"})
      CHECK(row.at(name).is_null());
  }
}

TEST_CASE("a share of a cache is that of its file, also where all texts begin with one token", "[programs][cache]") {
  KDLIB_NEEDS_PROGRAMS();
  const Job job;
  std::string text;
  for (int i = 0; i < 24; ++i)
    text += kdlib::concat("{\"ids\": [1, ", 10 + i, ", ", 40 + 3 * i, ", 7, 9, ", 60 + i, "]}\n");
  kdlib::write_file_atomically(job.dir / "data.jsonl", text);
  job.cache("cache", "data.jsonl", "--top-k 8 --temperatures 1");
  std::vector<std::vector<double>> found;
  for (const std::string& more : {std::string(), " --data " + (job.dir / "data.jsonl")}) {
    const ProgramAnswer answer = job.distil("out", job.cached("cache") + more, "--resume no --validation-share 0.3");
    INFO(answer.error);
    REQUIRE(answer.status == 0);
    found.push_back(job.metric("out", "evaluation/objective"));
  }
  REQUIRE(found[0].size() >= 2);
  CHECK(found[0] == found[1]);
}

TEST_CASE("what a cache cannot serve is refused before anything is written", "[programs][cache]") {
  KDLIB_NEEDS_PROGRAMS();
  const Job job;
  job.cache("cache", "data.jsonl", "--top-k 8 --temperatures 1");
  const auto refused = [&](const std::string& from, const std::string& more, int status = 1) {
    const ProgramAnswer answer = job.distil("out", from, more);
    CHECK(answer.status == status);
    CHECK(!exists(job.dir / "out/metrics.jsonl"));
    if (status == 2) CHECK(answer.error.find("loading ") == std::string::npos);
    return answer.error;
  };
  const std::string from = job.cached("cache");
  CHECK_THAT(refused(from + " --data " + (job.dir / "validation.jsonl"), ""),
             contains("validation.jsonl:1") && contains("is not in the cache"));
  CHECK_THAT(refused(from + " --data " + (job.dir / "validation.jsonl"), "--missing skip "),
             contains("the cache holds none of the 6 texts"));
  CHECK_THAT(refused(from, "--lambda 0.5 ", 2), contains("--cache stands for the teacher; --lambda must be 0"));
  CHECK_THAT(refused(from, "--loss reverse_kl --mass raw ", 2), contains("--mass raw with reverse_kl is no loss"));
  CHECK_THAT(refused(from, "--loss jsd ", 2), contains("jensen_shannon reads the teacher's whole distribution"));
  CHECK_THAT(refused(from, "--temperature 2 ", 2), contains("temperatures are 1, the loss has 2"));
  CHECK_THAT(refused(from, "--teacher-top-k 9 ", 2), contains("top_k is 8, 9 tokens are asked for"));
  CHECK_THAT(refused(from, "--teacher " + reference_file("models/llama3_rope_bias") + " "),
             contains("teacher_hash is \"sha256:"));
  CHECK_THAT(refused("--student " + job.teacher + " --cache " + job.teacher, ""), contains("holds no meta.json"));
  const auto missing = [&](const std::string& where, const std::string& more, const std::string& part) {
    const std::string error = refused(where, more);
    CHECK_THAT(error, contains(part));
    CHECK_FALSE(error.find("loading ") != std::string::npos);  // no model was read
  };
  const std::string nothing = job.dir / "nothing";
  missing("--student " + job.teacher + " --cache " + nothing, "",
          "--cache " + nothing + " is not there: give the folder of a cache that cache_logits made");
  missing(from, "--validation-cache " + nothing + " ", "--validation-cache " + nothing + " is not there");
  missing(from, "--validation " + nothing + " ", "--validation " + nothing + " is not there: give a file of JSON");
  missing("--teacher " + job.teacher + " --data " + nothing, "", "--data " + nothing + " is not there");
  missing("--teacher " + job.teacher + " --lambda 1 --prompts " + nothing, "", "--prompts " + nothing);
  missing("--teacher " + job.teacher + " --student " + nothing + " --data " + (job.dir / "data.jsonl"), "",
          "--student " + nothing + " is not there: give a Hugging Face directory or a GGUF file");
  CHECK_THAT(refused(job.live(), "--mass tail ", 2), contains("--mass would have no effect: it belongs to --cache"));
}

TEST_CASE("cache_logits goes on where it was stopped, shares work and checks what it made", "[programs][cache]") {
  KDLIB_NEEDS_PROGRAMS();
  const Job job;
  job.cache("whole", "data.jsonl", "--top-k 8 --segment 4 --verify 5");
  for (const char* worker : {"2/2", "1/2"}) {
    const ProgramAnswer part =
        run_program("cache_logits", "--teacher " + job.teacher + " --data " + (job.dir / "data.jsonl") + " --out " +
                                        (job.dir / "two") + " --top-k 8 --worker " + worker);
    CHECK(part.status == 0);
    CHECK_THAT(part.out, contains(worker[0] == '2' ? "not complete yet" : ", complete"));
  }
  const ProgramAnswer again =
      run_program("cache_logits", "--teacher " + job.teacher + " --data " + (job.dir / "data.jsonl") + " --out " +
                                      (job.dir / "whole") + " --batch 3 --top-k 8 --segment 4");
  CHECK_THAT(again.out, contains("nothing was missing"));
  CHECK(run_program("cache_logits", "--out " + (job.dir / "whole")).status == 0);
  const std::string segment = job.dir / "whole/segments/000_000002.safetensors";
  std::string bytes = kdlib::read_file(segment);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  kdlib::write_file_atomically(segment, bytes);
  const ProgramAnswer damaged = run_program("cache_logits", "--out " + (job.dir / "whole"));
  CHECK(damaged.status == 1);
  CHECK_THAT(damaged.error, contains("000_000002.safetensors: checksum is"));
  const ProgramAnswer other =
      run_program("cache_logits", "--teacher " + job.teacher + " --data " + (job.dir / "data.jsonl") + " --out " +
                                      (job.dir / "two") + " --top-k 9 --worker 1/2");
  CHECK(other.status == 2);
  CHECK_THAT(other.error, contains("top_k is \"8\", now it is \"9\""));
  CHECK_THAT(run_program("cache_logits", "--out x --compress 3 --teacher a --data b").error,
             contains("belongs to --format hdf5"));
  const ProgramAnswer hdf5 =
      run_program("cache_logits", "--teacher " + job.teacher + " --data " + (job.dir / "data.jsonl") + " --out " +
                                      (job.dir / "hdf5") + " --top-k 8 --segment 4 --format hdf5 --verify 5");
  if (hdf5.error.find("component hdf5") == std::string::npos) {  // else built without
    CHECK(hdf5.status == 0);
    CHECK_THAT(hdf5.out, contains("verified: all checksums"));
    CHECK(kdlib_tests::exists(job.dir / "hdf5/segments/000_000002.h5"));
  } else {
    CHECK_THAT(hdf5.error, contains("libhdf5-dev"));
  }
  CHECK(run_program("cache_logits", "--out x --teacher a").status == 2);
}
