// SPDX-License-Identifier: Apache-2.0
// Models whose matrices stay in the mapped file give what decoded ones give: forward, decoding, losses, LoRA gradients,
// files.
#include <cmath>

#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/eval/perplexity.hpp"
#include "kdlib/model/adapter.hpp"
#include "model/reference_models.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/run_files.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

const char* const names[] = {"llama",     "llama3_rope_bias", "qwen2",         "qwen2_window", "qwen3",  "qwen3_moe",
                             "qwen2_moe", "gpt_oss",          "gpt_oss_mxfp4", "mistral",      "gemma2", "gemma3"};

Model load(const std::string& path, WeightStorage weights) {
  return Model::from_pretrained(path, {.trainable = false, .weights = weights});
}

}  // namespace

TEST_CASE("a model whose matrices stay in the file gives the decoded model's hidden states, logits and text",
          "[model][in_file]") {
  for (const char* name : names) {
    CAPTURE(name);
    const ReferenceModel r(name);
    Model decoded = load(r.path, WeightStorage::decoded), kept = load(r.path, WeightStorage::in_file);
    CHECK(kept.notes() == decoded.notes());
    CHECK(decoded.packed_weights().empty());
    CHECK(kept.packed_weights().size() >= decoded.linears().size() + 1);
    for (const Parameter<float, Cpu>* p : kept.parameters())
      CHECK((p->value.shape().rank() == 1 || p->name.find(".mlp.") != std::string::npos));
    const auto a = decoded.forward(r.tokens()), b = kept.forward(r.tokens());
    CHECK(max_difference(a.data(), b.data(), static_cast<std::size_t>(a.count())) < Tolerance<float>::model);
    const std::vector<float> x = logits_of(decoded, a), y = logits_of(kept, b);
    CHECK(max_difference(x.data(), y.data(), x.size()) < Tolerance<float>::model);
    const std::vector<std::int32_t> prompt = {3, 1, 4};
    CHECK(greedy(kept, prompt, 12) == greedy(decoded, prompt, 12));
    Model second = kept.share();
    const auto c = second.forward(r.tokens());
    CHECK(max_difference(b.data(), c.data(), static_cast<std::size_t>(b.count())) == 0);
  }
}

TEST_CASE("GGUF files of every architecture give the same mapped and decoded", "[model][in_file][gguf]") {
  for (const char* name : {"llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "gpt_oss"}) {
    CAPTURE(name);
    const std::string path = reference_file(concat("gguf/golden_", name, ".gguf"));
    Model decoded = load(path, WeightStorage::decoded), kept = load(path, WeightStorage::in_file);
    CHECK(kept.notes() == decoded.notes());
    TokenBatch batch;
    batch.append(std::vector<std::int32_t>{1, 2, 3, 4, 5, 6, 7});
    const auto a = decoded.forward(batch), b = kept.forward(batch);
    CHECK(max_difference(a.data(), b.data(), static_cast<std::size_t>(a.count())) < Tolerance<float>::model);
    std::size_t found = 0;
    for (const PackedWeight<Cpu, float>& w : kept.packed_weights()) {
      const Parameter<float, Cpu>* p = decoded.find_parameter(w.name);
      REQUIRE((p != nullptr && p->value.shape() == w.shape));
      CHECK(max_difference(p->value.data(), w.matrix->decode_all().data(), static_cast<std::size_t>(w.shape.count())) ==
            0);
      ++found;
    }
    CHECK(found > decoded.linears().size());
  }
}

TEST_CASE("a GGUF file that stays mapped gives the decoded model's logits and text", "[model][in_file][gguf]") {
  const std::string path = reference_file("gguf/tiny_llama_q8_0.gguf");
  Model decoded = load(path, WeightStorage::decoded), kept = load(path, WeightStorage::in_file);
  CHECK(kept.notes().empty());
  CHECK(kept.packed_weights().front().matrix->description() == "Q8_0 in the file");
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{1, 2, 3, 4, 5, 6, 7, 8, 9});
  const auto a = decoded.forward(batch), b = kept.forward(batch);
  CHECK(max_difference(a.data(), b.data(), static_cast<std::size_t>(a.count())) < Tolerance<float>::model);
  CHECK(greedy(kept, {1, 2, 3}, 20) == greedy(decoded, {1, 2, 3}, 20));
  const double x = perplexity(decoded, batch).value(), y = perplexity(kept, batch).value();
  CHECK(std::fabs(x / y - 1) < Tolerance<float>::loss);
}

