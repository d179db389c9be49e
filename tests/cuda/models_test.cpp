// SPDX-License-Identifier: Apache-2.0
// Whole models on CUDA: the tiny models of every family against transformers' logits, loss, gradients and greedy text.
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/kdlib.hpp"

#include "cuda/kernel_cases.hpp"
#include "kdlib/backend/cuda/rows.hpp"
#include "model/reference_models.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cuda, float>;

namespace {
const std::vector<std::string> names = {"llama", "llama3_rope_bias", "qwen2",     "qwen2_window",
                                        "qwen3", "qwen3_moe",        "qwen2_moe", "gpt_oss"};

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
