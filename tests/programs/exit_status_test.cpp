// SPDX-License-Identifier: Apache-2.0
// The exit statuses of docs/formats.md over all programs: 2 for what the command line, a config file or the folder of
// --out alone show to be wrong, 1 for what files, models and text turn out to be.
#include <string>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "support/catch.hpp"
#include "support/run_program.hpp"
#include "support/shared.hpp"

using kdlib_tests::contains;
using kdlib_tests::exists;
using kdlib_tests::program_path;
using kdlib_tests::ProgramAnswer;
using kdlib_tests::reference_file;
using kdlib_tests::run_program;
using kdlib_tests::source_dir;
using kdlib_tests::TemporaryDirectory;

namespace {

struct Place {
  TemporaryDirectory dir;
  std::string llama = reference_file("models/llama"), text = dir / "text.jsonl", out = dir / "out",
              tokens = source_dir() + "/examples/data/toy_harmony";
  Place() { kdlib::write_file_atomically(text, "{\"ids\": [1, 10, 40, 7]}\n{\"ids\": [1, 11, 43, 8]}\n"); }

  /// The program ends with `status` and says `part`; with 2 it has left nothing under --out.
  void ends(int status, const std::string& program, const std::string& arguments, const std::string& part) const {
    if (!exists(program_path(program))) return;  // programs() says which are missing
    const ProgramAnswer answer = run_program(program, arguments);
    INFO(program << " " << arguments << "\n" << answer.error);
    CHECK(answer.status == status);
    CHECK_THAT(answer.error, contains(part));
    CHECK_FALSE(exists(out));
  }
};

}  // namespace

TEST_CASE("values out of range, unknown words and options that exclude each other end every program with status 2",
          "[programs]") {
  const Place p;
  const std::string out = " --out " + p.out, input = " --input " + p.text, data = " --data " + p.text;
  const auto wrong = [&p](const std::string& program, const std::string& arguments, const std::string& part) {
    p.ends(2, program, arguments, part);
  };
  for (const char* program :
       {"cache_logits", "compress", "convert", "distil", "evaluate", "generate", "inspect", "qwen_32b_to_7b", "rescore",
        "score", "serve", "sweep", "synth", "tokenize", "vpmoe_student"}) {
    if (!exists(program_path(program))) WARN(program << " is not built");
    wrong(program, "--no-such-option 3", "no-such-option");
  }
  const std::string distil = "--teacher " + p.llama + data + out + " ";
  wrong("distil", distil + "--lambda 2", "--lambda");
  wrong("distil", distil + "--steps many", "--steps");
  wrong("distil", distil + "--loss forward_klo", "forward_kl");
  wrong("distil", distil + "--train lora --quantize none --lora-init compensate", "--lora-init compensate");
  wrong("distil", distil + "--dry-run --device TPU", "expected cpu or one of");
  wrong("distil", distil + "--config " + (p.dir / "none.yaml"), "none.yaml");
  wrong("distil", distil + "--stages " + (p.dir / "none.yaml"), "none.yaml");
  wrong("distil", distil + "--groups " + (p.dir / "none.yaml"), "none.yaml");
  wrong("distil", "--student " + p.llama + data + out + " --loss cross_entropy --dry-run", "a run without a teacher");
  const std::string cached = "--student " + p.llama + " --cache " + (p.dir / "cache") + out + " ";
  wrong("distil", cached + "--loss reverse_kl --mass raw", "--mass raw with reverse_kl is no loss");
  wrong("qwen_32b_to_7b", "--dry-run --device TPU" + out, "expected cpu or one of");
  wrong("vpmoe_student", "--dry-run --device TPU" + out, "expected cpu or one of");
  wrong("vpmoe_student", "--stage all --dry-run --device TPU" + out, "expected cpu or one of");
  wrong("vpmoe_student", "--stage 1 --device H200" + out, "--device would have no effect");
  wrong("vpmoe_student", "--stage 2a --fraction 2" + out, "--fraction");
  wrong("vpmoe_student", "--stage 1 --caps 1,2" + out, "--caps is '1,2'");
  wrong("cache_logits", "--teacher " + p.llama + data + out + " --worker 3/2", "--worker is 3/2");
  wrong("cache_logits", "--teacher " + p.llama + data + out + " --temperatures 1,x", "'x', which is no number");
  wrong("score", "--model " + p.llama + input + out + " --device tpu", "it must be one of cpu, cuda");
  wrong("score", "--model " + p.llama + " --merge" + input + out, "there is no adapter");
  wrong("generate", "--model " + p.llama + " --prompt a --min-p 2", "--min-p");
  wrong("evaluate", "--models " + p.llama + " --data " + p.dir.path() + " --tasks chess", "there is no task chess");
  wrong("convert", "--model " + p.llama + " --to hf --dtype int9" + out, "--dtype: dtype int9 is not supported");
  wrong("convert", "--model " + p.llama + " --to gguf --type q9" + out, "it can be F32, F16");
  wrong("convert", "--model " + p.llama + " --to hf --upcycle 4 --active 5" + out, "from 1 to experts 4");
  const std::string compress = "--model " + reference_file("models/qwen3_moe") + out;
  wrong("compress", compress + " --rank 2 --layers 3-1", "the first is above the last");
  wrong("compress", compress + " --share 0", "must be above 0");
  const std::string rescore = "--data " + p.dir.path() + " --teacher " + p.llama + out;
  wrong("rescore", rescore + " --worker 0/2", "--worker is '0/2'");
  wrong("rescore", rescore + " --teacher-in-flight 3", "it belongs to --teacher URL");
  wrong("rescore", rescore + " --verify 2 --fraction 0.5", "--verify makes nothing");
  wrong("serve", "--port 70000 --runs " + p.out, "--port");
  wrong("serve", "--host 0.0.0.0 --runs " + p.out, "is not loopback");
  wrong("inspect", p.llama + " --to mlflow" + out, "needs --run-id");
  wrong("tokenize", "--tokenizer " + p.tokens + " --decode --check", "--decode would have no effect");
  kdlib::write_file_atomically(p.dir / "sweep.yaml", "out: " + p.out + "\ngrid:\n  lambda: []\n");
  wrong("sweep", p.dir / "sweep.yaml", "sweep.yaml:");
  wrong("sweep", p.dir / "none.yaml", "none.yaml");
}

