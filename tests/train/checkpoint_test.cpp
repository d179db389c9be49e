// SPDX-License-Identifier: Apache-2.0
// The folder of checkpoints and the file of metrics: complete or not there, the newest found, the rest cleared.
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <limits>
#include <string>

#include "kdlib/train/checkpoint.hpp"
#include "kdlib/train/environment.hpp"
#include "kdlib/train/host_tensors.hpp"
#include "kdlib/train/metrics.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

namespace {
using kdlib::Directory;
using kdlib::TrainState;
using kdlib_tests::TemporaryDirectory;

TrainState state_at(std::int64_t step) {
  TrainState state;
  state.stage = "one";
  state.step = step;
  state.skipped_steps = 1;
  state.optimizer_steps = step - 1;
  state.tokens = 0.1 * static_cast<double>(step);
  state.seconds = 12.5;
  state.best_step = 2;
  state.best_value = 1.0 / 3;
  state.first_step = 1;
  state.finish_reason = "good enough";
  state.loss = 0.1 + 0.2;
  state.evaluated_step = step - 1;
  state.evaluation_pending = true;
  state.source_cursor = "documents 5 \"x\"";
  state.settings = {{"optimizer", "adamw"}, {"rate", "0.001"}};
  state.environment = {{"threads", "2"}};
  const kdlib::Tensor<float, kdlib::Cpu> w = kdlib::Tensor<float, kdlib::Cpu>::zeros({2, 3});
  for (int i = 0; i < 6; ++i) w.data()[i] = static_cast<float>(step) + 0.1f * static_cast<float>(i);
  state.parameters.push_back(kdlib::to_host_tensor("w", w));
  state.moments.push_back(kdlib::to_host_tensor("first_moment.w", w));
  return state;
}
}  // namespace

TEST_CASE("a checkpoint gives back everything that was saved", "[train]") {
  const TemporaryDirectory dir;
  Directory store{dir.path()};
  CHECK_FALSE(store.latest());
  const TrainState saved = state_at(7);
  store.save(saved);
  const auto loaded = store.latest();
  REQUIRE(loaded);
  CHECK(loaded->stage == "one");
  CHECK(loaded->step == 7);
  CHECK(loaded->skipped_steps == 1);
  CHECK(loaded->optimizer_steps == 6);
  CHECK(loaded->tokens == saved.tokens);
  CHECK(loaded->seconds == 12.5);
  CHECK(loaded->first_step == 1);
  CHECK(loaded->finish_reason == "good enough");
  CHECK(loaded->loss == 0.1 + 0.2);
  CHECK(loaded->evaluated_step == 6);
  CHECK(loaded->evaluation_pending);
  CHECK(loaded->best_step == 2);
  CHECK(loaded->best_value == 1.0 / 3);
  CHECK(loaded->source_cursor == saved.source_cursor);
  CHECK(loaded->settings == saved.settings);
  CHECK(loaded->environment == saved.environment);
  CHECK_FALSE(loaded->finished);
  kdlib::Tensor<float, kdlib::Cpu> w({2, 3});
  REQUIRE(loaded->parameters.size() == 1);
  kdlib::from_host_tensor(loaded->parameters[0], w);
  CHECK(w.data()[5] == 7.5f);
  REQUIRE(loaded->moments.size() == 1);
  CHECK(loaded->moments[0].name == "first_moment.w");
  kdlib::Tensor<float, kdlib::Cpu> other({3, 2});
  CHECK_THROWS_WITH(kdlib::from_host_tensor(loaded->parameters[0], other),
                    contains("w is [2, 3] in the checkpoint and [3, 2] here"));
  kdlib::Tensor<double, kdlib::Cpu> wide({2, 3});
  CHECK_THROWS_AS(kdlib::from_host_tensor(loaded->parameters[0], wide), kdlib::ConfigError);
}

TEST_CASE("the newest complete checkpoint is found by number, not by name", "[train]") {
  const TemporaryDirectory dir;
  Directory store{dir.path()};
  for (const std::int64_t step : {5, 10, 100}) store.save(state_at(step));
  kdlib::make_directories(dir / "checkpoints/1000");          // somebody made it: no state.json
  kdlib::make_directories(dir / "checkpoints/2000.partial");  // a killed save
  kdlib::make_directories(dir / "checkpoints/notes");
  CHECK(store.latest()->step == 100);
  REQUIRE(store.notes().size() == 1);
  CHECK_THAT(store.notes()[0], contains("1000 is not complete"));
  CHECK(store.steps() == std::vector<std::int64_t>{5, 10, 100});
}

