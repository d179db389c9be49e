// SPDX-License-Identifier: Apache-2.0
// What a checkpoint compares: each field of each policy, changed alone, is refused by its name on resume, and no member
// is missing in a list.
#include <type_traits>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/data/document_dataset.hpp"
#include "kdlib/data/packed_dataset.hpp"
#include "kdlib/loss/losses.hpp"
#include "kdlib/model/decoder.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/param_groups.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/optim/sgd.hpp"
#include "kdlib/rollout/mixed.hpp"
#include "kdlib/rollout/on_policy.hpp"
#include "kdlib/rollout/teacher_written.hpp"
#include "kdlib/teacher/live.hpp"
#include "kdlib/train/described_parts_inl.hpp"
#include "support/catch.hpp"

namespace {
using kdlib::FieldInfo;
using kdlib::SettingsList;

/// Another value of the same kind.
template <class V>
void change(V& value) {
  if constexpr (std::is_same_v<V, bool>) value = !value;
  else if constexpr (std::is_enum_v<V>) value = static_cast<V>(value == V{} ? 1 : 0);
  else if constexpr (std::is_integral_v<V>) value += 1;
  else if constexpr (std::is_floating_point_v<V>) value = value == V(0.75) ? V(0.5) : V(0.75);
  else if constexpr (std::is_same_v<V, kdlib::SampleTemperature>) value = 0.75;
  else if constexpr (std::is_same_v<V, std::vector<std::int32_t>>) value.push_back(7);
  else if constexpr (std::is_same_v<V, std::string>) value += "x";
  else static_assert(!sizeof(V), "a kind of field that this test cannot change");
}

/// Changes field `wanted` of a policy and answers its name; the count of the fields where there are fewer.
template <class X>
std::string change_field(X& x, int wanted, int& count) {
  std::string name;
  count = 0;
  kdlib::visit_fields(x, [&](const FieldInfo& field, auto& value) {
    using V = std::remove_reference_t<decltype(value)>;
    if constexpr (!std::is_const_v<V>) {
      if constexpr (
          requires { change(value); } && !requires { value(std::declval<kdlib::GenerationProgress>()); }) {
        if (!field.compared) return;
        if (count++ != wanted) return;
        name = field.name;
        change(value);
      }
    }
  });
  return name;
}

template <class X>
int listed_members(const X& x) {
  int count = 0;
  kdlib::visit_fields(x, [&](const FieldInfo& field, auto&) { count += field.fixed ? 0 : 1; });
  return count;
}

/// `text(x)` gives the settings of a run with the policy x. Every member is in its list, and a change of each one is
/// refused by its name.
template <class X, class Text>
void check_policy(const X& x, Text&& text) {
  INFO(kdlib::plain_type_name<X>());
  if constexpr (!std::is_same_v<X, kdlib::BaselinePolicyGradient>)  // lists the fields of its one member as its own
    CHECK(listed_members(x) == static_cast<int>(kdlib::detail::member_count<X>()));
  const SettingsList before = text(x);
  CHECK_NOTHROW(kdlib::detail::check_same_settings(before, text(x)));
  int count = 1;
  for (int i = 0; i < count; ++i) {
    X changed = x;
    const std::string name = change_field(changed, i, count);
    if (count == 0) break;
    INFO(name);
    REQUIRE(i < count);
    CHECK_THROWS_WITH(kdlib::detail::check_same_settings(before, text(changed)),
                      contains("." + name + " was ") && contains(" and is now "));
  }
}

template <class L>
void check_loss(const L& loss) {
  check_policy(loss, [](const L& l) {
    SettingsList list;
    kdlib::detail::append_loss(list, "loss", l);
    return list;
  });
}

template <class A, class B>
void check_different(const A& a, const B& b, const char* words) {
  SettingsList before, now;
  kdlib::detail::append_loss(before, "loss", a);
  kdlib::detail::append_loss(now, "loss", b);
  CHECK_THROWS_WITH(kdlib::detail::check_same_settings(before, now), contains(words));
}

struct PlainLoss {
  double sharpness = 2;
  template <class P>
  kdlib::EntryLoss<P> entry(const kdlib::RowStatistics&, const kdlib::Entry<P>& x) const {
    return {x.p_s * P(sharpness), x.p_s * P(sharpness)};
  }
};

kdlib::DecoderConfig tiny_config() {
  kdlib::DecoderConfig config;
  config.vocab_size = 41;
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
const std::vector<std::vector<std::int32_t>> some_prompts{{1, 2}, {3}, {4, 5, 6}}, other_texts{{1, 2}, {3}};

kdlib::TokenBatch documents() {
  kdlib::TokenBatch batch;
  for (const auto& ids : {std::vector<std::int32_t>{1, 2, 3, 4}, std::vector<std::int32_t>{5, 6, 7}}) batch.append(ids);
  return batch;
}
}  // namespace

TEST_CASE("a checkpoint notices each changed field of each loss", "[train]") {
  check_loss(kdlib::CrossEntropy{});
  check_loss(kdlib::ForwardKl{});
  check_loss(kdlib::ReverseKl{});
  check_loss(kdlib::JensenShannon{});
  check_loss(kdlib::SkewForwardKl{});
  check_loss(kdlib::SkewReverseKl{});
  check_loss(kdlib::TotalVariation{});
  check_loss(kdlib::AdaptiveKl{});
  check_loss(kdlib::NegativeEntropy{});
  check_loss(kdlib::UniformCrossEntropy{});
  check_loss(kdlib::ZLoss{});
  check_loss(kdlib::PolicyGradient{});
  check_loss(kdlib::BaselinePolicyGradient{});
  check_loss(kdlib::SampledKl<kdlib::KlEstimator::k2>{});
  check_loss(kdlib::TopKForwardKl{});
  check_loss(kdlib::TopKReverseKl<>{});
}

TEST_CASE("a checkpoint notices template arguments, other losses, weights and members of a user's own loss",
          "[train]") {
  using kdlib::Term;
  check_different(kdlib::SampledKl<kdlib::KlEstimator::k2>{}, kdlib::SampledKl<kdlib::KlEstimator::k3>{},
                  "loss.estimator was k2 and is now k3");
  check_different(kdlib::TopKReverseKl<kdlib::TopKMass::tail>{}, kdlib::TopKReverseKl<kdlib::TopKMass::renormalised>{},
                  "loss.mass was tail and is now renormalised");
  check_different(kdlib::ForwardKl{}, kdlib::ReverseKl{}, "loss was ForwardKl and is now ReverseKl");
  check_different(kdlib::SkewForwardKl{.lambda = 0.1}, kdlib::SkewForwardKl{.lambda = 0.2},
                  "loss.lambda was 0.1 and is now 0.2");
  check_different(kdlib::Sum{Term{0.8, kdlib::ReverseKl{}}, Term{0.2, kdlib::CrossEntropy{}}},
                  kdlib::Sum{Term{0.7, kdlib::ReverseKl{}}, Term{0.2, kdlib::CrossEntropy{}}},
                  "loss.0.weight was 0.8 and is now 0.7");
  check_different(kdlib::Sum{Term{0.8, kdlib::SkewReverseKl{.lambda = 0.3}}, Term{0.2, kdlib::CrossEntropy{}}},
                  kdlib::Sum{Term{0.8, kdlib::SkewReverseKl{.lambda = 0.4}}, Term{0.2, kdlib::CrossEntropy{}}},
                  "loss.0.lambda was 0.3 and is now 0.4");
  check_different(PlainLoss{2}, PlainLoss{3}, "loss.member_0 was 2 and is now 3");
}

TEST_CASE("a checkpoint notices each changed field of each optimizer and schedule", "[train]") {
  const auto optimizer = [](const auto& x) {
    SettingsList list;
    kdlib::detail::append_optimizer(list, x);
    return list;
  };
  const auto schedule = [](const auto& x) {
    SettingsList list;
    kdlib::detail::append_schedule(list, x);
    return list;
  };
  check_policy(kdlib::AdamW{}, optimizer);
  check_policy(kdlib::Sgd{}, optimizer);
  check_policy(kdlib::ConstantRate{}, schedule);
  check_policy(kdlib::WarmupLinear{.total = 10}, schedule);
  check_policy(kdlib::WarmupCosine{.total = 10}, schedule);
  CHECK_THROWS_WITH(kdlib::detail::check_same_settings(schedule(kdlib::WarmupLinear{.total = 10}),
                                                       schedule(kdlib::WarmupCosine{.total = 10})),
                    contains("schedule was WarmupLinear and is now WarmupCosine"));
  const double captured = 1e-3;
  CHECK_NOTHROW(kdlib::detail::check_same_settings(schedule([captured](std::int64_t) { return captured; }),
                                                   schedule([](std::int64_t) { return 1e-3; })));
  CHECK_THROWS_WITH(
      kdlib::detail::check_same_settings(schedule([captured](std::int64_t) { return captured; }),
                                         schedule([](std::int64_t step) { return step < 5000 ? 1e-3 : 1e-4; })),
      contains("schedule.rates was "));
}

TEST_CASE("a checkpoint notices each changed field of each source and of its sampler", "[train]") {
  const kdlib::Prompts prompts{some_prompts, {0}}, other_prompts{other_texts, {0}};
  check_policy(kdlib::OnPolicySettings{}, [&](const kdlib::OnPolicySettings& s) {
    return kdlib::OnPolicy{prompts, kdlib::Sampler{}, s}.describe();
  });
  check_policy(kdlib::Sampler{.top_p = 0.9, .stop_ids = {0}}, [&](const kdlib::Sampler& s) {
    return kdlib::OnPolicy{prompts, s}.describe();
  });
  auto teacher = kdlib::Decoder<kdlib::Cpu, float>::from_config(tiny_config(), 1);
  check_policy(kdlib::TeacherWrittenSettings{.context_length = 32}, [&](const kdlib::TeacherWrittenSettings& s) {
    return kdlib::TeacherWritten{teacher, prompts, kdlib::Sampler{.max_new_tokens = 4}, s}.describe();
  });
  check_policy(kdlib::DocumentSettings{}, [](const kdlib::DocumentSettings& s) {
    return kdlib::DocumentDataset{documents(), s}.describe();
  });
  check_policy(kdlib::PackedSettings{.length = 4}, [](const kdlib::PackedSettings& s) {
    return kdlib::PackedDataset{documents(), s}.describe();
  });
  check_policy(kdlib::MixedSettings{}, [&](const kdlib::MixedSettings& s) {
    return kdlib::Mixed{kdlib::DocumentDataset{documents()}, kdlib::OnPolicy{prompts, kdlib::Sampler{}}, s}.describe();
  });
  const kdlib::Mixed mixed{kdlib::DocumentDataset{documents()}, kdlib::OnPolicy{prompts, kdlib::Sampler{}}},
      other{kdlib::DocumentDataset{documents()}, kdlib::OnPolicy{prompts, kdlib::Sampler{.seed = 4}}};
  CHECK_THROWS_WITH(kdlib::detail::check_same_settings(mixed.describe(), other.describe()),
                    contains("online.sampler.seed was 1 and is now 4"));
  CHECK_THROWS_WITH(kdlib::detail::check_same_settings(kdlib::OnPolicy{prompts, kdlib::Sampler{}}.describe(),
                                                       kdlib::OnPolicy{other_prompts, kdlib::Sampler{}}.describe()),
                    contains("source.text was "));
}

TEST_CASE("a checkpoint notices another teacher and other parameter groups", "[train]") {
  using Model = kdlib::Decoder<kdlib::Cpu, float>;
  Model first = Model::from_config(tiny_config(), 1), same = Model::from_config(tiny_config(), 1),
        other = Model::from_config(tiny_config(), 2);
  const SettingsList before = kdlib::LiveTeacher{first}.describe();
  CHECK_NOTHROW(kdlib::detail::check_same_settings(before, kdlib::LiveTeacher{same}.describe()));
  CHECK_THROWS_WITH(kdlib::detail::check_same_settings(before, kdlib::LiveTeacher{other}.describe()),
                    contains("teacher.weights was "));
  CHECK_THROWS_WITH(
      kdlib::detail::check_same_settings(kdlib::only("*.mlp.*").describe(), kdlib::only("*.attn.*").describe()),
      contains("parameters was *.mlp.*=1 and is now *.attn.*=1"));
}
