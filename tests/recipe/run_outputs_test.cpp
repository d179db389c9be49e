// SPDX-License-Identifier: Apache-2.0
// The list of what a run has written into its folder: what it owns, what is damaged, what is somebody else's.
#include <unistd.h>

#include <algorithm>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/recipe/run_outputs.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::contains;
using kdlib_tests::exists;
using kdlib_tests::TemporaryDirectory;

namespace {

void put(const TemporaryDirectory& dir, const std::string& name, const std::string& text = "text") {
  make_directories(parent_path(dir / name));
  write_file_atomically(dir / name, text);
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a name is claimed once, and what is there already is nobody's to claim", "[recipe]") {
  const TemporaryDirectory dir;
  RunOutputs list(dir.path());
  list.claim({"outputs.json", "adapter"});
  put(dir, "adapter/a");
  list.claim({"adapter"});  // its own by now
  put(dir, "model/weights");
  CHECK_THROWS_WITH(list.claim({"best", "model"}), contains(dir / "model") && contains("not replaced or removed"));
  REQUIRE(::symlink("nowhere", (dir / "base").c_str()) == 0);
  CHECK_THROWS_WITH(list.claim({"base"}), contains(dir / "base"));
  const RunOutputs back = RunOutputs::read(dir.path());
  CHECK(back.lists("adapter"));
  CHECK_FALSE(back.lists("model"));
  CHECK(RunOutputs::read(dir / "adapter").names().empty());
}

TEST_CASE("removing takes what the list has and nothing else", "[recipe]") {
  const TemporaryDirectory dir;
  RunOutputs list(dir.path());
  list.claim({"outputs.json", "config.yaml", "adapter", "text"});
  for (const char* name : {"config.yaml", "adapter/a", "text/teacher_text-0.jsonl", "model/mine", "best/mine", "notes"})
    put(dir, name);
  list.remove_all();
  CHECK_FALSE(exists(dir / "adapter"));
  CHECK_FALSE(exists(dir / "text"));
  for (const char* name : {"config.yaml", "model/mine", "best/mine", "notes"}) CHECK(exists(dir / name));
  CHECK(RunOutputs::read(dir.path()).names() == Names{"outputs.json", "config.yaml"});
}

TEST_CASE("files that are missing or have other bytes are told apart", "[recipe]") {
  const TemporaryDirectory dir;
  RunOutputs list(dir.path());
  list.claim({"outputs.json", "adapter", "model.gguf"});
  put(dir, "adapter/config", "one");
  put(dir, "adapter/weights", "two");
  put(dir, "model.gguf", "three");
  list.record({"adapter", "model.gguf"});
  CHECK(list.damage().missing.empty());
  CHECK(list.damage().changed.empty());
  put(dir, "adapter/weights", "twO");
  remove_tree(dir / "model.gguf");
  const RunOutputs::Damage damage = RunOutputs::read(dir.path()).damage();
  CHECK(damage.changed == Names{"adapter/weights"});
  CHECK(damage.missing == Names{"model.gguf"});
  remove_tree(dir / "adapter");
  CHECK(RunOutputs::read(dir.path()).damage().missing == Names{"adapter/config", "adapter/weights", "model.gguf"});
  RunOutputs again = RunOutputs::read(dir.path());
  again.forget_missing();
  CHECK(again.damage().missing.empty());
  CHECK(again.names() == Names{"outputs.json"});
}

TEST_CASE("what no run puts into its folders is foreign, also after the next record", "[recipe]") {
  const TemporaryDirectory dir;
  RunOutputs list(dir.path());
  list.claim({"outputs.json", "adapter", "checkpoints", "best", "text"});
  for (const char* name : {"adapter/config", "checkpoints/3/state.json", "checkpoints/12.partial/x", "best/adapter/a",
                           "best/parameters.safetensors", "text/teacher_text-10.jsonl"})
    put(dir, name);
  list.record({"adapter"});
  CHECK(list.foreign().empty());
  for (const char* name : {"adapter/notes", "adapter/more/notes", "checkpoints/notes", "best/notes", "text/poem.jsonl"})
    put(dir, name);
  put(dir, "adapter/config.tmp-99999999-1");  // what a killed process left
  const Names mine{"adapter/more/notes", "adapter/notes", "checkpoints/notes", "best/notes", "text/poem.jsonl"};
  RunOutputs back = RunOutputs::read(dir.path());
  CHECK(back.foreign() == mine);
  back.record({"adapter"});
  CHECK(RunOutputs::read(dir.path()).foreign() == mine);
}

TEST_CASE("a list that no run wrote is refused", "[recipe]") {
  const TemporaryDirectory dir;
  for (const char* text : {"", "[]", "{\"format\": \"other\"}",
                           "{\"format\": \"kdlib run outputs 1\", \"written\": [\"../x\"], \"checksums\": {}}"}) {
    CAPTURE(text);
    put(dir, "outputs.json", text);
    CHECK_THROWS_AS(RunOutputs::read(dir.path()), FormatError);
  }
}

TEST_CASE("the names that a run writes follow its settings", "[recipe]") {
  RecipeSettings s;
  s.models.teacher = "t";
  const auto writes = [&s](const char* name) {
    const Names names = names_written(s);
    for (const std::string& known : names)
      CHECK(std::find(run_names().begin(), run_names().end(), known) != run_names().end());
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  CHECK((writes("adapter") && writes("base") && writes("text") && !writes("model") && !writes("packed")));
  s.student.trains = RecipeTrains::all;
  CHECK((!writes("adapter") && !writes("base") && writes("model") && writes("packed")));
  s.student.rounded = false;
  s.text.data.path = "d";
  s.text.validation_share = 0.5;
  s.output.gguf = true;
  CHECK((!writes("packed") && !writes("text") && !writes("validation_text") && writes("model.gguf")));
}
