// SPDX-License-Identifier: Apache-2.0
// Students trained through codes: gradients of what is trained, codes that follow it, and exports that are what was
// trained.
#include <cmath>

#include "kdlib/autograd/grad_check.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/model/adapter.hpp"
#include "kdlib/model/quantize.hpp"
#include "kdlib/optim/adamw.hpp"
#include "reference_models.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

/// The student of one kind of training, ready to train.
Model make_student(const std::string& path, const std::string& kind, const QuantizeSettings& format,
                   StraightThrough rule = StraightThrough::identity) {
  Model m = Model::from_pretrained(path);
  if (kind == "qat_lora") add_lora(m, {.rank = 4, .alpha = 8, .seed = 7});
  const TrainedPart part = kind == "all"        ? TrainedPart::weights
                           : kind == "qat_lora" ? TrainedPart::adapter
                                                : TrainedPart::scales;
  quantize_student(m, format, {.trains = part, .straight_through = rule});
  return m;
}

/// Some optimiser steps of cross-entropy; gives the hidden states that the student has then.
Tensor<float, Cpu> train(Model& m, const TokenBatch& batch, int steps) {
  std::vector<Parameter<float, Cpu>*> trained;
  for (Parameter<float, Cpu>* p : m.parameters())
    if (p->trainable) trained.push_back(p);
  auto state = AdamW{}.state<float, Cpu>(trained, std::vector<double>(trained.size(), 1.0));
  for (int i = 0; i < steps; ++i) {
    for (Parameter<float, Cpu>* p : trained) p->zero_gradient();
    const auto hidden = m.forward_training(batch);
    cross_entropy_backward(m, hidden, batch.rows(), batch.weight());
    state.step(3e-3, 1.0);
  }
  return m.forward(batch);
}

double worst(const Tensor<float, Cpu>& a, const Tensor<float, Cpu>& b) {
  return max_difference(a.data(), b.data(), static_cast<std::size_t>(a.count()));
}

}  // namespace

TEST_CASE("what a quantised student exports is what was trained, and what it writes text with", "[model][quant]") {
  const ReferenceModel r("llama");
  const TokenBatch batch = r.tokens();
  const QuantizeSettings formats[] = {{.group_size = 32},
                                      {.group_size = 32, .rule = Int4Rule::affine},
                                      {.kind = PackedKind::nf4, .group_size = 32},
                                      {.kind = PackedKind::int3, .group_size = 32}};
  for (const QuantizeSettings& format : formats)
    for (const std::string kind : {"all", "qat_lora", "scales"}) {
      CAPTURE(kind, describe(format));
      Model student = make_student(r.path, kind, format);
      const auto before = student.forward(batch).clone();
      const auto trained = train(student, batch, 4);
      CHECK(worst(before, trained) > 1e-3);
      const TemporaryDirectory folder;
      student.save_pretrained(folder.path(), {.dtype = "float32"});
      Model exported = Model::from_pretrained(folder.path());
      for (std::size_t i = 0; i < exported.linears().size(); ++i) {
        const auto values = student.linears()[i]->packed()->decode_all();
        CHECK(worst(values, exported.linears()[i]->weight()->value) == 0);
      }
      CHECK(worst(exported.forward(batch), trained) < Tolerance<float>::model);
      const std::vector<std::int32_t> prompt(batch.ids.begin(), batch.ids.begin() + 6);
      CHECK(greedy(student, prompt, 8) == greedy(exported, prompt, 8));
    }
}

TEST_CASE("straight-through gradients are those of the decoded weights, and of an adapter on them", "[model][quant]") {
  const ReferenceModel r("llama");
  const TokenBatch batch = r.tokens();
  for (const std::string kind : {"all", "qat_lora"}) {
    CAPTURE(kind);
    Model student = make_student(r.path, kind, {.group_size = 32});
    if (kind == "qat_lora") {
      for (Parameter<float, Cpu>* p : student.parameters())
        if (p->name.ends_with("lora_B.weight"))
          for (std::int64_t i = 0; i < p->value.count(); ++i)
            p->value.data()[i] = 0.01f * static_cast<float>((i * 7) % 11 - 5);
    }
    const auto hidden = student.forward_training(batch);
    cross_entropy_backward(student, hidden, batch.rows(), batch.weight());
    Model dense = Model::from_pretrained(r.path);  // all its weights are the codes' values: its weight gradient is G
    for (std::size_t i = 0; i < dense.linears().size(); ++i)
      dense.linears()[i]->weight()->value = student.linears()[i]->packed()->decode_all();
    cross_entropy_backward(dense, dense.forward_training(batch), batch.rows(), batch.weight());
    for (std::size_t i = 0; i < dense.linears().size(); ++i) {
      Linear<Cpu, float>&s = *student.linears()[i], &d = *dense.linears()[i];
      CAPTURE(s.path);
      const float* g = d.weight()->gradient_view().data();
      if (kind == "all") {
        CHECK(scaled_difference(s.weight()->gradient_view().data(), g, static_cast<std::size_t>(d.out * d.in)) <
              Tolerance<float>::gradient);
        continue;
      }
      using K = Kernels<Cpu, float>;
      const std::int64_t rank = s.lora->rank;
      Tensor<float, Cpu> a(Shape{rank, s.in}), b(Shape{s.out, rank});
      const auto scale = static_cast<float>(s.lora->scale);
      K::gemm(true, false, rank, s.in, s.out, scale, s.lora->b.value.data(), rank, g, s.in, 0.0f, a.data(), s.in);
      K::gemm(false, true, s.out, rank, s.in, scale, g, s.in, s.lora->a.value.data(), s.in, 0.0f, b.data(), rank);
      CHECK(scaled_difference(s.lora->a.gradient_view().data(), a.data(), static_cast<std::size_t>(a.count())) <
            Tolerance<float>::gradient);
      CHECK(scaled_difference(s.lora->b.gradient_view().data(), b.data(), static_cast<std::size_t>(b.count())) <
            Tolerance<float>::gradient);
    }
  }
}

