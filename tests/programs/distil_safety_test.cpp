// SPDX-License-Identifier: Apache-2.0
// `distil` beside files that are not its own, in folders that are not its own, and where the system gives little.
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/jsonl.hpp"
#include "support/catch.hpp"
#include "support/run_program.hpp"
#include "support/shared.hpp"

namespace {
using kdlib_tests::ProgramAnswer;
using kdlib_tests::reference_file;
using kdlib_tests::run_program;
using kdlib_tests::TemporaryDirectory;

/// A folder with prompts, and the command line of a short run.
struct Job {
  TemporaryDirectory dir;

  Job() {
    std::string prompts, held_out;
    for (int i = 0; i < 6; ++i) {
      prompts += kdlib::concat("{\"prompt_ids\": [1, ", 10 + i, ", 40, 7]}\n");
      held_out += kdlib::concat("{\"prompt_ids\": [1, ", 90 + i, ", 33]}\n");
    }
    kdlib::write_file_atomically(dir / "prompts.jsonl", prompts);
    kdlib::write_file_atomically(dir / "validation.jsonl", held_out);
  }
  std::string out() const { return dir / "out"; }
  std::string model() const { return reference_file("models/llama"); }
  /// `models`: "--teacher M" and what else belongs to it; `more` may replace --out.
  std::string arguments(const std::string& models, const std::string& more = "") const {
    const std::string place = more.find("--out") == std::string::npos ? " --out " + out() : "";
    return models + " --prompts " + (dir / "prompts.jsonl") + " --validation " + (dir / "validation.jsonl") +
           " --steps 2 --batch 2 --max-new-tokens 5 --threads 1" +
           ((models + more).find("--quantize none") == std::string::npos ? " --quantize int4 --group-size 32" : "") +
           place + " " + more;
  }
  std::string plain(const std::string& more = "") const { return arguments("--teacher " + model(), more); }
  std::string copy_of_model(const std::string& name) const {
    const std::string folder = dir / name;
    kdlib::make_directories(folder);
    for (const std::string& file : kdlib::list_directory(model()))
      kdlib::write_file_atomically(folder + "/" + file, kdlib::read_file(model() + "/" + file));
    return folder;
  }
  void put(const std::string& name, const std::string& text = "mine") const {
    kdlib::make_directories(kdlib::parent_path(dir / name));
    kdlib::write_file_atomically(dir / name, text);
  }
  bool still(const std::string& name, const std::string& text = "mine") const {
    return kdlib::path_exists(dir / name) && kdlib::read_file(dir / name) == text;
  }
};

/// The program under a shell that closes descriptors, sets limits or changes the environment first.
ProgramAnswer under_shell(const Job& job, const std::string& before, const std::string& arguments,
                          const std::string& redirections = "") {
  const std::string error = job.dir / "stderr";
  const std::string command = "sh -c '" + before + " exec " + kdlib_tests::program_path("distil") + " " + arguments +
                              " > " + (job.dir / "stdout") + " 2> " + error + " " + redirections + "'";
  const int status = ::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, "", kdlib::path_exists(error) ? kdlib::read_file(error) : ""};
}
}  // namespace

TEST_CASE("a folder that is not a run's keeps everything, with --resume no and without", "[programs][distil]") {
  for (const char* resume : {"", "--resume no"})
    for (const char* name : {"best/notes.txt", "result.json", "checkpoints/3/state.json", "text/poem.txt", "model/x",
                             "adapter/adapter_config.json", "report.html", "metrics.jsonl", "config.yaml"}) {
      CAPTURE(resume, name);
      const Job job;
      job.put(std::string("out/") + name);
      const ProgramAnswer answer = run_program("distil", job.plain(resume));
      CHECK(answer.status == 2);
      CHECK_THAT(answer.error, contains(job.out()) && contains("not replaced or removed") && contains("another --out"));
      CHECK(job.still(std::string("out/") + name));
      CHECK(kdlib::list_directory(job.out()).size() == 1);
    }
  const Job job;  // files of other names are nobody's concern
  job.put("out/notes.txt");
  CHECK(run_program("distil", job.plain()).status == 0);
  CHECK(run_program("distil", job.plain("--resume no")).status == 0);
  CHECK(job.still("out/notes.txt"));
}