TEST_CASE("the keep limit removes the oldest, and a save clears what killed saves left", "[train]") {
  const TemporaryDirectory dir;
  Directory store{dir.path()};
  kdlib::make_directories(dir / "checkpoints/3.partial/deeper");
  for (const std::int64_t step : {2, 4, 6, 8}) store.save(state_at(step));
  CHECK_FALSE(kdlib::path_exists(dir / "checkpoints/3.partial"));
  store.prune(0);
  CHECK(store.steps().size() == 4);
  store.prune(2);
  CHECK(store.steps() == std::vector<std::int64_t>{6, 8});
  CHECK(kdlib::list_directory(dir / "checkpoints") == std::vector<std::string>{"6", "8"});
}

TEST_CASE("a damaged newest checkpoint is named and the one before is used", "[train]") {
  const TemporaryDirectory dir;
  Directory store{dir.path()};
  store.save(state_at(1));
  store.save(state_at(2), [](const std::string& folder) {
    kdlib::make_directories(folder + "/adapter");
    kdlib::write_file_atomically(folder + "/adapter/weights", "some bytes");
  });
  const std::string second = dir / "checkpoints/2/";
  for (const std::string name : {"parameters.safetensors", "optimizer.safetensors", "state.json", "elapsed.json",
                                 "checksums.json", "adapter/weights"}) {
    const std::string bytes = kdlib::read_file(second + name);
    std::vector<std::string> damages{"", bytes.substr(0, bytes.size() - 2)};
    for (const std::size_t at : {std::size_t{0}, bytes.size() / 2, bytes.size() - 1}) {  // one bit
      damages.push_back(bytes);
      damages.back()[at] = static_cast<char>(damages.back()[at] ^ 4);
    }
    for (const std::string& damage : damages) {
      INFO(name << " of " << damage.size() << " bytes");
      kdlib::write_file_atomically(second + name, damage);
      const auto found = store.latest();
      REQUIRE(found);
      CHECK(found->step == 1);
      REQUIRE(store.notes().size() == 1);
      CHECK_THAT(store.notes()[0], contains("checkpoint 2 is damaged") && contains("goes on from step 1"));
      if (name != "checksums.json") CHECK_THAT(store.notes()[0], contains(second + name));
      kdlib::write_file_atomically(second + name, bytes);
      CHECK(store.latest()->step == 2);
      CHECK(store.notes().empty());
    }
    kdlib::remove_tree(second + name);
    if (name == "state.json") {  // without it the folder is not complete
      CHECK(store.latest()->step == 1);
      CHECK_THAT(store.notes().at(0), contains("is not complete"));
    } else if (name == "checksums.json") {
      CHECK(store.latest()->step == 1);
    } else {
      CHECK(store.latest()->step == 1);
      CHECK_THAT(store.notes().at(0), contains("goes on from step 1"));
    }
    kdlib::write_file_atomically(second + name, bytes);
  }
}

TEST_CASE("where every checkpoint is damaged, all are named and nothing begins anew by itself", "[train]") {
  const TemporaryDirectory dir;
  Directory store{dir.path()};
  for (const std::int64_t step : {1, 2}) {
    store.save(state_at(step));
    kdlib::write_file_atomically(dir / kdlib::concat("checkpoints/", step, "/optimizer.safetensors"), "");
  }
  CHECK_THROWS_AS(store.latest(), kdlib::FormatError);
  CHECK_THROWS_WITH(store.latest(), contains("checkpoint 2 is damaged") && contains("checkpoint 1 is damaged") &&
                                        contains("start again"));
}

