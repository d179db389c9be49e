// SPDX-License-Identifier: Apache-2.0
// Routing between rollout and training of a mixture: recorded while text is written, followed by training passes,
// counted in the metrics.
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "kdlib/autograd/grad_check.hpp"
#include "kdlib/backend/cpu.hpp"
#include "kdlib/eval/perplexity.hpp"
#include "kdlib/kdlib.hpp"
#include "model/golden.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/tolerance.hpp"
#include "support/training_parts.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

template <class T>
using Model = Decoder<Cpu, T>;

const std::vector<Family> mixtures = {Family::qwen3_moe, Family::qwen2_moe, Family::gpt_oss};

DecoderConfig toy_mixture(Family family) {
  DecoderConfig config = golden_config(family);
  config.vocab_size = 24;
  config.hidden_size = 16;
  config.moe.experts = 6;
  config.initializer_range = 0.4;
  return config;
}

const std::vector<std::vector<std::int32_t>> toy_prompts = {{3}, {1, 2, 3, 4, 5}, {9, 9}, {0, 11, 12}};

template <class T>
TokenBatch written_batch(Model<T>& model) {
  OnPolicy source(Prompts(toy_prompts, {2}), Sampler{.max_new_tokens = 9},
                  {.prompts = 4, .decode_batch = 3, .record_routing = true});
  return *source.next(model);
}

/// The choices with every known one moved to the next expert: not what any router chose, and still different ones for
/// each token.
RoutingRecord moved(RoutingRecord record, std::int32_t experts) {
  for (auto& layer : record.ids)
    for (std::int32_t& id : layer)
      if (id != RoutingRecord::unknown) id = (id + 1) % experts;
  return record;
}

}  // namespace

TEST_CASE("writing records the experts of every token that was run, in the order of the document", "[train][routing]") {
  for (const Family family : mixtures) {
    CAPTURE(family_name(family));
    auto model = Model<double>::from_config(toy_mixture(family), 5);
    const TokenBatch batch = written_batch(model);
    REQUIRE(batch.routing.tokens == batch.tokens());
    REQUIRE(static_cast<std::int64_t>(batch.routing.ids.size()) == model.config().mixtures());
    RoutingRecord whole;  // of one pass over the finished documents
    model.set_routing(&whole);
    model.forward(batch);
    model.set_routing(nullptr);
    const std::size_t k = static_cast<std::size_t>(batch.routing.active);
    for (std::size_t m = 0; m < whole.ids.size(); ++m)
      for (std::int64_t b = 0; b < batch.documents(); ++b)
        for (std::int64_t i = batch.offsets[static_cast<std::size_t>(b)];
             i < batch.offsets[static_cast<std::size_t>(b + 1)]; ++i) {
          const bool last = i + 1 == batch.offsets[static_cast<std::size_t>(b + 1)];
          for (std::size_t j = 0; j < k; ++j) {
            const std::size_t at = static_cast<std::size_t>(i) * k + j;
            CHECK(batch.routing.ids[m][at] == (last ? RoutingRecord::unknown : whole.ids[m][at]));
          }
        }
  }
}

TEST_CASE("with replay the log-probs of rollout and training agree, and the training pass uses the recorded experts",
          "[train][routing]") {
  for (const Family family : mixtures) {
    CAPTURE(family_name(family));
    auto model = Model<float>::from_config(toy_mixture(family), 5);
    const TokenBatch batch = written_batch(model);
    const TokenBatch::Rows rows = batch.rows();
    const auto log_probs = [&](const RoutingRecord* replay, RoutingRecord* record) {
      model.set_routing(record, replay);
      const auto hidden = model.forward_training(batch);
      model.set_routing(nullptr);
      std::vector<double> out;
      for (std::size_t r = 0; r < rows.token.size(); ++r)
        out.push_back(row_log_probs(model.head(), View<const float, Cpu>(hidden.rows(rows.token[r], 1)),
                                    std::span(rows.label).subspan(r, 1))[0]);
      return out;
    };
    RoutingRecord used;
    const std::vector<double> replayed = log_probs(&batch.routing, &used);
    for (std::size_t r = 0; r < replayed.size(); ++r)
      CHECK(std::abs(replayed[r] - static_cast<double>(rows.behaviour[r])) < Tolerance<float>::model);
    const RoutingRecord other = moved(batch.routing, 6);  // a router that has changed since the text was written
    const std::vector<double> elsewhere = log_probs(&other, &used);
    CHECK(max_difference(elsewhere.data(), replayed.data(), replayed.size()) > 100 * Tolerance<float>::model);
    for (std::size_t m = 0; m < used.ids.size(); ++m)
      for (std::size_t i = 0; i < used.ids[m].size(); ++i) {
        if (other.ids[m][i] != RoutingRecord::unknown) CHECK(used.ids[m][i] == other.ids[m][i]);
        else CHECK((used.ids[m][i] >= 0 && used.ids[m][i] < 6));
      }
  }
}

