// SPDX-License-Identifier: Apache-2.0
// What --help says of the values that options take: a place of a model is one that the program reads.
#include <string>

#include "support/catch.hpp"
#include "support/run_program.hpp"
#include "support/shared.hpp"

using kdlib_tests::contains;
using kdlib_tests::exists;
using kdlib_tests::program_path;
using kdlib_tests::ProgramAnswer;
using kdlib_tests::run_program;

namespace {

/// The line of an option in the help of a program; empty where the program is not built.
std::string help_line(const std::string& program, const std::string& option, const std::string& before = "") {
  if (!exists(program_path(program))) return "";
  const ProgramAnswer answer = run_program(program, before + " --help");
  CHECK(answer.status == 0);
  const std::size_t at = answer.out.find("\n  --" + option + " ");
  INFO(program << " --" << option);
  REQUIRE(at != std::string::npos);
  return answer.out.substr(at + 1, answer.out.find('\n', at + 1) - at - 1);
}

void says(const std::string& line, const std::string& part) {
  if (!line.empty()) CHECK_THAT(line, contains(part));
}

}  // namespace

TEST_CASE("programs that ask servers say so at the option that takes URLs, and others do not", "[programs]") {
  says(help_line("score", "model"), "--model MODEL|URL[,URL...]");
  says(help_line("score", "model"), "http(s) URLs of servers");
  for (const char* program : {"distil", "cache_logits", "rescore"}) says(help_line(program, "teacher"), "URL[,URL...]");
  for (const char* program : {"generate", "convert", "compress"})
    CHECK(help_line(program, "model").find("URL") == std::string::npos);
  CHECK(help_line("evaluate", "models").find("URL") == std::string::npos);
}

TEST_CASE("places of models are named as they are read: runs, directories, files", "[programs]") {
  for (const char* program : {"score", "generate", "convert"})
    says(help_line(program, "model"), "the folder of a finished run of distil");
  says(help_line("compress", "model"), "the folder of a finished run whose result is a model");
  says(help_line("cache_logits", "teacher"), "the folder of a finished run whose result is a model");
  for (const char* program : {"qwen_32b_to_7b", "vpmoe_student"}) {  // they read config.json of directories alone
    const std::string line = help_line(program, "teacher");
    says(line, "Hugging Face directory");
    CHECK(line.find("GGUF") == std::string::npos);
  }
  says(help_line("vpmoe_student", "device", "--stage all"), "H100, H200, A100, L40S, RTX 4090");
  says(help_line("distil", "validation-share"), "below 1");
}

TEST_CASE("every program's help has the exit statuses of docs/formats.md", "[programs]") {
  for (const char* program :
       {"cache_logits", "compress", "convert", "distil", "evaluate", "generate", "inspect", "qwen_32b_to_7b", "rescore",
        "score", "serve", "sweep", "synth", "tokenize", "vpmoe_student"}) {
    if (!exists(program_path(program))) continue;
    const ProgramAnswer answer = run_program(program, "--help");
    CHECK(answer.status == 0);
    CHECK_THAT(answer.out, contains("Exit status: 0 done; 1 failed while working; 2 ") && contains("; 75 ") &&
                               contains("128 + N stopped by signal N"));
  }
}
