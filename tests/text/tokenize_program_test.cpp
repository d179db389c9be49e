// SPDX-License-Identifier: Apache-2.0
// The program `tokenize`: lines, flags and exit statuses.
#include <sys/wait.h>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/text/chat_message.hpp"
#include "support/catch.hpp"
#include "text/reference_files.hpp"

using namespace kdlib_tests;

namespace {

struct Answer {
  int status;
  std::string out;
};

std::string program() {
  const char* folder = ::getenv("KDLIB_BIN_DIR");
  return (folder != nullptr ? std::string(folder) : std::string("bin")) + "/tokenize";
}

/// Runs the program with `input` on stdin; stderr is part of `out`.
Answer run(const std::string& arguments, const std::string& input) {
  const TemporaryDirectory folder;
  kdlib::write_file_atomically(folder / "in", input);
  FILE* pipe = ::popen((program() + " " + arguments + " < " + (folder / "in") + " 2>&1").c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot run " + program());
  std::string out;
  char block[4096];
  for (std::size_t n; (n = ::fread(block, 1, sizeof block, pipe)) > 0;) out.append(block, n);
  const int status = ::pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, out};
}

std::string with(const std::string& name) {
  return "--tokenizer " + reference_file("text/" + name + ".tokenizer.json");
}

}  // namespace

TEST_CASE("tokenize answers line by line", "[text][program]") {
  if (!exists(program())) KDLIB_SKIP("the program tokenize is not built (KDLIB_BIN_DIR)");
  const Answer ids = run(with("qwen3"), "\"Hello, world!\"\n\n\"\"\n\"a<|im_end|>\"\n");
  CHECK(ids.status == 0);
  CHECK(ids.out == "{\"ids\":[9707,11,1879,0]}\n{\"ids\":[]}\n{\"ids\":[64,151645]}\n");
  CHECK_THAT(run(with("qwen3") + " --no-special", "\"<|im_end|><think>\"").out,
             contains(",151667]") && !contains("151645"));
  CHECK_THAT(run(with("qwen3") + " --plain", "\"<|im_end|><think>\"").out, !contains("151667") && !contains("151645"));
  CHECK(run(with("qwen3") + " --decode", "[9707,94,151645]").out ==
        "{\"text\":\"Hello\xEF\xBF\xBD<|im_end|>\",\"bytes\":\"48656c6c6fa13c7c696d5f656e647c3e\"}\n");
  CHECK(run(with("qwen3") + " --decode --no-special", "[9707,151645]").out ==
        "{\"text\":\"Hello\",\"bytes\":\"48656c6c6f\"}\n");
  const Answer chat = run(with("qwen3") + " --template chatml",
                          R"({"messages":[{"role":"user","content":"Hi"}],"add_generation_prompt":true})");
  CHECK(chat.status == 0);
  CHECK(chat.out == "{\"ids\":[151644,872,198,13048,151645,198,151644,77091,198]}\n");
}

TEST_CASE("tokenize writes and checks Harmony", "[text][program]") {
  if (!exists(program())) KDLIB_SKIP("the program tokenize is not built (KDLIB_BIN_DIR)");
  std::string input, expected;
  for (const kdlib::Json& row : read_json_lines(reference_file("text/gpt-oss.chat.jsonl"))) {
    input += kdlib::python_json(row) + "\n";
    expected += "{\"ids\":[";
    for (const std::int32_t id : id_list(row.at("ids"))) expected += std::to_string(id) + ",";
    expected.back() = ']';
    expected += "}\n";
  }
  CHECK(run(with("gpt-oss") + " --template harmony", input).out == expected);
  const Answer check =
      run(with("gpt-oss") + " --check", "\"<|start|>user<|message|>a<|end|>\"\n[200006,1428,200008,64]\n");
  CHECK(check.status == 0);
  CHECK(check.out ==
        "{\"ok\":true,\"messages\":1}\n{\"ok\":false,\"messages\":1,\"error\":\"E_TRUNC\",\"position\":4,"
        "\"expected\":\"<|end|>, <|return|> or <|call|> behind a content\",\"found\":\"the end of the ids\"}\n");
  const Answer ids = run(with("gpt-oss"), R"({"bytes":"48ff00e282"})");
  CHECK(run(with("gpt-oss") + " --decode", ids.out.substr(7, ids.out.size() - 9)).out ==
        "{\"text\":\"H\xEF\xBF\xBD\\u0000\xEF\xBF\xBD\",\"bytes\":\"48ff00e282\"}\n");
}

TEST_CASE("tokenize ends with 1 on bad lines and files and with 2 on bad usage", "[text][program]") {
  if (!exists(program())) KDLIB_SKIP("the program tokenize is not built (KDLIB_BIN_DIR)");
  CHECK(run("--help", "").status == 0);
  CHECK(run("", "").status == 2);
  CHECK(run(with("qwen3") + " --nonsense", "").status == 2);
  CHECK(run(with("qwen3") + " --template llama", "").status == 1);  // neither a name nor a file that is there
  const Answer line = run(with("qwen3"), "\"a\"\n7\n");
  CHECK(line.status == 1);
  CHECK_THAT(line.out, contains("{\"ids\":[64]}\n") && contains("stdin:2"));
  CHECK(run(with("qwen3") + " --decode", "[-1]").status == 1);
  CHECK_THAT(run("--tokenizer /no/such/file", "").out, contains("/no/such/file"));
  const Answer harmony = run(with("qwen3") + " --template harmony", "\"a\"");
  CHECK(harmony.status == 1);
  CHECK_THAT(harmony.out, contains("harmony") && contains("<|start|>"));
  CHECK(run(with("qwen3") + " --check", "\"a\"").status == 1);
  CHECK(run(with("qwen3"), R"({"bytes":"f"})").status == 1);
  const Answer unknown = run(with("qwen3"), R"({"messages":[{"role":"user","content":"Hi"}]})");
  CHECK(unknown.status == 1);
  CHECK_THAT(unknown.out, contains("--template chatml"));
}