TEST_CASE("shares, words and strata of rows that cannot be read end with status 2", "[programs]") {
  const Place p;
  if (!exists(program_path("synth"))) KDLIB_SKIP("the program synth is not built");
  const std::string rows = source_dir() + "/examples/data/synth_rows.jsonl", files = p.dir / "files",
                    synth = "--input " + rows + " --tokenizer " + p.tokens + " --out ";
  const auto wrong = [](const std::string& program, const std::string& arguments, const std::string& part) {
    const ProgramAnswer answer = run_program(program, arguments);
    INFO(program << " " << arguments << "\n" << answer.error);
    CHECK(answer.status == 2);
    CHECK_THAT(answer.error, contains(part));
  };
  wrong("synth", synth + (p.dir / "a") + " --split 1.5", "--split");
  wrong("synth", synth + (p.dir / "b") + " --effort huge", "'huge'; it is low, medium, high or by-length");
  wrong("synth", synth + (p.dir / "c") + " --effort by-length 9,3", "two limits that rise");
  wrong("synth", synth + (p.dir / "d") + " --template chatml --identity X", "belong to Harmony's system message");
  const ProgramAnswer made = run_program("synth", synth + files + " --split 0.2");
  INFO(made.error);
  REQUIRE(made.status == 0);
  wrong("synth", synth + files + " --split 0.5", "choose another --out");
}

TEST_CASE("missing files and models that are not what is needed end with status 1", "[programs]") {
  const Place p;
  const std::string out = " --out " + p.out, input = " --input " + p.text, data = " --data " + p.text,
                    none = p.dir / "none";
  const auto failed = [&p](const std::string& program, const std::string& arguments, const std::string& part) {
    p.ends(1, program, arguments, part);
  };
  failed("distil", "--teacher " + none + data + out, "none");
  failed("distil", "--teacher " + p.llama + " --data " + none + " --lambda 0 --validation-share 0.5" + out, "none");
  failed("distil",
         "--teacher " + p.llama + data + " --quantize none --lora-targets no_such_map --lambda 0 --validation " +
             p.text + out,
         "no_such_map");
  failed("cache_logits", "--teacher " + none + data + out, "none");
  failed("compress", "--model " + p.llama + " --rank 2" + out, "expert");
  failed("convert", "--model " + none + " --to hf" + out, "is not there");
  failed("evaluate", "--models " + none + " --tasks mmlu --data " + p.dir.path(), "none");
  failed("generate", "--model " + none + " --prompt a", "none");
  failed("inspect", none, "is not there");
  failed("qwen_32b_to_7b", "--dry-run --teacher " + p.llama + out, "model_type is llama");
  failed("rescore", "--data " + none + " --teacher " + p.tokens + out, "");
  failed("score", "--model " + none + input + out, "none");
  failed("score", "--model " + p.llama + " --input " + none + out, "--input " + none + " is not there");
  failed("cache_logits", "--teacher " + p.llama + " --data " + none + out, "--data " + none + " is not there");
  failed("synth", "--input " + none + " --tokenizer " + none + " --out " + (p.dir / "files"), "none");
  failed("tokenize", "--tokenizer " + none, "none");
}

TEST_CASE("a run of distil that somebody damaged is a model that fails, for every program alike", "[programs]") {
  const Place p;
  if (!exists(program_path("distil"))) KDLIB_SKIP("the program distil is not built");
  const std::string run = p.dir / "run";
  kdlib::make_directories(run);
  kdlib::write_file_atomically(run + "/config.yaml", "quantize: none\n");  // not finished
  const std::string data = " --data " + p.text + " --out " + p.out, input = " --input " + p.text + " --out " + p.out;
  p.ends(1, "distil", "--teacher " + run + data, "is not finished");
  p.ends(1, "cache_logits", "--teacher " + run + data, "is not finished");
  p.ends(1, "convert", "--model " + run + " --to hf --out " + p.out, "is not finished");
  p.ends(1, "compress", "--model " + run + " --rank 2 --out " + p.out, "is not finished");
  p.ends(1, "score", "--model " + run + input, "is not finished");
  p.ends(1, "generate", "--model " + run + " --prompt a", "is not finished");
  p.ends(1, "evaluate", "--models " + run + " --tasks mmlu --data " + p.dir.path(), "is not finished");
  p.ends(1, "evaluate", "--models " + p.llama + " --reference " + run + " --tasks kl --data " + p.dir.path(),
         "is not finished");
}