TEST_CASE("gradients of an adapter in the codes are the same by way of the weight's gradient, clipped codes aside",
          "[model][quant]") {
  const ReferenceModel r("llama");
  const TokenBatch batch = r.tokens();
  Model plain = make_student(r.path, "qat_lora", {.kind = PackedKind::int8, .group_size = 32}),
        clipped =
            make_student(r.path, "qat_lora", {.kind = PackedKind::int8, .group_size = 32}, StraightThrough::clipped);
  for (Model* m : {&plain, &clipped})
    cross_entropy_backward(*m, m->forward_training(batch), batch.rows(), batch.weight());
  double largest = 0;
  for (Parameter<float, Cpu>* p : plain.parameters()) {
    if (!p->name.ends_with("lora_B.weight")) continue;
    Parameter<float, Cpu>* q = clipped.find_parameter(p->name);
    const double d = scaled_difference(q->gradient_view().data(), p->gradient_view().data(),
                                       static_cast<std::size_t>(p->value.count()));
    CHECK(d < 0.5);  // a code in 32 or so is clipped in every group of int8
    largest = std::max(largest, d);
  }
  CHECK(largest > 1e-4);
}

TEST_CASE("clipped gradients equal torchao's quantisation-aware training", "[model][quant]") {
  const auto path = shared_file("reference/quant/qat.safetensors");
  if (!path) KDLIB_SKIP("reference/quant/qat.safetensors is not here (set KDLIB_SHARED_DIR)");
  const SafetensorsFile file(*path);
  const auto tensor = [&](const char* name) {
    const auto values = read_as<float>(file.at(name));
    Tensor<float, Cpu> t(file.at(name).shape());
    std::copy(values.begin(), values.end(), t.data());
    return t;
  };
  Linear<Cpu, float> l("map", file.at("weight").shape()[1], file.at("weight").shape()[0], false);
  l.weight()->value = tensor("weight");
  l.weight()->trainable = true;
  l.begin_student(std::make_unique<QuantizedWeight<Cpu, float>>(QuantizeSettings{}, TrainedPart::weights,
                                                                StraightThrough::clipped, *l.weight(), nullptr));
  CHECK(worst(l.packed()->decode_all(), tensor("symmetric.fake_weight")) == 0);
  Tape<float, Cpu> tape;
  const Var<float, Cpu> x = tape.variable(tensor("x"), true), y = linear(tape, l.operand(true), x);
  CHECK(scaled_difference(y.value.data(), tensor("symmetric.y").data(), static_cast<std::size_t>(y.value.count())) <
        Tolerance<float>::reduction);
  tape.backward(y, tensor("upstream"));
  const auto expected = tensor("symmetric.grad_weight"), expected_x = tensor("symmetric.grad_x");
  CHECK(scaled_difference(l.weight()->gradient_view().data(), expected.data(),
                          static_cast<std::size_t>(expected.count())) < Tolerance<float>::reduction);
  CHECK(scaled_difference(x.gradient->value.data(), expected_x.data(), static_cast<std::size_t>(expected_x.count())) <
        Tolerance<float>::reduction);
}

TEST_CASE("scales have the exact gradient", "[model][quant]") {
  using Double = Decoder<Cpu, double>;
  const ReferenceModel r("llama");
  const TokenBatch batch = r.tokens();
  for (const Int4Rule rule : {Int4Rule::symmetric, Int4Rule::affine, Int4Rule::asymmetric}) {
    CAPTURE(int4_rule_name(rule));
    Double m = Double::from_pretrained(r.path);
    quantize_student(m, {.group_size = 32, .rule = rule}, {.trains = TrainedPart::scales});
    const auto hidden = m.forward_training(batch);
    cross_entropy_backward(m, hidden, batch.rows(), batch.weight());
    int checked = 0;
    for (Parameter<double, Cpu>* p : m.parameters()) {
      CHECK(p->trainable == (p->name.ends_with(".scale") || p->name.ends_with(".zero")));
      if (!p->trainable || p->name.find("layers.1.mlp") == std::string::npos) continue;
      CAPTURE(p->name);
      ++checked;
      const auto objective = [&] {
        m.parameters_changed();
        return cross_entropy_backward(m, m.forward(batch), batch.rows(), batch.weight(), false);
      };
      CHECK(gradient_error(p->value.data(), p->gradient_view().data(), p->value.count(), 1.0 / 1024, objective, 37) <
            Tolerance<float>::finite_difference);
    }
    CHECK(checked == (rule == Int4Rule::affine ? 6 : 3));
  }
}

