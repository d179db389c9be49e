// SPDX-License-Identifier: Apache-2.0
// Decoder<Cpu, bf16> beside Decoder<Cpu, float> of the same files: every family, loading, generation, adapters.
#include <algorithm>
#include <cstring>

#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/loss/head_loss.hpp"
#include "kdlib/model/adapter.hpp"
#include "kdlib/model/quantize.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/rollout/generate.hpp"
#include "reference_models.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Half = Decoder<Cpu, bf16>;
using Full = Decoder<Cpu, float>;

namespace {
const std::vector<std::string> names = {"llama",   "llama3_rope_bias", "qwen2",     "qwen2_window",
                                        "qwen3",   "qwen3_moe",        "qwen2_moe", "gpt_oss",
                                        "mistral", "gemma2",           "gemma3"};
// ||a - b|| / ||b||: a few layers of roundings to 8 bits, there and back.
constexpr double model_tolerance = 2e-2, gradient_tolerance = 5e-2;

template <class A, class B>
double relative_error(const A& a, const B& b) {
  return std::sqrt(normalised_square_error(a.data(), b.data(), static_cast<std::size_t>(b.count())));
}

/// The reference model as a directory in bfloat16: both models then have the same weights.
std::string rounded_copy(const ReferenceModel& r, const TemporaryDirectory& folder) {
  Full::from_pretrained(r.path).save_pretrained(folder / "half", {.dtype = "bfloat16", .shard_bytes = 1 << 30});
  return folder / "half";
}

template <class T>
HeadLossResult teach(Decoder<Cpu, T>& model, const Tensor<T, Cpu>& hidden, const Tensor<T, Cpu>& teacher,
                     const TokenBatch& batch, Tensor<T, Cpu>& gradient) {
  gradient = Tensor<T, Cpu>(hidden.shape());
  const std::vector<float> weights(batch.ids.size(), 1.0f);
  return head_loss(ForwardKl{}, model.head(), hidden.view(),
                   HiddenTargets<T, Cpu>{std::as_const(teacher).view(), model.head()}, RowInputs{{}, weights, {}},
                   1.0 / static_cast<double>(batch.tokens()), gradient.view(), model.head_parameter());
}
}  // namespace

TEST_CASE("hidden states, logits and gradients in bf16 are near those in float32, every family", "[model][bf16]") {
  for (const std::string& name : names) {
    CAPTURE(name);
    const ReferenceModel r(name);
    const TemporaryDirectory folder;
    const std::string path = rounded_copy(r, folder);
    Full full = Full::from_pretrained(path, {.trainable = true});
    Half half = Half::from_pretrained(path, {.trainable = true});
    const TokenBatch batch = r.tokens();
    RoutingRecord routing;  // bf16 follows float32's choices, which may hang on the last bit
    full.set_routing(full.experts() > 0 ? &routing : nullptr);
    const auto a = full.forward_training(batch);
    full.set_routing(nullptr);
    half.set_routing(nullptr, full.experts() > 0 ? &routing : nullptr);
    const auto b = half.forward_training(batch);
    CHECK(relative_error(b, a) <= model_tolerance);
    CHECK(relative_error(head_logits(half.head(), std::as_const(b).view()),
                         head_logits(full.head(), std::as_const(a).view())) <= model_tolerance);
    // One gradient for both, of bf16 numbers that have nothing to do with the states.
    Tensor<float, Cpu> g(a.shape());
    Tensor<bf16, Cpu> rounded(g.shape());
    for (std::int64_t i = 0; i < g.count(); ++i) {
      rounded.data()[i] = bf16(hash_value("gradient", static_cast<std::uint64_t>(i)));
      g.data()[i] = rounded.data()[i];
    }
    full.backward(g.view()), half.backward(rounded.view());
    double square = 0, difference = 0;
    const auto p = full.parameters();
    const auto q = half.parameters();
    REQUIRE(p.size() == q.size());
    for (std::size_t i = 0; i < p.size(); ++i)
      for (std::int64_t j = 0; p[i]->gradient && j < p[i]->value.count(); ++j) {
        const double x = static_cast<double>(p[i]->gradient.data()[j]),
                     y = static_cast<double>(q[i]->gradient.data()[j]);
        square += x * x, difference += (x - y) * (x - y);
      }
    CHECK(square > 0);
    std::printf("[bf16] %s: hidden states %.4f, gradients %.4f\n", name.c_str(), relative_error(b, a),
                std::sqrt(difference / square));
    CHECK(std::sqrt(difference / square) <= gradient_tolerance);
  }
}

