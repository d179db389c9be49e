// SPDX-License-Identifier: Apache-2.0
// Tiny random models against transformers: logits, loss, every gradient, padding on either side, greedy text, decoding.
#include <algorithm>

#include "kdlib/checkpoint/hf_experts.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "reference_models.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {
const std::vector<std::string> names = {"llama",   "llama3_rope_bias", "qwen2",        "qwen2_window",
                                        "qwen3",   "qwen3_moe",        "qwen2_moe",    "gpt_oss",
                                        "mistral", "gemma2",           "gemma2_scale", "gemma3"};

/// transformers keeps gpt-oss's experts [E, in, out].
std::vector<float> expected_gradient(const ReferenceModel& r, const Parameter<float, Cpu>& p, Family family) {
  const std::vector<float> given = r.floats("grad." + p.name);
  if (family != Family::gpt_oss || !detail::is_expert_tensor(p.name)) return given;
  const auto e = static_cast<std::size_t>(p.value[0]), out = static_cast<std::size_t>(p.value[1]),
             in = static_cast<std::size_t>(p.value[2]);
  std::vector<float> turned(given.size());
  for (std::size_t x = 0; x < e; ++x)
    for (std::size_t o = 0; o < out; ++o)
      for (std::size_t i = 0; i < in; ++i) turned[(x * out + o) * in + i] = given[(x * in + i) * out + o];
  return turned;
}
}  // namespace

TEST_CASE("logits, loss and every gradient equal transformers'", "[model][reference]") {
  for (const std::string& name : names)
    for (const bool recompute : {false, true}) {
      CAPTURE(name, recompute);
      const ReferenceModel r(name);
      Model model = Model::from_pretrained(r.path);
      CHECK(model.notes().empty());
      const TokenBatch batch = r.tokens();
      const auto hidden = model.forward_training(batch, {.recompute = recompute});
      CHECK(padded_difference(logits_of(model, hidden), r.floats("logits"), r.mask) < Tolerance<float>::model);
      const double loss = cross_entropy_backward(model, hidden, batch.rows(), batch.weight());
      CHECK(std::abs(loss - static_cast<double>(r.floats("loss")[0])) < Tolerance<float>::loss);
      std::size_t compared = 0;
      for (Parameter<float, Cpu>* p : model.parameters()) {
        CAPTURE(p->name);
        const std::vector<float> expected = expected_gradient(r, *p, model.config().family);
        REQUIRE(expected.size() == static_cast<std::size_t>(p->value.count()));
        CHECK(scaled_difference(p->gradient_view().data(), expected.data(), expected.size()) <
              Tolerance<float>::gradient);
        ++compared;
      }
      std::size_t given = 0;
      for (const TensorInfo& t : r.expected.tensors()) given += t.name.starts_with("grad.") ? 1u : 0u;
      CHECK(compared == given);
    }
}

TEST_CASE("left padding gives the same logits as right padding", "[model][reference]") {
  for (const std::string& name : names) {
    CAPTURE(name);
    const ReferenceModel r(name);
    Model model = Model::from_pretrained(r.path);
    const auto left_mask = r.longs("left_mask");
    const TokenBatch left = TokenBatch::from_padded(r.longs("left_ids"), left_mask, r.batch, r.length);
    const std::vector<float> logits = logits_of(model, model.forward(left));
    CHECK(padded_difference(logits, r.floats("left_logits"), left_mask) < Tolerance<float>::model);
    CHECK(logits == logits_of(model, model.forward(r.tokens())));
  }
}

TEST_CASE("greedy text with the cache equals transformers'", "[model][reference]") {
  for (const std::string& name : names) {
    CAPTURE(name);
    const ReferenceModel r(name);
    Model model = Model::from_pretrained(r.path);
    const auto prompt = r.longs("prompt"), wanted = r.longs("generated");
    const std::vector<std::int32_t> ids =
        greedy(model, std::vector<std::int32_t>(prompt.begin(), prompt.end()), wanted.size());
    CHECK(std::equal(ids.begin(), ids.end(), wanted.begin(), wanted.end()));
  }
}

TEST_CASE("decoding in pieces equals the full forward", "[model][decode]") {
  for (const std::string& name : names) {
    CAPTURE(name);
    const ReferenceModel r(name);
    Model model = Model::from_pretrained(r.path);
    const TokenBatch batch = r.tokens();
    const auto full = model.forward(batch);
    auto cache = model.make_cache(r.batch + 1, r.length);
    std::vector<std::int64_t> done(static_cast<std::size_t>(r.batch), 0);
    for (int round = 0;;
         ++round) {  // ragged pieces: document b takes 1 + (b + round) % 9 tokens at a time, slots in reverse order
      TokenBatch piece;
      std::vector<std::int32_t> slots;
      std::vector<std::int64_t> rows;
      for (std::int64_t b = r.batch - 1; b >= 0; --b) {
        std::int64_t& at = done[static_cast<std::size_t>(b)];
        const std::int64_t count = std::min(batch.length(b) - at, std::int64_t{1} + (b + round) % 9);
        if (count <= 0) continue;
        const std::int64_t begin = batch.offsets[static_cast<std::size_t>(b)] + at;
        piece.append(std::span<const std::int32_t>(batch.ids).subspan(static_cast<std::size_t>(begin),
                                                                      static_cast<std::size_t>(count)));
        slots.push_back(static_cast<std::int32_t>(r.batch - b));
        for (std::int64_t i = 0; i < count; ++i) rows.push_back(begin + i);
        at += count;
      }
      if (slots.empty()) break;
      const auto hidden = model.decode(cache, piece, slots);
      for (std::size_t i = 0; i < rows.size(); ++i)
        CHECK(max_difference(hidden.rows(static_cast<std::int64_t>(i), 1).data(), full.rows(rows[i], 1).data(),
                             static_cast<std::size_t>(model.hidden_size())) < Tolerance<float>::reduction * 5);
    }
  }
}

TEST_CASE("a saved model loads to the same logits, dtype and unknown keys kept", "[model][save]") {
  for (const std::string& name : names) {
    CAPTURE(name);
    const ReferenceModel r(name);
    Model model = Model::from_pretrained(r.path);
    const TemporaryDirectory folder;
    model.save_pretrained(folder / "one");
    model.save_pretrained(folder / "shards", {.dtype = {}, .shard_bytes = 100000});
    CHECK_FALSE(exists(folder / "shards/model.safetensors"));
    const auto expected = model.forward(r.tokens());
    for (const char* form : {"one", "shards"}) {
      Model again = Model::from_pretrained(folder / form);
      CHECK(again.notes().empty());
      const auto hidden = again.forward(r.tokens());
      CHECK(max_difference(hidden.data(), expected.data(), static_cast<std::size_t>(expected.count())) == 0);
    }
    const Json before = Json::parse_file(r.path + "/config.json"), after = Json::parse_file(folder / "one/config.json");
    CHECK(before.size() == after.size());
    CHECK(after.at("transformers_version").as_string() == before.at("transformers_version").as_string());
    model.save_pretrained(folder / "half", {.dtype = "bfloat16", .shard_bytes = 1 << 30});
    Model half = Model::from_pretrained(folder / "half");
    CHECK(half.config().dtype == "bfloat16");
    const Parameter<float, Cpu>*a = model.find_parameter("model.norm.weight"),
                           *b = half.find_parameter("model.norm.weight");
    CHECK(b->value.data()[5] == static_cast<float>(bf16(a->value.data()[5])));
  }
}