TEST_CASE("the student that writes reads its codes, which follow the parameters when they are told", "[model][quant]") {
  const ReferenceModel r("llama");
  const TokenBatch batch = r.tokens();
  const std::vector<std::int32_t> prompt(batch.ids.begin(), batch.ids.begin() + 6), slots = {0};
  Model student = make_student(r.path, "all", {.group_size = 32});
  std::vector<Parameter<float, Cpu>*> weights;
  for (Parameter<float, Cpu>* p : student.parameters())
    if (p->name.find("_proj.weight") != std::string::npos) weights.push_back(p);
  const auto written = [&] {
    auto cache = student.make_cache(1, 8);
    TokenBatch one;
    one.append(prompt);
    return student.decode(cache, one, slots);
  };
  const auto before = written().clone();
  for (Parameter<float, Cpu>* p : weights)
    for (std::int64_t i = 0; i < p->value.count(); ++i) p->value.data()[i] *= static_cast<float>(i % 3);
  CHECK(worst(written(), before) == 0);  // pointers from before: only parameters_changed() tells
  student.parameters_changed();
  CHECK(worst(written(), before) > 1e-2);
}

TEST_CASE("an adapter in the codes can be switched off: the dense weights are there again", "[model][quant]") {
  const ReferenceModel r("llama");
  const TokenBatch batch = r.tokens();
  Model teacher = Model::from_pretrained(r.path), student = teacher.share();
  add_lora(student, {.rank = 2, .alpha = 4});
  quantize_student(student, {.group_size = 32}, {.trains = TrainedPart::adapter});
  CHECK(student.linears()[0]->weight()->value.data() == teacher.linears()[0]->weight()->value.data());  // one copy
  CHECK(worst(student.forward(batch), teacher.forward(batch)) > 1e-3);
  student.set_adapter_enabled(false);
  CHECK(worst(student.forward(batch), teacher.forward(batch)) == 0);
}

TEST_CASE("merging an adapter into codes says what it costs", "[model][quant]") {
  const ReferenceModel r("llama");
  const TokenBatch batch = r.tokens();
  Model m = Model::from_pretrained(r.path);
  quantize_linear(m, {.group_size = 32});
  add_lora(m, {.rank = 4, .alpha = 8, .seed = 7});
  const auto trained = train(m, batch, 6);
  const QuantizeReport report = merge_into_codes(m);
  CHECK(report.matrices > 0);
  CHECK(report.relative_error > 0.001);
  CHECK_FALSE(m.has_adapter());
  CHECK(worst(m.forward(batch), trained) > 1e-4);
  CHECK_THROWS_WITH(merge_into_codes(m), contains("no adapter"));
}

TEST_CASE("students that cannot be are refused", "[model][quant]") {
  const ReferenceModel r("llama");
  Model m = Model::from_pretrained(r.path);
  CHECK_THROWS_WITH(quantize_student(m, {.group_size = 32}, {.trains = TrainedPart::adapter}),
                    contains("add_lora(model) first"));
  CHECK_THROWS_WITH(quantize_student(m, {.kind = PackedKind::mxfp4, .group_size = 32}, {.trains = TrainedPart::scales}),
                    contains("cannot be trained"));
  CHECK_THROWS_WITH(quantize_student(m, {.kind = PackedKind::nf4}, {.straight_through = StraightThrough::clipped}),
                    contains("belongs to int3, int4 and int8"));
  add_lora(m, {.rank = 2, .alpha = 2});
  CHECK_THROWS_WITH(quantize_student(m, {.group_size = 32}, {.trains = TrainedPart::weights}),
                    contains("remove_adapter(model) first"));
}

TEST_CASE("held codes stay as they were when they were held, and follow the weights afterwards", "[model][quant]") {
  const ReferenceModel r("llama");
  const TokenBatch batch = r.tokens();
  Model student = make_student(r.path, "all", {.group_size = 32});
  Parameter<float, Cpu>& weight = *student.linears()[0]->weight();
  const auto change = [&](float factor) {
    for (std::int64_t i = 0; i < weight.value.count(); ++i) weight.value.data()[i] *= factor;
    student.parameters_changed();
  };
  change(1.5f);  // held codes are those of the moment, not of the last pass
  student.hold_codes(true);
  const auto first = student.forward(batch).clone();
  change(2.0f);
  CHECK(worst(first, student.forward(batch)) == 0);
  student.hold_codes(false);
  CHECK(worst(first, student.forward(batch)) > 0);
  change(0.5f);
  CHECK(worst(first, student.forward(batch)) == 0);
}