TEST_CASE("a damaged checkpoint is set aside, so that it does not push out a good one", "[train]") {
  const TemporaryDirectory dir;
  Directory store{dir.path()};
  for (const std::int64_t step : {1, 2, 3}) store.save(state_at(step));
  kdlib::write_file_atomically(dir / "checkpoints/3/state.json", "{\"format\": 2,");
  CHECK(store.latest()->step == 2);
  CHECK(store.steps() == std::vector<std::int64_t>{1, 2, 3});  // looking changes nothing
  store.set_damaged_aside();
  store.prune(1);
  CHECK(store.steps() == std::vector<std::int64_t>{2});
  CHECK(kdlib::list_directory(dir / "checkpoints") == std::vector<std::string>{"2", "3.damaged"});
  CHECK(store.latest()->step == 2);
  store.clear();
  CHECK(kdlib::list_directory(dir.path()).empty());
}

TEST_CASE("a checkpoint of another version of kdlib is refused as such, not taken for a damaged one", "[train]") {
  const TemporaryDirectory dir;
  Directory store{dir.path()};
  store.save(state_at(1));
  kdlib::make_directories(dir / "checkpoints/2");  // the first format had no checksums
  kdlib::write_file_atomically(dir / "checkpoints/2/state.json", "{\"format\": 1}");
  CHECK_THROWS_AS(store.latest(), kdlib::ConfigError);
  CHECK_THROWS_WITH(store.latest(), contains("another version of kdlib"));
}

TEST_CASE("a damaged best state is refused with its path", "[train]") {
  const TemporaryDirectory dir;
  Directory store{dir.path()};
  store.save_best(state_at(4));
  CHECK(store.best()->best_value == 1.0 / 3);
  const std::string path = dir / "best/parameters.safetensors", bytes = kdlib::read_file(path);
  for (const char* mark : {"0.3333", "\"2\""}) {  // the value and the step, which are in the header
    std::string changed = bytes;
    changed[changed.find(mark) + 1] = mark[0] == '0' ? '2' : '3';
    kdlib::write_file_atomically(path, changed);
    CHECK_THROWS_WITH(store.best(), contains(path));
  }
  std::string flipped = bytes;
  flipped.back() = static_cast<char>(flipped.back() ^ 1);
  kdlib::write_file_atomically(path, flipped);
  CHECK_THROWS_WITH(store.best(), contains(path) && contains("damaged"));
}

TEST_CASE("saving a step again replaces its checkpoint", "[train]") {
  const TemporaryDirectory dir;
  Directory store{dir.path()};
  store.save(state_at(4));
  TrainState second = state_at(4);
  second.source_cursor = "second";
  store.save(second);
  CHECK(store.latest()->source_cursor == "second");
  CHECK(kdlib::list_directory(dir / "checkpoints") == std::vector<std::string>{"4"});
}

TEST_CASE("extra files are in the checkpoint, and a failure in them leaves nothing behind", "[train]") {
  const TemporaryDirectory dir;
  Directory store{dir.path()};
  store.save(state_at(1), [](const std::string& folder) { kdlib::write_file_atomically(folder + "/extra.txt", "x"); });
  CHECK(kdlib::read_file(dir / "checkpoints/1/extra.txt") == "x");
  CHECK_THROWS_AS(store.save(state_at(2), [](const std::string&) { kdlib::fail<kdlib::IoError>("no"); }),
                  kdlib::IoError);
  CHECK(kdlib::list_directory(dir / "checkpoints") == std::vector<std::string>{"1"});
}

TEST_CASE("a folder below a regular file is refused with its path", "[train]") {
  const TemporaryDirectory dir;
  kdlib::write_file_atomically(dir / "file", "x");
  Directory store{dir / "file/run"};
  CHECK_THROWS_WITH(store.save(state_at(1)), contains("file") && contains("choose another path"));
  CHECK_THROWS_AS(kdlib::JsonLines{dir / "file/run/metrics.jsonl"}, kdlib::IoError);
}

TEST_CASE("clear removes checkpoints and best but nothing else", "[train]") {
  const TemporaryDirectory dir;
  Directory store{dir.path()};
  store.save(state_at(1));
  store.save_best(state_at(1));
  kdlib::write_file_atomically(dir / "config.yaml", "x");
  CHECK(store.best());
  store.clear();
  CHECK_FALSE(store.latest());
  CHECK_FALSE(store.best());
  CHECK(kdlib::list_directory(dir.path()) == std::vector<std::string>{"config.yaml"});
}