TEST_CASE("an input where the run writes is refused before anything is touched", "[programs][distil]") {
  const Job job;
  REQUIRE(run_program("distil", job.plain("--train all --quantize none")).status == 0);
  const std::string model = job.out() + "/model", weights = kdlib::read_file(model + "/model.safetensors");
  kdlib::make_directories(job.dir / "elsewhere");
  REQUIRE(::symlink(model.c_str(), (job.dir / "link").c_str()) == 0);
  const std::string other = job.copy_of_model("other");
  for (const char* resume : {"", " --resume no"})
    for (const std::string& models :
         {"--teacher " + model + " --train all --quantize none", "--teacher " + other + " --student " + model,
          "--teacher " + model + "/../model", "--teacher " + (job.dir / "link")}) {
      CAPTURE(resume, models);
      const ProgramAnswer answer = run_program("distil", job.arguments(models, resume));
      CHECK(answer.status == 2);
      CHECK_THAT(answer.error, contains("lies where the run writes") && contains("/model"));
      CHECK(kdlib::read_file(model + "/model.safetensors") == weights);
      CHECK(kdlib::path_exists(job.out() + "/result.json"));
    }
  const std::string texts = job.out() + "/text/teacher_text-0.jsonl";
  REQUIRE(kdlib::path_exists(texts));
  const std::string line = "--teacher " + job.model() + " --out " + job.out() + " --group-size 32 --resume no --data ";
  const ProgramAnswer data = run_program("distil", line + texts);
  CHECK(data.status == 2);
  CHECK_THAT(data.error, contains("--data") && contains("lies where the run writes"));
  CHECK(kdlib::path_exists(texts));
}

TEST_CASE("--resume no says what it removes, and a missing teacher removes nothing", "[programs][distil]") {
  const Job job;
  REQUIRE(run_program("distil", job.plain()).status == 0);
  const std::string adapter = job.out() + "/adapter/adapter_model.safetensors", before = kdlib::read_file(adapter);
  const ProgramAnswer missing = run_program("distil", job.arguments("--teacher /no/such", "--resume no"));
  CHECK(missing.status == 1);
  CHECK(kdlib::read_file(adapter) == before);
  const ProgramAnswer over = run_program("distil", job.plain("--resume no --seed 5"));
  CHECK(over.status == 0);
  CHECK_THAT(over.error, contains("removes") && contains("result.json") && contains("checkpoints") && contains("base"));
  CHECK(kdlib::read_file(adapter) != before);
}

TEST_CASE("only temporary files of the run's own are removed, and no link is followed", "[programs][distil]") {
  const Job job;
  REQUIRE(run_program("distil", job.plain()).status == 0);
  kdlib::remove_tree(job.out() + "/result.json");  // the rest of the run is to be done again
  job.put("outside/a.tmp-99999999-1");
  job.put("out/notes.tmp-x");
  job.put("out/poem.tmp-99999999-7");
  job.put("out/text/a.tmp-99999999-1", "killed");
  job.put("out/metrics.jsonl.tmp-99999999-2", "killed");
  REQUIRE(::symlink((job.dir / "outside").c_str(), (job.out() + "/text/link").c_str()) == 0);
  REQUIRE(::symlink((job.dir / "outside").c_str(), (job.out() + "/text/b.tmp-99999999-3").c_str()) == 0);
  REQUIRE(::symlink(job.out().c_str(), (job.out() + "/text/loop").c_str()) == 0);
  const ProgramAnswer answer = run_program("distil", job.plain());
  INFO(answer.error);
  CHECK(answer.status == 0);
  CHECK(job.still("outside/a.tmp-99999999-1"));
  CHECK(job.still("out/notes.tmp-x"));
  CHECK(job.still("out/poem.tmp-99999999-7"));
  CHECK_FALSE(kdlib::path_exists(job.dir / "out/text/a.tmp-99999999-1"));
  CHECK_FALSE(kdlib::path_exists(job.dir / "out/metrics.jsonl.tmp-99999999-2"));
}