TEST_CASE("values are bit-equal: what an in-file model saves is what the decoded one saves", "[model][in_file]") {
  for (const char* name : names) {
    CAPTURE(name);
    const TemporaryDirectory folder;
    const std::string path = reference_file(concat("models/", name));
    load(path, WeightStorage::decoded).save_pretrained(folder / "decoded");
    load(path, WeightStorage::in_file).save_pretrained(folder / "kept");
    const SafetensorsDirectory a(folder / "decoded"), b(folder / "kept");
    REQUIRE(a.tensors().size() == b.tensors().size());
    for (const TensorInfo* t : a.tensors()) {
      CAPTURE(t->name);
      CHECK(read_as<float>(*t) == read_as<float>(b.at(t->name)));
    }
  }
}

TEST_CASE("LoRA over matrices in the file trains as over decoded ones", "[model][in_file][lora]") {
  for (const char* name : {"llama", "qwen2_moe"}) {
    CAPTURE(name);
    const ReferenceModel r(name);
    Model decoded = load(r.path, WeightStorage::decoded), kept = load(r.path, WeightStorage::in_file);
    std::vector<double> losses;
    for (Model* m : {&decoded, &kept}) {
      add_lora(*m, {.rank = 4, .alpha = 8});
      for (Linear<Cpu, float>* l : m->linears()) {  // B is 0 at the start
        float* b = l->lora->b.value.data();
        for (std::int64_t i = 0; i < l->lora->b.value.count(); ++i) b[i] = 0.01f * static_cast<float>(i % 7 - 3);
      }
      const TokenBatch batch = r.tokens();
      const auto hidden = m->forward_training(batch);
      const auto rows = batch.rows();
      losses.push_back(cross_entropy_backward(*m, hidden, rows, static_cast<double>(rows.token.size())));
    }
    CHECK(std::fabs(losses[0] - losses[1]) < Tolerance<float>::loss);
    std::size_t compared = 0;
    const auto gradients = kept.parameters();
    for (const Parameter<float, Cpu>* p : gradients) {
      if (!p->trainable) continue;
      CAPTURE(p->name);
      const Parameter<float, Cpu>* q = decoded.find_parameter(p->name);
      REQUIRE((q != nullptr && q->gradient));
      double top = 0;
      for (std::int64_t i = 0; i < q->gradient.count(); ++i)
        top = std::max(top, std::fabs(static_cast<double>(q->gradient.data()[i])));
      CHECK(max_difference(p->gradient.data(), q->gradient.data(), static_cast<std::size_t>(q->gradient.count())) <
            Tolerance<float>::gradient * (top + 1e-6));
      ++compared;
    }
    CHECK(compared == 2 * kept.linears().size());
    CHECK(refusal([&] { merge_adapter(kept); }).find("in the file") != std::string::npos);
  }
}

TEST_CASE("experts in MXFP4 keep their four bits in memory", "[model][in_file][experts]") {
  const std::string path = reference_file("models/gpt_oss_mxfp4");
  const std::int64_t before = memory_use<Cpu>().now.load();
  Model kept = load(path, WeightStorage::in_file);
  const std::int64_t used = memory_use<Cpu>().now.load() - before;
  std::int64_t experts = 0, stored = 0;
  for (const PackedWeight<Cpu, float>& w : kept.packed_weights())
    if (w.name.find(".experts.") != std::string::npos) {
      CHECK(w.matrix->description() == "MXFP4 in the file");
      experts += w.shape.count() * 4;
      stored += w.matrix->bytes();
    }
  CHECK(stored * 128 == experts * 17);
  CHECK(used < experts / 4);
  CHECK(kept.find_parameter("model.layers.0.mlp.experts.down_proj") == nullptr);
}

TEST_CASE("in-file weights that should train are refused", "[model][in_file]") {
  const std::string path = reference_file("models/llama");
  CHECK(refusal([&] {
          Model::from_pretrained(path, {.trainable = true, .weights = WeightStorage::in_file});
        }).find("trainable = false") != std::string::npos);
  const TemporaryDirectory folder;
  Model kept = load(path, WeightStorage::in_file);
  CHECK(kept.head_parameter() == nullptr);
  CHECK(kept.find_parameter("model.embed_tokens.weight") == nullptr);
}