TEST_CASE("metrics are one object a line with exact numbers and null for NaN", "[train]") {
  const TemporaryDirectory dir;
  const std::string path = dir / "deep/metrics.jsonl";
  {
    kdlib::JsonLines sink{path};
    sink.scalar("time", 1, 0.5);
    sink.scalar("train/loss", 1, 0.1);
    sink.flush();
    sink.scalar("train/loss", 2, std::numeric_limits<double>::quiet_NaN());
    sink.scalar("train/loss", 3, 1.0 / 3);  // another step ends the line by itself
    sink.flush();
  }
  CHECK(kdlib::read_file(path) ==
        "{\"step\":1,\"time\":0.5,\"train/loss\":0.1}\n{\"step\":2,\"train/loss\":null}\n{\"step\":3,\"train/"
        "loss\":0.3333333333333333}\n");
}

TEST_CASE("rewinding cuts the lines behind a step and a line that was cut short", "[train]") {
  const TemporaryDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  const std::string one = "{\"step\":1,\"a\":1.0}\n", two = "{\"step\":2,\"a\":1.0}\n",
                    ten = "{\"step\":10,\"a\":1.0}\n";
  for (const std::string& tail : {std::string(), std::string("{\"step\":2,\"a\""), std::string("{\"st")}) {
    kdlib::write_file_atomically(path, one + two + ten + tail);
    kdlib::JsonLines sink{path};
    sink.rewind(2);
    CHECK(kdlib::read_file(path) == one + two);
    sink.scalar("a", 3, 1);
    sink.flush();
    CHECK(kdlib::read_file(path) == one + two + "{\"step\":3,\"a\":1.0}\n");
    sink.rewind(-1);
    CHECK(kdlib::read_file(path).empty());
  }
  kdlib::write_file_atomically(path, one + "a letter to a friend\n");
  kdlib::JsonLines sink{path};
  CHECK_THROWS_WITH(sink.rewind(1), contains("metrics.jsonl:2") && contains("not a line of metrics"));
  CHECK(kdlib::read_file(path) == one + "a letter to a friend\n");
}

TEST_CASE("a difference of environments is a sentence for each key", "[train]") {
  const auto differences = kdlib::environment_differences({{"threads", "2"}, {"cpu", "x"}},
                                                          {{"threads", "1"}, {"cpu", "x"}, {"backend", "y"}});
  REQUIRE(differences.size() == 2);
  CHECK_THAT(differences[0], contains("threads was 2 and is now 1"));
  CHECK_THAT(differences[1], contains("backend was (not set) and is now y"));
  const std::string self = "/proc/self/exe";
  CHECK(kdlib::program_id() == kdlib::concat(kdlib::file_checksum(self), " (", kdlib::file_size(self), " bytes)"));
  CHECK_FALSE(kdlib::cpu_description().empty());
}

TEST_CASE("scalars of the step that a file of metrics ends with go into its line", "[train]") {
  const TemporaryDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  const std::string one = "{\"step\":1,\"a\":1.0}\n", two = "{\"step\":2,\"a\":1.0";
  kdlib::write_file_atomically(path, one + two + "}\n{\"step\":3,\"a\":5.0}\n");
  kdlib::JsonLines sink{path};
  sink.rewind(2);
  sink.scalar("late", 2, 0.5);
  sink.flush();
  CHECK(kdlib::read_file(path) == one + two + ",\"late\":0.5}\n");
  sink.scalar("a", 3, 1);
  sink.scalar("a", 4, 1);
  sink.flush();
  CHECK(kdlib::read_file(path) == one + two + ",\"late\":0.5}\n{\"step\":3,\"a\":1.0}\n{\"step\":4,\"a\":1.0}\n");
}

TEST_CASE("XXH64 gives the published values", "[io]") {
  // From the test vectors of xxHash: the empty text, "a", "abc", and 0x9E3779B1-generated text is left to longer
  // inputs.
  CHECK(kdlib::checksum_text(std::string_view("")) == "xxh64:ef46db3751d8e999");
  CHECK(kdlib::checksum_text(std::string_view("a")) == "xxh64:d24ec4f1a98c6e5b");
  CHECK(kdlib::checksum_text(std::string_view("abc")) == "xxh64:44bc2cf5ad770999");
  const TemporaryDirectory dir;
  kdlib::write_file_atomically(dir / "empty", "");
  CHECK(kdlib::file_checksum(dir / "empty") == "xxh64:ef46db3751d8e999");
}