TEST_CASE("an --out that is no folder is refused before anything is loaded", "[programs][distil]") {
  const Job job;
  job.put("file");
  REQUIRE(::symlink((job.dir / "nothing").c_str(), (job.dir / "dangling").c_str()) == 0);
  const std::pair<std::string, const char*> cases[] = {{job.dir / "file", "a file"},
                                                       {job.dir / "dangling", "a symbolic link to nothing"},
                                                       {job.dir / "file/below", "a file"},
                                                       {"\"\"", "empty"},
                                                       {"/dev/null", "a file"}};
  for (const auto& [out, reason] : cases) {
    CAPTURE(out);
    const ProgramAnswer answer = run_program("distil", job.plain("--out " + out));
    CHECK(answer.status != 0);
    CHECK_THAT(answer.error, contains("--out") && contains(reason) && !contains("loading"));
  }
  CHECK(job.still("file"));
  const ProgramAnswer bytes = run_program("distil", job.plain("--out " + (job.dir / "o\xff")));
  CHECK(bytes.status == 2);
  CHECK_THAT(bytes.error, contains("--out") && contains("UTF-8") && !contains("loading"));
}

TEST_CASE("damaged before.json and result.json are made again", "[programs][distil]") {
  const Job job;
  const ProgramAnswer whole = run_program("distil", job.plain());
  REQUIRE(whole.status == 0);
  const std::string before = kdlib::read_file(job.out() + "/before.json");
  for (const char* name : {"before.json", "result.json"})
    for (const char* damage : {"", "{", "[1]",
                               "{\"steps\": 2, \"seconds\": 1, \"best_step\": 0, \"models\": [], "
                               "\"samples\": [], \"facts\": {}}"}) {
      CAPTURE(name, damage);
      kdlib::write_file_atomically(job.out() + "/" + name, damage);
      if (std::string(name) == "before.json") kdlib::remove_tree(job.out() + "/result.json");
      const ProgramAnswer answer = run_program("distil", job.plain());
      INFO(answer.error);
      CHECK(answer.status == 0);
      CHECK(answer.out == whole.out);
      CHECK_THAT(answer.error, contains(std::string(name)) && contains("made again"));
      CHECK(kdlib::read_file(job.out() + "/before.json") == before);
    }
}

TEST_CASE("a report that is lost is made again from the result", "[programs][distil]") {
  const Job job;
  const ProgramAnswer whole = run_program("distil", job.plain());
  REQUIRE(whole.status == 0);
  const std::string page = kdlib::read_file(job.out() + "/report.html");
  kdlib::remove_tree(job.out() + "/report.html");
  const ProgramAnswer again = run_program("distil", job.plain());
  CHECK(again.status == 0);
  CHECK(again.out == whole.out);
  CHECK(kdlib::read_file(job.out() + "/report.html") == page);
}

TEST_CASE("closed descriptors get no file of the run", "[programs][distil]") {
  for (const char* closed : {"2>&-", ">&- 2>&-", "<&- >&- 2>&-"}) {
    CAPTURE(closed);
    const Job job;
    const ProgramAnswer answer = under_shell(job, "", job.plain(), closed);
    CHECK((answer.status == 0 || answer.status == 1));  // stdout may be lost, the files may not
    kdlib::LineReader lines(job.out() + "/metrics.jsonl");
    std::int64_t count = 0;
    while (const auto line = lines.next()) {
      CHECK(kdlib::Json::parse(std::string(*line), lines.place()).is_object());
      ++count;
    }
    CHECK(count == 3);  // steps 0, 1, 2
    CHECK(kdlib::path_exists(job.out() + "/result.json"));
  }
}

