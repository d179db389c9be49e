// SPDX-License-Identifier: Apache-2.0
// Model folders and files that do not fit together: the message names the file, the tensor, what was expected and what
// was found.
#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "model/golden.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

std::string refusal(const std::string& path) {
  return kdlib_tests::refusal([&] { Model::from_pretrained(path); });
}

/// Writes `model` with tensors left out, replaced or added.
template <class F>
void rewrite(const std::string& folder, F&& change) {
  const std::string path = folder + "/model.safetensors";
  {
    const SafetensorsFile before(path);
    SafetensorsWriter writer(path + ".new");
    writer.metadata("format", "pt");
    for (const TensorInfo& t : before.tensors()) change(writer, t);
    writer.commit();
  }
  rename_path(path + ".new", path);
}

}  // namespace

TEST_CASE("a folder without its parts is refused", "[model][load]") {
  const TemporaryDirectory folder;
  CHECK_THAT(refusal(folder / "nowhere"), contains("there is no such file or directory"));
  CHECK_THAT(refusal(folder.path()), contains("config.json is missing"));
  write_file_atomically(folder / "config.json", "{");
  CHECK_THAT(refusal(folder.path()), contains("config.json"));
  write_file_atomically(folder / "text.gguf", "not a model at all, only text");
  CHECK_THAT(refusal(folder / "text.gguf"), contains("[gguf]"));
}

TEST_CASE("tensors that are missing, of another shape or of another type are named", "[model][load]") {
  const Model model = Model::from_config(golden_config(Family::qwen3), 1);
  const std::string victim = "model.layers.1.mlp.up_proj.weight";
  {
    const TemporaryDirectory folder;
    model.save_pretrained(folder.path());
    rewrite(folder.path(), [&](SafetensorsWriter& w, const TensorInfo& t) {
      if (t.name != victim) w.add(t);
    });
    CHECK_THAT(refusal(folder.path()), contains("\"" + victim + "\" [12, 8] is missing"));
  }
  {
    const TemporaryDirectory folder;
    model.save_pretrained(folder.path());
    const std::vector<float> values(96);
    rewrite(folder.path(), [&](SafetensorsWriter& w, const TensorInfo& t) {
      if (t.name == victim) w.add(victim, Shape{8, 12}, std::span<const float>(values));
      else w.add(t);
    });
    CHECK_THAT(refusal(folder.path()), contains(victim));
    CHECK_THAT(refusal(folder.path()), contains("asks for [12, 8]"));
  }
  {
    const TemporaryDirectory folder;
    model.save_pretrained(folder.path());
    const std::vector<std::int32_t> values(96);
    rewrite(folder.path(), [&](SafetensorsWriter& w, const TensorInfo& t) {
      if (t.name == victim) w.add(victim, Shape{12, 8}, std::span<const std::int32_t>(values));
      else w.add(t);
    });
    CHECK_THAT(refusal(folder.path()), contains("weights must be F32, BF16, F16 or F64"));
  }
}

