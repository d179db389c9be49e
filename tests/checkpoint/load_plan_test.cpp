// SPDX-License-Identifier: Apache-2.0
// The plan of loading: what becomes of each tensor, what is ignored and why, what is refused, and whose head is used.
#include "kdlib/checkpoint/load_plan.hpp"

#include <algorithm>
#include <cmath>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/gguf_save.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/packed_save.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/gguf_writer.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "kdlib/model/quantize.hpp"
#include "model/reference_models.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

/// The safetensors file of `folder` again, with what `add` adds; tensors of which keep() is false are left out.
template <class Add, class Keep>
void rewrite(const std::string& folder, Add&& add, Keep&& keep) {
  const std::string path = folder + "/model.safetensors";
  {
    const SafetensorsFile before(path);
    SafetensorsWriter writer(path + ".new");
    for (const char* key : {"format", "tensor_names"})
      if (const auto text = before.metadata(key)) writer.metadata(key, std::string(*text));
    for (const TensorInfo& t : before.tensors()) {
      if (const auto text = before.metadata(t.name)) writer.metadata(t.name, std::string(*text));
      if (keep(t.name)) writer.add(t);
    }
    add(writer);
    writer.commit();
  }
  rename_path(path + ".new", path);
}
template <class Add>
void rewrite(const std::string& folder, Add&& add) {
  rewrite(folder, add, [](const std::string&) { return true; });
}

/// The reference Llama, whose head is tied, in a folder of its own; answers its embedding.
std::vector<float> copy_llama(const std::string& folder) {
  const std::string from = reference_file("models/llama");
  for (const char* name : {"/config.json", "/model.safetensors"})
    write_file_atomically(folder + name, read_file(from + name));
  return read_as<float>(SafetensorsDirectory(folder).at("model.embed_tokens.weight"));
}

std::vector<float> rows_reversed(const std::vector<float>& table, std::size_t width) {
  std::vector<float> out;
  for (std::size_t r = table.size() / width; r-- > 0;)
    out.insert(out.end(), table.begin() + static_cast<std::ptrdiff_t>(r * width),
               table.begin() + static_cast<std::ptrdiff_t>((r + 1) * width));
  return out;
}

/// Natural logarithm of the probability of each token after the first.
std::vector<double> log_probs(Model& model, const std::vector<std::int32_t>& ids) {
  TokenBatch batch;
  batch.append(ids);
  const std::vector<float> logits = logits_of(model, model.forward(batch));
  const std::size_t v = static_cast<std::size_t>(model.vocab_size());
  std::vector<double> out;
  for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < v; ++j) sum += std::exp(static_cast<double>(logits[i * v + j]));
    out.push_back(static_cast<double>(logits[i * v + static_cast<std::size_t>(ids[i + 1])]) - std::log(sum));
  }
  return out;
}

// The log-probabilities of {1, 5, 9, 3, 7, 2, 11} under the reference Llama with the embedding's rows reversed as its
// head: a forward pass written with numpy alone, which agrees with this library to 1e-4 on the models of
// tests/reference/models. transformers 5 uses such a head ("we will NOT tie them").
const std::vector<std::int32_t> head_ids = {1, 5, 9, 3, 7, 2, 11};
const std::vector<double> head_log_probs = {-7.1420, -6.9134, -8.8593, -9.2037, -8.5528, -6.8838};

void check_head(Model& model) {
  CHECK_FALSE(model.config().tied_head);
  REQUIRE(model.notes().size() == 1);
  CHECK_THAT(model.notes()[0], contains("tie_word_embeddings false"));
  const std::vector<double> got = log_probs(model, head_ids);
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(std::fabs(got[i] - head_log_probs[i]) < 2e-4);
}

std::string problems_of(const std::string& path) {
  std::string out;
  for (const LoadProblem& problem : plan_load<Cpu, float>(path).problems) out += problem.text + "\n";
  return out;
}

}  // namespace

TEST_CASE("a head that the config calls tied and the file holds with other values is the file's", "[checkpoint]") {
  const TemporaryDirectory folder;
  const std::vector<float> head = rows_reversed(copy_llama(folder.path()), 64);
  rewrite(folder.path(), [&](SafetensorsWriter& w) {
    w.add("lm_head.weight", Shape{320, 64}, std::span<const float>(head));
  });
  for (const bool in_file : {false, true}) {
    Model model = Model::from_pretrained(
        folder.path(), {.trainable = false, .weights = in_file ? WeightStorage::in_file : WeightStorage::decoded});
    check_head(model);
    const TemporaryDirectory out;
    model.save_pretrained(out.path());
    CHECK_THAT(read_file(out / "config.json"), contains("\"tie_word_embeddings\": false"));
    Model again = Model::from_pretrained(out.path());
    CHECK(again.notes().empty());
    CHECK(log_probs(again, head_ids) == log_probs(model, head_ids));
    save_gguf(model, nullptr, out / "m.gguf", {.type = GgufType::f32});
    Model gguf = Model::from_pretrained(out / "m.gguf");
    CHECK_FALSE(gguf.config().tied_head);
    const std::vector<double> got = log_probs(gguf, head_ids);
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(std::fabs(got[i] - head_log_probs[i]) < 2e-4);
  }
}