TEST_CASE("the gradient of a step with replay is that of the recorded experts", "[train][routing]") {
  for (const Family family : mixtures)
    for (const bool recompute : {false, true}) {
      CAPTURE(family_name(family), recompute);
      auto model = Model<double>::from_config(toy_mixture(family), 5),
           teacher = Model<double>::from_config(toy_mixture(family), 6);
      TokenBatch batch = written_batch(model);
      batch.routing = moved(batch.routing, 6);
      Objective objective{TestTeacher<Model<double>>{teacher}, ReverseKl{}};
      GradientStep<Model<double>, decltype(objective)> step({.recompute = recompute, .replay_routing = true});
      const auto value = [&] { return step(model, objective, std::span(&batch, 1)).loss.mean(); };
      value();
      std::map<std::string, Tensor<double, Cpu>> gradients;
      for (auto* p : model.parameters()) gradients[p->name] = p->gradient.clone();
      int checked = 0;
      for (const char* ending : {"mlp.gate.weight", "mlp.router.weight", "0.mlp.experts.gate_up_proj",
                                 "1.mlp.experts.down_proj", "layers.0.self_attn.v_proj.weight"})
        for (auto* p : model.parameters()) {
          if (!p->name.ends_with(ending)) continue;
          CAPTURE(p->name);
          ++checked;
          CHECK(Kernels<Cpu, double>::sum_squares(gradients[p->name].data(), p->value.count()) > 0);
          CHECK(gradient_error(p->value.data(), gradients[p->name].data(), p->value.count(),
                               Tolerance<double>::difference_step, value, 7) < Tolerance<double>::finite_difference);
        }
      CHECK(checked == 5);
      GradientStep<Model<double>, decltype(objective)> without({.recompute = recompute});
      const double replayed = value(), routed = without(model, objective, std::span(&batch, 1)).loss.mean();
      CHECK(std::abs(replayed - routed) > Tolerance<double>::model);
    }
}

TEST_CASE("a run with replay trains on the recorded routing and reports how the experts were used",
          "[train][routing]") {
  std::map<bool, std::vector<double>> losses;
  for (const bool replay : {false, true}) {
    auto student = Model<float>::from_config(toy_mixture(Family::qwen2_moe), 5),
         teacher = Model<float>::from_config(toy_mixture(Family::qwen2_moe), 6);
    student.set_router_policy({.balance = 1e-2, .z = 1e-3});
    OnPolicy source(Prompts(toy_prompts, {2}), Sampler{.max_new_tokens = 9}, {.prompts = 2, .record_routing = replay});
    Trainer trainer{student, source, Objective{TestTeacher<Model<float>>{teacher}, ReverseKl{}}, AdamW{},
                    ConstantRate{1e-2}};
    MemoryMetrics metrics;
    trainer.run({.steps = 4, .micro_batches = 2, .replay_routing = replay}, metrics);
    for (const auto& [step, loss] : metrics.series("train/loss")) losses[replay].push_back(loss);
    for (const char* name : {"experts/entropy", "experts/max_share", "experts/balance", "experts/z"}) {
      CAPTURE(name);
      REQUIRE(metrics.series(name).size() == 4);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      const double entropy = metrics.series("experts/entropy")[i].second,
                   share = metrics.series("experts/max_share")[i].second;
      CHECK((entropy > 0 && entropy <= 1));
      CHECK((share >= 1.0 / 6 && share <= 1));
      CHECK(metrics.series("experts/balance")[i].second > 0);
      double parts = 0;
      for (const char* name : ExpertUse::load_names) parts += metrics.series(concat("experts/", name))[i].second;
      CHECK(near(parts, 1, Tolerance<double>::reduction));
    }
  }
  CHECK(losses[false][0] == losses[true][0]);  // nothing has moved yet: the router chooses what it chose
}