TEST_CASE("bf16 repeats its bits, writes what its own logits say, and is nowhere apart from itself", "[model][bf16]") {
  for (const char* name : {"llama", "qwen3_moe", "gpt_oss", "gemma2"}) {
    CAPTURE(name);
    const ReferenceModel r(name);
    Half model = Half::from_pretrained(r.path, {.trainable = false}),
         again = Half::from_pretrained(r.path, {.trainable = false});
    const TokenBatch batch = r.tokens();
    const auto hidden = model.forward(batch), same = again.forward(batch);
    CHECK(std::memcmp(hidden.data(), same.data(), static_cast<std::size_t>(hidden.bytes())) == 0);
    Tensor<bf16, Cpu> gradient;
    const HeadLossResult loss = teach(model, hidden, same, batch, gradient);
    CHECK(loss.loss.sum == 0);
    bool zero = true;
    for (std::int64_t i = 0; i < gradient.count(); ++i) zero = zero && static_cast<float>(gradient.data()[i]) == 0;
    CHECK(zero);
    // Greedy text: each token is the largest logit of a pass over everything before, or within a rounding of it.
    const std::vector<std::int32_t> prompt(batch.ids.begin(), batch.ids.begin() + 5);
    std::vector<std::int32_t> text = prompt;
    for (const std::int32_t id : greedy(model, prompt, 12)) {
      TokenBatch whole;
      whole.append(text);
      const auto states = model.forward(whole);
      const auto logits = head_logits(model.head(), View<const bf16, Cpu>(states.rows(states[0] - 1, 1)));
      const float* z = logits.data();
      const float largest = *std::max_element(z, z + logits.count());
      CHECK(z[id] >= largest - 0.05f * std::max(1.0f, std::abs(largest)));
      text.push_back(id);
    }
  }
}

TEST_CASE("a bf16 file is loaded without a change, and an adapter trained in bf16 keeps float32 in its file",
          "[model][bf16]") {
  const ReferenceModel r("qwen3");
  const TemporaryDirectory folder;
  Half model = Half::from_pretrained(rounded_copy(r, folder), {.trainable = false});
  const SafetensorsFile file(folder / "half/model.safetensors");
  for (Parameter<bf16, Cpu>* p : model.parameters()) {
    CAPTURE(p->name);
    const TensorInfo& t = file.at(p->name);
    REQUIRE(t.data.size() == static_cast<std::size_t>(p->value.bytes()));
    CHECK(std::memcmp(t.data.data(), p->value.data(), t.data.size()) == 0);
    CHECK(!p->master);
  }
  add_lora(model, {.rank = 4, .alpha = 8, .targets = {"q_proj", "down_proj"}});
  auto optimiser = AdamW{}.state<bf16, Cpu>(trainable_parameters(model));
  const TokenBatch batch = r.tokens();
  for (int step = 0; step < 3; ++step) {
    model.zero_gradients();
    const auto hidden = model.forward_training(batch);
    Tensor<bf16, Cpu> gradient = hidden.clone();
    model.backward(gradient.view());
    optimiser.step(1e-6);  // far below the rounding of most values
  }
  save_adapter(model, folder / "adapter");
  const SafetensorsFile adapter(folder / "adapter/adapter_model.safetensors");
  double moved = 0;
  for (Parameter<bf16, Cpu>* p : trainable_parameters(model)) {
    const std::vector<float> stored = read_as<float>(adapter.at(p->name));
    REQUIRE(p->master);
    for (std::size_t i = 0; i < stored.size(); ++i) {
      CHECK(stored[i] == p->master.data()[i]);
      CHECK(p->value.data()[i].bits == bf16(stored[i]).bits);
      moved = std::max(moved, std::abs(static_cast<double>(stored[i]) - static_cast<double>(p->value.data()[i])));
    }
  }
  CHECK(moved > 0);
  Half other = Half::from_pretrained(folder / "half", {.trainable = false});
  load_adapter(other, folder / "adapter");
  const auto x = model.forward(batch), y = other.forward(batch);
  CHECK(std::memcmp(x.data(), y.data(), static_cast<std::size_t>(x.bytes())) == 0);
}

TEST_CASE("weights in codes and in their file work under bf16", "[model][bf16]") {
  const ReferenceModel r("llama");
  const TokenBatch batch = r.tokens();
  const TemporaryDirectory folder;
  const std::string path = rounded_copy(r, folder);
  Full full = Full::from_pretrained(path, {.trainable = false});
  Half half = Half::from_pretrained(path, {.trainable = false}),
       in_file = Half::from_pretrained(path, {.trainable = false, .weights = WeightStorage::in_file});
  CHECK(relative_error(in_file.forward(batch), full.forward(batch)) <= model_tolerance);
  const QuantizeSettings int4{.kind = PackedKind::int4, .group_size = 32};
  Full rounded = Full::from_pretrained(path, {.trainable = false});
  quantize_linear(rounded, int4), quantize_linear(half, int4);
  CHECK(relative_error(half.forward(batch), rounded.forward(batch)) <= model_tolerance);
}