TEST_CASE("the head of a packed directory follows the same rule", "[checkpoint]") {
  const TemporaryDirectory folder;
  const std::vector<float> embedding = copy_llama(folder.path());
  for (const PackedKind kind : {PackedKind::int8, PackedKind::nf4}) {
    for (const bool equal : {false, true}) {
      CAPTURE(packed_kind_name(kind), equal);
      const TemporaryDirectory packed;
      Model model = Model::from_pretrained(folder.path());
      quantize_linear(model, {.kind = kind, .group_size = 32});
      save_packed(model, packed.path());
      const std::vector<float> head = equal ? embedding : rows_reversed(embedding, 64);
      rewrite(packed.path(), [&](SafetensorsWriter& w) {
        w.add("lm_head.weight", Shape{320, 64}, std::span<const float>(head));
      });
      Model back = Model::from_pretrained(packed.path());
      CHECK(back.config().tied_head == equal);
      CHECK(back.notes().size() == (equal ? 0u : 1u));
      const HeadView<float, Cpu> view = back.head();
      CHECK(std::equal(head.begin(), head.end(), view.weight.data()));
    }
  }
}

TEST_CASE("a head equal to the embedding stays tied, in every type that holds the same numbers", "[checkpoint]") {
  const TemporaryDirectory folder;
  const std::vector<float> embedding = copy_llama(folder.path());
  rewrite(folder.path(), [&](SafetensorsWriter& w) {
    w.add("lm_head.weight", Shape{320, 64}, std::span<const float>(embedding));
  });
  const LoadPlan plan = plan_load<Cpu, float>(folder.path());
  CHECK(plan.config.tied_head);
  CHECK(plan.notes.empty());
  REQUIRE(plan.ignored.size() == 1);
  CHECK(plan.ignored[0].name == "lm_head.weight");
  CHECK_THAT(plan.ignored[0].reason, contains("equals the embedding"));
  CHECK(Model::from_pretrained(folder.path()).config().tied_head);

  // The embedding alone under the head's name: transformers 5 ties it the other way round.
  rewrite(
      folder.path(), [](SafetensorsWriter&) {},
      [](const std::string& name) { return name != "model.embed_tokens.weight"; });
  Model turned = Model::from_pretrained(folder.path());
  CHECK(turned.config().tied_head);
  CHECK(std::equal(embedding.begin(), embedding.end(), turned.head().weight.data()));
  REQUIRE(turned.notes().size() == 1);
  CHECK_THAT(turned.notes()[0], contains("read from lm_head.weight"));
}

TEST_CASE("tensors that no weight takes are refused by name, harmless ones are ignored with a reason", "[checkpoint]") {
  const TemporaryDirectory folder;
  copy_llama(folder.path());
  const std::vector<float> values(4096, 1.0f);
  const auto some = [&](std::size_t n) { return std::span<const float>(values).first(n); };
  rewrite(folder.path(), [&](SafetensorsWriter& w) {
    w.add("model.layers.0.self_attn.rotary_emb.inv_freq", Shape{8}, some(8));
    w.add("model.rotary_emb.inv_freq", Shape{8}, some(8));
    w.add("model.layers.1.self_attn.masked_bias", Shape{1}, some(1));
    w.add("model.layers.1.self_attn.bias", Shape{1, 1, 4, 4}, some(16));
  });
  const LoadPlan plan = plan_load<Cpu, float>(folder.path());
  CHECK(plan.problems.empty());
  REQUIRE(plan.ignored.size() == 4);
  for (const IgnoredTensor& t : plan.ignored) CHECK_FALSE(t.reason.empty());
  CHECK(Model::from_pretrained(folder.path()).notes().empty());

  struct Stray {
    const char* name;
    Shape shape;
  };
  for (const Stray& stray :
       {Stray{"model.layers.0.self_attn.q_proj.bias", Shape{64}}, Stray{"model.layers.2.mlp.gate_proj.bias", Shape{96}},
        Stray{"model.layers.1.self_attn.bias", Shape{64}}, Stray{"model.layers.0.self_attn.q_norm.weight", Shape{16}},
        Stray{"model.layers.3.input_layernorm.weight", Shape{64}}, Stray{"model.norm.bias", Shape{64}},
        Stray{"lm_head.bias", Shape{320}}, Stray{"model.embed_tokens.bias", Shape{64}}, Stray{"extra", Shape{2}}}) {
    CAPTURE(stray.name);
    const TemporaryDirectory other;
    copy_llama(other.path());
    rewrite(other.path(), [&](SafetensorsWriter& w) {
      w.add(stray.name, stray.shape, some(static_cast<std::size_t>(stray.shape.count())));
    });
    CHECK_THAT(problems_of(other.path()), contains(concat("\"", stray.name, "\"")));
    CHECK_THAT(refusal([&] { Model::from_pretrained(other.path()); }), contains(concat("\"", stray.name, "\"")));
    CHECK_THAT(
        refusal([&] { Model::from_pretrained(other.path(), {.trainable = false, .weights = WeightStorage::in_file}); }),
        contains(stray.name));
  }
}