TEST_CASE("use of experts: entropy, largest share and histogram of loads by hand", "[train][routing]") {
  ExpertUse use;
  RoutingRecord record{4, 2, {{0, 1, 0, 2, 0, 1, 0, 1}, {0, 1, 2, 3, 0, 1, -1, -1}}};
  use.add(record, 4);
  REQUIRE(use.counts == std::vector<std::vector<std::int64_t>>{{4, 3, 1, 0}, {2, 2, 1, 1}});
  const auto h = [](double p) { return -p * std::log(p); };
  CHECK(near(use.entropy(), (h(0.5) + h(0.375) + h(0.125) + 2 * h(1.0 / 3) + 2 * h(1.0 / 6)) / 2 / std::log(4.0),
             Tolerance<double>::reduction));
  CHECK(use.max_share() == 0.5);
  // loads of the first mixture: 2, 1.5, 0.5, 0; of the second: 4/3, 4/3, 2/3, 2/3
  CHECK(use.loads() == std::array<double, 6>{1.0 / 8, 1.0 / 8, 2.0 / 8, 4.0 / 8, 0, 0});
}

TEST_CASE("routing that does not fit is refused with layer, token, what was found and what was expected",
          "[train][routing]") {
  auto model = Model<float>::from_config(toy_mixture(Family::qwen3_moe), 5),
       teacher = Model<float>::from_config(toy_mixture(Family::qwen3_moe), 6);
  TokenBatch batch = written_batch(model);
  const TokenBatch good = batch;
  Objective objective{TestTeacher<Model<float>>{teacher}, ReverseKl{}};
  GradientStep<Model<float>, decltype(objective)> step({.replay_routing = true});
  const auto attempt = [&] { return refusal([&] { step(model, objective, std::span(&batch, 1)); }); };
  batch.routing.ids[1][2] = 6;
  CHECK_THAT(attempt(),
             contains("model.layers.1.mlp.gate") && contains("expert 6 for token 1") && contains("expected 0 to 5"));
  batch.routing.ids[1][2] = -2;
  CHECK_THAT(attempt(), contains("expert -2 for token 1"));
  batch.routing = good.routing;
  batch.routing.ids[0][1] = batch.routing.ids[0][0];
  CHECK_THAT(attempt(), contains("model.layers.0.mlp.gate") && contains("twice for token 0"));
  batch.routing = good.routing;
  batch.routing.ids.pop_back();
  CHECK_THAT(attempt(), contains("for 1 layers with routers; the model has 2"));
  batch.routing = good.routing;
  batch.routing.tokens -= 1;
  CHECK_THAT(refusal([&] { batch.check(24); }), contains("routing of") && contains("tokens for"));
  batch.routing = RoutingRecord();  // given text: there is nothing to follow
  CHECK(attempt() == "nothing was refused");
  model.forward(good);  // nothing is left set after a refusal

  const auto run = [&](auto source) {
    return refusal([&] {
      Trainer trainer{model, source, objective, AdamW{}, ConstantRate{1e-2}};
      trainer.run({.steps = 1, .replay_routing = true});
    });
  };
  const OnPolicy forgetful(Prompts(toy_prompts, {2}), Sampler{.max_new_tokens = 2}, {});
  CHECK_THAT(run(forgetful), contains("does not record the routing") && contains("OnPolicySettings::record_routing"));
  CHECK_THAT(run(Mixed(ListedBatches{{good}}, OnPolicy(forgetful))), contains("does not record the routing"));

  auto dense = Model<float>::from_config(golden_config(Family::llama), 1);
  Objective plain{TestTeacher<Model<float>>{dense}, ReverseKl{}};
  GradientStep<Model<float>, decltype(plain)> dense_step({.replay_routing = true});
  TokenBatch text;
  text.append(std::vector<std::int32_t>{1, 2, 3});
  CHECK_THAT(refusal([&] { dense_step(dense, plain, std::span(&text, 1)); }), contains("no mixture of experts"));
  CHECK_THAT(refusal([&] { generate(dense, toy_prompts, Sampler{.max_new_tokens = 2}, {.record_routing = true}); }),
             contains("no mixture of experts"));
  ToyModel<float> toy(17, 8, 1);
  CHECK_THAT(refusal([&] { generate(toy, toy_prompts, Sampler{.max_new_tokens = 2}, {.record_routing = true}); }),
             contains("set_routing"));
}
