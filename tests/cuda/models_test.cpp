// SPDX-License-Identifier: Apache-2.0
// Whole models on CUDA: the tiny models of every family against transformers' logits, loss, gradients and greedy text
// in float, and against the same weights in float on the CPU in bf16.
#include <algorithm>

#include "cuda/decoders.hpp"
#include "cuda/kernel_cases.hpp"
#include "kdlib/checkpoint/hf_experts.hpp"
#include "kdlib/rollout/head_logits.hpp"
#include "model/reference_models.hpp"

KDLIB_TEST_DECODERS(, float)
KDLIB_TEST_DECODERS(, kdlib::bf16)

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cuda, float>;
using Half = Decoder<Cuda, bf16>;
using Reference = Decoder<Cpu, float>;

namespace {
const std::vector<std::string> names = {"llama",   "llama3_rope_bias", "qwen2",     "qwen2_window",
                                        "qwen3",   "qwen3_moe",        "qwen2_moe", "gpt_oss",
                                        "mistral", "gemma2",           "gemma3"};

/// transformers keeps gpt-oss's experts [E, in, out].
std::vector<float> expected_gradient(const ReferenceModel& r, const Parameter<float, Cuda>& p, Family family) {
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

/// The values of every parameter that has a gradient, of its gradient.
template <class D, class T>
std::vector<float> gradients_of(Decoder<D, T>& model) {
  std::vector<float> all;
  for (Parameter<T, D>* p : model.parameters()) {
    REQUIRE(p->gradient);
    const std::vector<float> values = host_copy(View<const float, D>(p->gradient_view()));
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}
template <class A, class B>
double relative_error(const A& a, const B& b) {
  return a.size() == b.size() ? std::sqrt(normalised_square_error(a.data(), b.data(), b.size())) : 1e9;
}
template <class T>
bool same_bytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// What a pass over the batch and one back from a fixed gradient of the hidden states give.
template <class T>
struct Pass {
  std::vector<T> hidden;
  std::vector<float> logits, gradients;
};
template <class D, class T>
Pass<T> run_pass(Decoder<D, T>& model, const TokenBatch& batch, RoutingRecord* record, const RoutingRecord* replay) {
  model.zero_gradients();
  model.set_routing(model.experts() > 0 ? record : nullptr, model.experts() > 0 ? replay : nullptr);
  const Tensor<T, D> hidden = model.forward_training(batch);
  model.set_routing(nullptr);
  std::vector<T> push;  // bf16 numbers that have nothing to do with the states
  for (std::int64_t i = 0; i < hidden.count(); ++i)
    push.push_back(static_cast<T>(bf16(hash_value("gradient", static_cast<std::uint64_t>(i)))));
  const auto logits = head_logits(model.head(), hidden.view());
  Pass<T> out{host_copy(hidden.view()), {logits.data(), logits.data() + logits.count()}, {}};
  if (Parameter<T, D>* head = model.head_parameter(); head != nullptr) head->gradient_view();  // no loss adds to it
  const Buffer<T, D> on_device = placed<T, D>(push);
  model.backward({on_device.data(), hidden.shape()});
  out.gradients = gradients_of(model);
  return out;
}
}  // namespace

TEST_CASE("logits, loss and every gradient on CUDA equal transformers'", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  for (const std::string& name : names) {
    CAPTURE(name);
    const ReferenceModel r(name);
    Model model = Model::from_pretrained(r.path);
    const auto hidden = model.forward_training(r.tokens());
    CHECK(padded_difference(logits_of(model, hidden), r.floats("logits"), r.mask) < Tolerance<float>::model);
    const TokenBatch batch = r.tokens();
    const double loss = cross_entropy_backward(model, hidden, batch.rows(), batch.weight());
    CHECK(std::abs(loss - static_cast<double>(r.floats("loss")[0])) < Tolerance<float>::loss);
    for (Parameter<float, Cuda>* p : model.parameters()) {
      CAPTURE(p->name);
      const std::vector<float> expected = expected_gradient(r, *p, model.config().family),
                               got = host_copy(View<const float, Cuda>(p->gradient_view()));
      CHECK(scaled_difference(got.data(), expected.data(), expected.size()) < Tolerance<float>::gradient);
    }
  }
}

TEST_CASE("greedy text with the cache on CUDA equals transformers'", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
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

TEST_CASE("hidden states, logits and gradients in bf16 on CUDA are near those of the same weights in float on the CPU",
          "[cuda][bf16]") {
  KDLIB_NEEDS_DEVICE();
  for (const std::string& name : names) {
    CAPTURE(name);
    const ReferenceModel r(name);
    const TemporaryDirectory folder;  // weights that both types hold
    Reference::from_pretrained(r.path).save_pretrained(folder / "half", {.dtype = "bfloat16"});
    Reference reference = Reference::from_pretrained(folder / "half");
    Half model = Half::from_pretrained(folder / "half");
    const TokenBatch batch = r.tokens();
    RoutingRecord routing;  // bf16 follows float's choices, which may hang on the last bit
    const Pass<float> want = run_pass(reference, batch, &routing, nullptr);
    const Pass<bf16> got = run_pass(model, batch, nullptr, &routing), again = run_pass(model, batch, nullptr, &routing);
    CHECK(relative_error(got.hidden, want.hidden) <= 2e-2);
    CHECK(relative_error(got.logits, want.logits) <= 2e-2);
    CHECK(relative_error(got.gradients, want.gradients) <= 5e-2);
    CHECK(same_bytes(got.hidden, again.hidden));
    CHECK(same_bytes(got.logits, again.logits));
    CHECK(same_bytes(got.gradients, again.gradients));
    std::printf("[bf16 on CUDA] %s: hidden states %.4f, logits %.4f, gradients %.4f\n", name.c_str(),
                relative_error(got.hidden, want.hidden), relative_error(got.logits, want.logits),
                relative_error(got.gradients, want.gradients));
  }
}