TEST_CASE("too little memory for the matrix library is an error that says so, not a wait for ever",
          "[programs][distil]") {
  const Job job, first;
  REQUIRE(run_program("distil", first.plain()).status == 0);
  const kdlib::Json facts = kdlib::Json::parse_file(first.out() + "/result.json").at("facts");
  if (facts.at("backend").as_string().find("OpenBLAS") == std::string_view::npos)
    KDLIB_SKIP("this build multiplies without OpenBLAS");
  const ProgramAnswer answer = under_shell(job, "export OPENBLAS_NUM_THREADS=1; ulimit -v 150000;", job.plain());
  INFO(answer.error);
  CHECK(answer.status == 1);
  CHECK_THAT(answer.error, contains("OpenBLAS") && contains("MiB") && contains("--threads"));
  CHECK_FALSE(kdlib::path_exists(job.out()));
}

TEST_CASE("more threads than the system gives are an error that says so", "[programs]") {
  const Job job;
  job.put("ids.jsonl", "{\"ids\": [1, 5, 9]}\n");
  const std::string command = "sh -c 'export OPENBLAS_NUM_THREADS=1; ulimit -v 1500000; exec " +
                              kdlib_tests::program_path("score") + " --threads 1000 --model " + job.model() +
                              " --input " + (job.dir / "ids.jsonl") + " --out " + (job.dir / "s") + " 2> " +
                              (job.dir / "stderr") + "'";
  CHECK(::system(command.c_str()) != 0);
  CHECK_THAT(kdlib::read_file(job.dir / "stderr"),
             contains("1000 threads") && contains("limit of memory") && contains("--threads"));
}

TEST_CASE("a limit on the size of files is an error that names the file", "[programs][distil]") {
  const Job job;
  const ProgramAnswer answer = under_shell(job, "ulimit -f 4;", job.plain());
  CHECK(answer.status == 1);
  CHECK_THAT(answer.error, contains(job.out()) && contains("File too large") && contains("ulimit -f"));
  const ProgramAnswer after = run_program("distil", job.plain());
  CHECK(after.status == 0);
}

TEST_CASE("values that cannot be are refused by the name of their option", "[programs][distil]") {
  const Job job;
  const ProgramAnswer rank = run_program("distil", job.plain("--lora-rank 100000"));
  CHECK(rank.status != 0);
  CHECK_THAT(rank.error, contains("--lora-rank") && contains("100000") && contains("65535"));
  const ProgramAnswer dtype = run_program("distil", job.plain("--dtype float16"));
  CHECK(dtype.status == 2);
  CHECK_THAT(dtype.error, contains("--dtype is 'float16'") && contains("float32, bfloat16"));
#if !defined(KDLIB_TEST_PROGRAMS_CUDA)
  const std::string model = reference_file("eval/model") + " --device cuda";
  const std::pair<const char*, std::string> without_cuda[] = {
      {"distil", job.plain("--device cuda")},
      {"score", "--input " + (job.dir / "prompts.jsonl") + " --out " + (job.dir / "scores") + " --model " + model},
      {"generate", "--prompt a --model " + model},
      {"evaluate", "--tasks perplexity --data " + (job.dir / "none") + " --models " + model}};
  for (const auto& [program, words] : without_cuda) {
    const ProgramAnswer device = run_program(program, words);
    CAPTURE(program, device.error);
    CHECK(device.status == 2);
    CHECK_THAT(device.error, contains("--device cuda: this program was built for cpu alone") &&
                                 contains(std::string("cmake --build --preset cuda --target ") + program));
  }
#endif
  CHECK(run_program("distil", job.plain("--dtype float32 --device cpu")).status == 0);
  const std::string half = "--dtype bfloat16 --out " + (job.dir / "half");
  const ProgramAnswer plan = run_program("distil", job.plain(half + " --dry-run"));
  CHECK_THAT(plan.out, contains("in bfloat16") && contains("masters of what is trained"));
  const ProgramAnswer run = run_program("distil", job.plain(half));
  INFO(run.error);
  CHECK(run.status == 0);
  CHECK_THAT(kdlib::read_file(job.dir / "half/result.json"), contains("weights decoded to bfloat16"));
}