TEST_CASE("a stray tensor in a GGUF file is refused by name, an equal output.weight is the tied head", "[checkpoint]") {
  const GgufFile golden(reference_file("gguf/golden_llama.gguf"));
  const auto write = [&](const std::string& path, const std::string& name, const Shape& shape,
                         std::span<const std::byte> data) {
    GgufWriter writer(path);
    for (const GgufValue& v : golden.metadata()) writer.copy(v);
    for (const GgufTensor& t : golden.tensors())
      if (t.name != name) writer.add(t.name, t.type, t.shape, t.data);
    writer.add(name, GgufType::f32, shape, data);
    writer.commit();
  };
  const TemporaryDirectory dir;
  std::vector<float> ones(256, 1.0f);
  const auto bytes = [&](std::size_t n) { return std::as_bytes(std::span(ones).first(n)); };
  for (const char* name : {"blk.0.attn_q.scale", "blk.1.attn_norm.bias", "blk.2.attn_norm.weight", "output.bias",
                           "rope_factors_long.weight", "nothing"}) {
    CAPTURE(name);
    write(dir / "m.gguf", name, Shape{8}, bytes(8));
    CHECK_THAT(problems_of(dir / "m.gguf"), contains(name));
    CHECK_THAT(refusal([&] { Model::from_pretrained(dir / "m.gguf"); }), contains(name) && contains("m.gguf"));
  }
  const GgufTensor& embedding = golden.tensor("token_embd.weight");
  write(dir / "equal.gguf", "output.weight", embedding.shape, embedding.data);
  CHECK(Model::from_pretrained(dir / "equal.gguf").config().tied_head);
  write(dir / "other.gguf", "output.weight", embedding.shape, bytes(static_cast<std::size_t>(embedding.shape.count())));
  Model other = Model::from_pretrained(dir / "other.gguf");
  CHECK_FALSE(other.config().tied_head);
  CHECK(other.head().weight.data()[3] == 1.0f);
}

TEST_CASE("every tensor of every reference model has a target, and every row of a weight is filled once",
          "[checkpoint]") {
  std::vector<std::string> paths;
  for (const char* name : {"llama", "llama3_rope_bias", "qwen2", "qwen2_moe", "qwen2_window", "qwen3", "qwen3_moe",
                           "gpt_oss", "gpt_oss_mxfp4"})
    paths.push_back(reference_file(concat("models/", name)));
  for (const char* name : {"llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "gpt_oss"})
    paths.push_back(reference_file(concat("gguf/golden_", name, ".gguf")));
  for (const std::string& path : paths) {
    CAPTURE(path);
    const LoadPlan plan = plan_load<Cpu, float>(path);
    CHECK(plan.problems.empty());
    for (const PlannedWeight& w : plan.weights) {
      CAPTURE(w.name);
      std::vector<int> filled(static_cast<std::size_t>(w.shape.count() / w.tensors.front().rows.width), 0);
      for (const PlannedTensor& t : w.tensors) {
        if (t.decoding == TensorDecoding::mxfp4_scales) continue;
        for (std::int64_t r = 0; r < t.rows.rows; ++r) ++filled[static_cast<std::size_t>(t.rows.source(r))];
      }
      CHECK(filled == std::vector<int>(filled.size(), 1));
    }
  }
}

TEST_CASE("all problems are found at once, the first causes first", "[checkpoint]") {
  const TemporaryDirectory folder;
  copy_llama(folder.path());
  const std::vector<float> values(96 * 64);
  rewrite(
      folder.path(),
      [&](SafetensorsWriter& w) {
        w.add("stray", Shape{2}, std::span<const float>(values).first(2));
        w.add("model.layers.1.mlp.up_proj.weight", Shape{64, 96}, std::span<const float>(values));
      },
      [](const std::string& name) {
        return name != "model.layers.1.mlp.up_proj.weight" && name != "model.norm.weight";
      });
  const LoadPlan plan = plan_load<Cpu, float>(folder.path());
  REQUIRE(plan.problems.size() == 3);
  CHECK_THAT(plan.problems[0].text, contains("\"model.norm.weight\" [64] is missing"));
  CHECK_THAT(plan.problems[1].text, contains("config.json asks for [96, 64]"));
  CHECK_THAT(plan.problems[2].text, contains("\"stray\""));
  CHECK_THAT(refusal([&] { Model::from_pretrained(folder.path()); }),
             contains("model.norm.weight") && contains("and 2 problems more: `inspect " + folder.path()));
}

TEST_CASE("a weight that is not finite is named with model, tensor and row where it is rounded", "[checkpoint]") {
  const TemporaryDirectory folder;
  copy_llama(folder.path());
  Model model = Model::from_pretrained(folder.path());
  model.linears()[8]->weight()->value.data()[64 * 5 + 3] = std::nanf("");
  const std::string name = model.linears()[8]->path + ".weight";
  const std::string text = refusal([&] { quantize_linear(model, {.kind = PackedKind::int4, .group_size = 32}); });
  CHECK_THAT(text, contains(folder.path()) && contains(name) && contains("row 5") && contains("inspect"));
}