TEST_CASE("a config that contradicts its tensors is refused with key, expected and found", "[model][load]") {
  struct Contradiction {
    Family family;
    const char *from, *to, *message;
  };
  for (const Contradiction& c :
       {Contradiction{Family::llama, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1",
                      "config.json: num_hidden_layers is 1, but the files hold layer 1"},
        Contradiction{Family::llama, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3",
                      "model.layers.2.input_layernorm.weight\" [8] is missing; config.json asks for it"},
        Contradiction{Family::qwen3, "\"model_type\": \"qwen3\"", "\"model_type\": \"llama\"",
                      "model.layers.0.self_attn.k_norm.weight\" has no place in the model that config.json describes"},
        Contradiction{Family::qwen3, "\"intermediate_size\": 12", "\"intermediate_size\": 16",
                      "config.json asks for [16, 8]"},
        Contradiction{Family::qwen3, "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false",
                      "lm_head.weight\" [16, 8] is missing"},
        Contradiction{Family::qwen2_moe, "\"qkv_bias\": true", "\"qkv_bias\": false", "k_proj.bias\" has no place"},
        Contradiction{Family::qwen2_moe, "\"num_experts\": 4", "\"num_experts\": 8", "mlp.experts.4.gate_proj.weight"},
        Contradiction{Family::qwen2_moe, "\"num_experts\": 4", "\"num_experts\": 3", "config.json asks for [3, 8]"},
        Contradiction{Family::qwen2_moe, "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 5",
                      "num_experts_per_tok"},
        Contradiction{Family::qwen2_moe, "\"shared_expert_intermediate_size\": 10",
                      "\"shared_expert_intermediate_size\": 6", "config.json asks for [6, 8]"}}) {
    CAPTURE(c.from, c.to);
    const TemporaryDirectory folder;
    Model::from_config(golden_config(c.family), 1).save_pretrained(folder.path());
    REQUIRE(refusal(folder.path()) == "nothing was refused");
    std::string text = read_file(folder / "config.json");
    REQUIRE(text.find(c.from) != std::string::npos);
    text.replace(text.find(c.from), std::string(c.from).size(), c.to);
    write_file_atomically(folder / "config.json", text);
    CHECK_THAT(refusal(folder.path()), contains(c.message));
  }
}

TEST_CASE("a config that lies about its size is refused before memory is taken", "[model][load]") {
  const Model model = Model::from_config(golden_config(Family::llama), 1);
  const TemporaryDirectory folder;
  model.save_pretrained(folder.path());
  std::string text = read_file(folder / "config.json");
  text.replace(text.find("\"vocab_size\": 16"), 16, "\"vocab_size\": 16000000");
  write_file_atomically(folder / "config.json", text);
  memory_use<Cpu>().reset_peak();
  const std::int64_t before = memory_use<Cpu>().now;
  CHECK_THAT(refusal(folder.path()), contains("asks for [16000000, 8]"));
  CHECK(memory_use<Cpu>().peak - before < 1000000);
}

TEST_CASE("calls that do not fit a model are refused", "[model]") {
  Model model = Model::from_config(golden_config(Family::llama), 1);
  TokenBatch batch;
  CHECK_THROWS_WITH(model.forward(batch), contains("holds no tokens"));
  batch.append(std::vector<std::int32_t>{1, 16});
  CHECK_THROWS_WITH(model.forward(batch), contains("outside the vocabulary of 16"));
  TokenBatch good;
  good.append(std::vector<std::int32_t>{1, 2, 3});
  auto cache = model.make_cache(2, 4);
  const std::vector<std::int32_t> slot = {0}, two = {0, 0}, other = {2};
  model.decode(cache, good, slot);
  CHECK(cache.length(0) == 3);
  CHECK_THROWS_WITH(model.decode(cache, good, slot), contains("slot 0 holds 3 tokens; 3 more do not fit into its 4"));
  CHECK_THROWS_AS(model.decode(cache, good, two), ShapeError);
  CHECK_THROWS_WITH(model.decode(cache, good, other), contains("slot 2 of 2"));
  TokenBatch pair = good;
  pair.append(std::vector<std::int32_t>{4});
  cache.truncate(0);
  CHECK_THROWS_WITH(model.decode(cache, pair, two), contains("named twice"));
  Tensor<float, Cpu> gradient = Tensor<float, Cpu>::zeros(Shape{3, 8});
  CHECK_THROWS_WITH(model.backward(gradient), contains("call forward_training first"));
  model.set_trainable(false);
  model.forward_training(good);
  CHECK_THROWS_WITH(model.backward(gradient), contains("with a trainable parameter"));
  model.set_trainable(true);
  model.forward_training(good);
  Tensor<float, Cpu> wrong = Tensor<float, Cpu>::zeros(Shape{2, 8});
  CHECK_THROWS_AS(model.backward(wrong), ShapeError);
}
