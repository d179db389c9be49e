// SPDX-License-Identifier: Apache-2.0
// A decoder with packed linear maps: the same function as one whose weights were rounded, gradients for LoRA through
// packed weights.
#include "kdlib/model/quantize.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/save.hpp"

#include "kdlib/model/adapter.hpp"
#include "reference_models.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

TEST_CASE("a packed model computes what a rounded dense model computes, gradients of LoRA included", "[model][quant]") {
  const ReferenceModel r("qwen3");
  const QuantizeSettings formats[] = {{.group_size = 32},
                                      {.group_size = 32, .rule = Int4Rule::affine},
                                      {.kind = PackedKind::nf4, .double_quantized = true},
                                      {.kind = PackedKind::fp4},
                                      {.kind = PackedKind::mxfp4, .group_size = 32},
                                      {.kind = PackedKind::int8, .group_size = 32},
                                      {.kind = PackedKind::int3, .group_size = 32}};
  for (const QuantizeSettings& format : formats) {
    CAPTURE(describe(format));
    Model packed = Model::from_pretrained(r.path), dense = Model::from_pretrained(r.path);
    const std::size_t parameters = packed.parameters().size();
    const QuantizeReport report = quantize_linear(packed, format);
    CHECK(report.matrices == 21);
    CHECK(packed.parameters().size() == parameters - 21);
    CHECK(report.relative_error > (format.kind == PackedKind::int8 ? 0.001 : 0.02));
    CHECK(report.relative_error < (format.kind == PackedKind::int3 ? 0.3 : 0.2));
    for (std::size_t i = 0; i < 21; ++i)
      dense.linears()[i]->weight()->value = packed.linears()[i]->packed()->decode_all();
    std::vector<Model*> both = {&packed, &dense};
    std::vector<Tensor<float, Cpu>> hidden;
    const TokenBatch batch = r.tokens();
    for (Model* m : both) {
      add_lora(*m, {.rank = 4, .alpha = 8, .seed = 7});
      for (Parameter<float, Cpu>* p : m->parameters())
        if (p->name.ends_with("lora_B.weight"))
          for (std::int64_t i = 0; i < p->value.count(); ++i)
            p->value.data()[i] = 0.01f * static_cast<float>((i * 7) % 11 - 5);
      hidden.push_back(m->forward_training(batch));
      cross_entropy_backward(*m, hidden.back(), batch.rows(), batch.weight());
    }
    CHECK(max_difference(hidden[0].data(), hidden[1].data(), static_cast<std::size_t>(hidden[0].count())) <
          Tolerance<float>::model);
    for (Parameter<float, Cpu>* p : packed.parameters()) {
      if (!p->trainable) continue;
      CAPTURE(p->name);
      Parameter<float, Cpu>* q = dense.find_parameter(p->name);
      CHECK(scaled_difference(p->gradient_view().data(), q->gradient_view().data(),
                              static_cast<std::size_t>(p->value.count())) < Tolerance<float>::gradient);
    }
    const std::vector<std::int32_t> prompt(batch.ids.begin(), batch.ids.begin() + 6);
    CHECK(greedy(packed, prompt, 8) == greedy(dense, prompt, 8));
    CHECK_THROWS_WITH(merge_adapter(packed), contains("is packed ("));
    remove_adapter(packed);
    const TemporaryDirectory folder;
    packed.save_pretrained(folder.path());
    Model decoded = Model::from_pretrained(folder.path());
    remove_adapter(dense);
    CHECK(max_difference(decoded.forward(batch).data(), dense.forward(batch).data(), 100) == 0);
  }
}

TEST_CASE("a shared model keeps the first one's weights while its own are rounded", "[model][quant]") {
  const ReferenceModel r("llama");
  Model teacher = Model::from_pretrained(r.path);
  const auto before = teacher.forward(r.tokens());
  Model student = teacher.share();
  CHECK(student.head().weight.data() == teacher.head().weight.data());
  quantize_linear(student, {.kind = PackedKind::int4, .group_size = 32, .rule = Int4Rule::symmetric});
  add_lora(student, {.rank = 2, .alpha = 2});
  const auto after = teacher.forward(r.tokens()), rounded = student.forward(r.tokens());
  CHECK(max_difference(before.data(), after.data(), static_cast<std::size_t>(before.count())) == 0);
  CHECK(max_difference(before.data(), rounded.data(), static_cast<std::size_t>(before.count())) > 1e-3);
}

TEST_CASE("rounding is refused where it cannot be done", "[model][quant]") {
  Model model = Model::from_config(golden_config(Family::llama), 1);
  CHECK_THROWS_WITH(quantize_linear(model, {.kind = PackedKind::nf4, .group_size = 48}), contains("power of two"));
  quantize_linear(model, {.kind = PackedKind::int4, .group_size = 4});
  CHECK_THROWS_WITH(quantize_linear(model, {.kind = PackedKind::int4, .group_size = 4}), contains("packed already"));
}
