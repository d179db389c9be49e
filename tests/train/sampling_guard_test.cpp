// SPDX-License-Identifier: Apache-2.0
// The trainer refuses pairs of sampler and loss that teach another objective (decision 004), and misspelt patterns,
// before the first token is written.
#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/head_loss.hpp"
#include "kdlib/loss/policy_gradient.hpp"
#include "kdlib/model/decoder.hpp"
#include "kdlib/optim/clip.hpp"
#include "kdlib/optim/param_groups.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/optim/sgd.hpp"
#include "kdlib/rollout/on_policy.hpp"
#include "kdlib/teacher/live.hpp"
#include "kdlib/train/trainer.hpp"
#include "support/catch.hpp"

namespace {
using Model = kdlib::Decoder<kdlib::Cpu, float>;

kdlib::DecoderConfig tiny_config() {
  kdlib::DecoderConfig config;
  config.vocab_size = 31;
  config.hidden_size = 16;
  config.intermediate_size = 24;
  config.layers = 1;
  config.query_heads = 1;
  config.kv_heads = 1;
  config.head_size = 16;
  config.tied_head = true;
  config.initializer_range = 0.3;
  return config;
}
}  // namespace

TEST_CASE("a policy gradient is not trained on text that its sampler cut or sharpened (C37)", "[train][C37]") {
  Model teacher = Model::from_config(tiny_config(), 1), student = Model::from_config(tiny_config(), 2);
  const std::vector<std::vector<std::int32_t>> prompts{{1, 2}, {3}};
  int written = 0;
  const auto run = [&](const kdlib::Sampler& sampler, const kdlib::PolicyGradient& loss, auto&& schedule,
                       const kdlib::ParameterGroups& groups) {
    kdlib::OnPolicySettings settings{.prompts = 2};
    settings.progress = [&](const kdlib::GenerationProgress&) { ++written; };
    kdlib::Trainer trainer{student, kdlib::OnPolicy{kdlib::Prompts{prompts, {0}}, sampler, settings},
                           kdlib::Objective{kdlib::LiveTeacher{teacher}, loss}, kdlib::Sgd{}, schedule};
    kdlib::NoMetrics sink;
    kdlib::NoCheckpoints store;
    return trainer.run({.steps = 1}, sink, store, groups).step;
  };
  const kdlib::WarmupLinear rate{.peak = 1e-3, .total = 1};
  const kdlib::Sampler whole{.max_new_tokens = 2}, cut{.top_p = 0.5, .max_new_tokens = 2},
      greedy{.temperature = 0, .max_new_tokens = 2}, sharp{.temperature = 0.3, .max_new_tokens = 2};
  const auto all = kdlib::everything();
  CHECK_THROWS_WITH(run(cut, {}, rate, all), contains("[sampling and loss]") && contains("cuts tokens off"));
  CHECK_THROWS_WITH(run(greedy, {}, rate, all), contains("takes the most probable token"));
  CHECK_THROWS_WITH(run(sharp, {.importance_ratio = false}, rate, all), contains("drawn at temperature 0.3"));
  CHECK_THROWS_WITH(run(whole, {}, kdlib::WarmupLinear{.peak = 1e-3}, all), contains("total is 0 steps"));
  CHECK_THROWS_WITH(run(whole, {}, kdlib::WarmupLinear{.peak = 0, .total = 1}, all),
                    contains("the schedule's rate is 0 at each of the 1 steps"));
  CHECK_THROWS_WITH(run(whole, {}, kdlib::WarmupLinear{.peak = -1, .total = 1}, all), contains("at step 0 is -1"));
  CHECK_THROWS_WITH(run(whole, {}, rate, kdlib::only("*.mlp.*", "*.norn.weight")),
                    contains("the pattern *.norn.weight fits none of the"));
  CHECK(written == 0);
  CHECK(run(sharp, {}, rate, all) == 1);  // the ratio corrects
  CHECK(written > 0);
}
