// SPDX-License-Identifier: Apache-2.0
// The commands that a run's report proposes fit the student: its tokenizer and its chat template.
#include "kdlib/tools/distil_report.hpp"

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::reference_file;
using kdlib_tests::TemporaryDirectory;

TEST_CASE("the report proposes --chat only for a student with a chat template", "[tools]") {
  const TemporaryDirectory dir;
  RecipeSettings settings;
  settings.models.student = "nowhere";
  settings.output.folder = dir / "run";
  settings.student.trains = RecipeTrains::all;
  settings.student.rounded = false;
  const auto written = [&] { return next_steps(settings).at(0); };
  const std::string model = dir / "run/model", generate = "generate --model " + (dir / "run");
  make_directories(model);
  CHECK_THAT(written().first, contains("has no tokenizer") && contains("prompt_ids"));
  CHECK(written().second == generate + " --prompts prompts.jsonl");

  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "config.json"})
    write_file_atomically(join_path(model, name), read_file(reference_file("eval/model/" + std::string(name))));
  CHECK(written().first == "Write with the student");
  CHECK(written().second == generate + " --prompt \"The sky is blue because\"");
  settings.text.chat_template = "chatml";  // the run's own choice
  CHECK(written().second == generate + " --chat --template chatml --prompt \"Why is the sky blue?\"");
  settings.text.chat_template.clear();

  write_file_atomically(join_path(model, "chat_template.jinja"), "{{ messages[0]['content'] }}");
  CHECK(written().second == generate + " --chat --prompt \"Why is the sky blue?\"");
  settings.text.raw = true;
  CHECK(written().second == generate + " --prompt \"The sky is blue because\"");
  settings.text.raw = false;
  // An adapter beside rounded weights has its tokenizer in base/, one beside the student's own weights has the
  // student's.
  settings.student.trains = RecipeTrains::lora;
  settings.student.rounded = true;
  CHECK_THAT(written().first, contains("has no tokenizer"));
  rename_path(model, dir / "run/base");
  CHECK(written().second == generate + " --chat --prompt \"Why is the sky blue?\"");
  settings.student.rounded = false;
  settings.models.student = dir / "run/base";
  CHECK(written().second == generate + " --chat --prompt \"Why is the sky blue?\"");
}
