// SPDX-License-Identifier: Apache-2.0
// A directory with a configuration and a seed is the model that from_config() makes of them.
#include "kdlib/checkpoint/random_weights.hpp"

#include <cmath>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/tools/known_configs.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

TEST_CASE("a directory with a seed gives the values of from_config, and says so", "[model][load]") {
  const TemporaryDirectory dir;
  for (const DecoderConfig& full : {qwen2_5_7b_config(), gpt_oss_20b_config()}) {
    const DecoderConfig config = tiny_config(full);
    const std::string path = dir / family_name(full.family);
    CHECK_FALSE(random_weights_seed(path));
    save_random_model(path, config, 0xfedcba9876543210u);
    CHECK(random_weights_seed(path) == 0xfedcba9876543210u);
    Model want = Model::from_config(config, 0xfedcba9876543210u), got = Model::from_pretrained(path);
    REQUIRE(want.parameters().size() == got.parameters().size());
    for (std::size_t i = 0; i < want.parameters().size(); ++i) {
      const Parameter<float, Cpu>&a = *want.parameters()[i], &b = *got.parameters()[i];
      CHECK(a.name == b.name);
      CHECK(host_copy<float, Cpu>(a.value) == host_copy<float, Cpu>(b.value));
    }
    REQUIRE(got.notes().size() == 1);
    CHECK_THAT(got.notes()[0], contains("no weights") && contains("seed 18364758544493064720"));
    CHECK(got.source() == path);
    CHECK_FALSE(Model::from_pretrained(path, {.trainable = false}).parameters()[0]->trainable);
    // What is saved of it is a model like any other.
    got.save_pretrained(path + "/made");
    const auto made = host_copy<float, Cpu>(Model::from_pretrained(path + "/made").parameters()[0]->value),
               first = host_copy<float, Cpu>(want.parameters()[0]->value);
    REQUIRE(made.size() == first.size());
    for (std::size_t i = 0; i < made.size(); ++i)  // rounded to the configuration's dtype, bfloat16 at most
      if (!(std::abs(made[i] - first[i]) <= std::abs(first[i]) / 256)) FAIL_CHECK("element " << i << " differs");
  }
}

TEST_CASE("two directories of a seed have the same weights where the seeds are equal", "[model][load]") {
  const TemporaryDirectory dir;
  const DecoderConfig config = tiny_config(qwen2_5_7b_config());
  for (const auto& [name, seed] : {std::pair{"a", 1u}, {"b", 1u}, {"c", 2u}})
    save_random_model(dir / name, config, seed);
  CHECK(same_weights(dir / "a", dir / "b"));
  CHECK_FALSE(same_weights(dir / "a", dir / "c"));
  CHECK(content_hash(dir / "a") == content_hash(dir / "b"));
  CHECK(content_hash(dir / "a") != content_hash(dir / "c"));
  const std::string saved = content_hash(dir / "b");
  CHECK(content_hash(dir / "b/kdlib_random_weights.json") == file_hash(dir / "b/kdlib_random_weights.json"));
  write_file_atomically(dir / "b/kdlib_random_weights.json", "{\"seed\":1}");  // by its value, not by its bytes
  CHECK(same_weights(dir / "a", dir / "b"));
  CHECK(content_hash(dir / "b") == saved);
  CHECK_FALSE(same_weights(dir / "b", dir / "c"));
  write_file_atomically(dir / "b/kdlib_random_weights.json", "{\"seed\":1, \"deviation\": 1}");
  CHECK_FALSE(same_weights(dir / "a", dir / "b"));
}

TEST_CASE("a seed beside weights, and a file that is none, are refused by name", "[model][load]") {
  const TemporaryDirectory dir;
  const std::string path = dir / "m", file = path + "/kdlib_random_weights.json";
  const DecoderConfig config = tiny_config(qwen2_5_7b_config());
  save_random_model(path, config, 3);
  const auto refused = [&] { return refusal([&] { Model::from_pretrained(path); }); };
  for (const char* text : {"{}", "{\"seed\": -1}", "{\"seed\": 1.5}", "{\"seed\": \"3\"}", "[3]", "{\"seed\": 3"}) {
    write_file_atomically(file, text);
    CAPTURE(text);
    CHECK_THAT(refused(), contains("kdlib_random_weights.json"));
  }
  write_file_atomically(file, "{\"seed\": 3, \"deviation\": 1}");
  CHECK_THAT(refused(), contains("deviation") && contains("{\"seed\": N}"));
  write_file_atomically(file, "{\"seed\": 18446744073709551616}");
  CHECK_THAT(refused(), contains("from 0 to 2^64 - 1"));
  write_file_atomically(file, "{\"seed\": 3}");
  for (const char* name : {"model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin", "m.gguf",
                           "model.safetensors.index.json", "adapter_config.json"}) {
    write_file_atomically(path + "/" + name, "");
    CHECK_THAT(refused(), contains(std::string(name) + " and kdlib_random_weights.json"));
    remove_tree(path + "/" + name);
  }
  const std::string text = read_file(path + "/config.json");
  const auto with = [&](const std::string& key) {
    write_file_atomically(path + "/config.json", "{" + key + "," + text.substr(text.find('{') + 1));
    return refused();
  };
  CHECK_THAT(with("\"quantization_config\": {\"quant_method\": \"kdlib\", \"format\": \"int4\", \"group_size\": 64}"),
             contains("quantization_config"));
  DecoderConfig wide = config;
  wide.initializer_range = -1;
  save_random_model(path, wide, 3);
  CHECK_THAT(refused(), contains("initializer_range is -1"));
}

TEST_CASE("a model saved where a seed was has its weights", "[model][load]") {
  const TemporaryDirectory dir;
  const std::string path = dir / "m";
  save_random_model(path, tiny_config(qwen2_5_7b_config()), 3);
  Model::from_pretrained(path).save_pretrained(path);
  CHECK_FALSE(random_weights_seed(path));
  CHECK(Model::from_pretrained(path).notes().empty());
}
