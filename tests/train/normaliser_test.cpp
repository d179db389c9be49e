// SPDX-License-Identifier: Apache-2.0
// One normaliser a step: losses.md C30, C32, D15 and the first rows of table 3.6.
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/cross_entropy.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/loss/head_loss.hpp"
#include "kdlib/optim/clip.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/optim/sgd.hpp"
#include "kdlib/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"
#include "support/training_parts.hpp"

namespace {
using kdlib::TokenBatch;
using kdlib_tests::ListedBatches;
using kdlib_tests::RaggedDocuments;
using kdlib_tests::Tolerance;

/// Labels only: the teacher of plain training on given text.
struct NoTeacher {
  using targets_type = kdlib::NoTargets;
  std::int64_t vocab_size() const { return 4; }
  void prepare(const TokenBatch&) {}
  kdlib::NoTargets targets(std::int64_t, std::int64_t) const { return {}; }
};

/// A model whose first token of every document gives log p = -1, -2, -3 to ids 0, 1, 2 (and the rest to id 3).
struct KnownLogProbs {
  using Model = kdlib_tests::ToyModel<double>;
  Model model{4, 1, 1};
  KnownLogProbs() {
    for (int v = 0; v < 4; ++v) model.parameters()[0]->value.data()[v] = 1;
    const double rest = 1 - std::exp(-1.0) - std::exp(-2.0) - std::exp(-3.0);
    const double values[4] = {-1, -2, -3, std::log(rest)};
    for (int v = 0; v < 4; ++v) model.parameters()[1]->value.data()[v] = values[v];
  }
};

/// `count` documents of one counted token each, whose loss is known.
TokenBatch tokens_with_loss(int loss, int count) {
  TokenBatch batch;
  for (int i = 0; i < count; ++i) batch.append(std::vector<std::int32_t>{3, loss - 1});
  return batch;
}

double loss_of_step(std::vector<TokenBatch> batches, bool average_of_averages = false) {
  KnownLogProbs known;
  kdlib::Objective objective{NoTeacher{}, kdlib::CrossEntropy{}};
  kdlib::GradientStep<KnownLogProbs::Model, decltype(objective)> step;
  if (!average_of_averages) return step(known.model, objective, batches).loss.mean();
  double sum = 0;
  for (const TokenBatch& batch : batches) sum += step(known.model, objective, std::span(&batch, 1)).loss.mean();
  return sum / static_cast<double>(batches.size());
}

/// Weights after two Sgd steps over the same eight documents, `split` micro-batches a step.
template <class T>
std::vector<T> trained_with_split(std::int64_t split, bool wrong = false) {
  using Model = kdlib_tests::ToyModel<T>;
  Model teacher{17, 6, 1}, student{17, 4, 2};
  std::vector<TokenBatch> batches;
  const RaggedDocuments documents{{.documents = 1}};
  for (int step = 0; step < 2; ++step)
    for (std::int64_t part = 0; part < split; ++part) {
      TokenBatch batch;
      for (std::int64_t d = part * 8 / split; d < (part + 1) * 8 / split; ++d) {
        const TokenBatch one = documents.batch(8 * step + d);
        batch.append(one.ids, one.weights);
      }
      batches.push_back(std::move(batch));
    }
  kdlib::Objective objective{kdlib_tests::TestTeacher<Model>{teacher}, kdlib::ForwardKl{}};
  if (!wrong) {
    kdlib::Trainer trainer{student, ListedBatches{batches}, objective, kdlib::Sgd{}, kdlib::ConstantRate{0.5}};
    trainer.run({.steps = 2, .micro_batches = split});
    return kdlib_tests::all_values(student);
  }
  // What C30 warns of: every micro-batch under its own mean, and the mean of the gradients.
  kdlib::GradientStep<Model, decltype(objective)> gradient;
  auto state = kdlib::Sgd{}.state<T, kdlib::Cpu>(student.parameters());
  for (int step = 0; step < 2; ++step) {
    std::vector<double> sum(kdlib_tests::all_values(student).size(), 0.0);
    for (std::int64_t part = 0; part < split; ++part) {
      gradient(student, objective, std::span(&batches[static_cast<std::size_t>(step * split + part)], 1));
      const auto g = kdlib_tests::all_gradients(student);
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += static_cast<double>(g[i]) / static_cast<double>(split);
    }
    std::size_t at = 0;
    for (auto* p : student.parameters())
      for (std::int64_t i = 0; i < p->value.count(); ++i) p->gradient_view().data()[i] = static_cast<T>(sum[at++]);
    state.step(0.5);
  }
  return kdlib_tests::all_values(student);
}
}  // namespace

TEST_CASE("100, 10 and 1 tokens with losses 1, 2 and 3 give 1.108, and the mean of means does not", "[train]") {
  const std::vector<TokenBatch> batches{tokens_with_loss(1, 100), tokens_with_loss(2, 10), tokens_with_loss(3, 1)};
  const double right = (100 * 1 + 10 * 2 + 1 * 3) / 111.0;  // 1.108108...
  CHECK(kdlib_tests::near(loss_of_step(batches), right, Tolerance<double>::loss));
  CHECK_FALSE(kdlib_tests::near(loss_of_step(batches, true), right, 0.5));
  CHECK(kdlib_tests::near(loss_of_step(batches, true), 2.0, Tolerance<double>::loss));
}

TEST_CASE("1 token of loss 1 and 3 tokens of loss 3 give 2.5", "[train]") {
  CHECK(
      kdlib_tests::near(loss_of_step({tokens_with_loss(1, 1), tokens_with_loss(3, 3)}), 2.5, Tolerance<double>::loss));
}

TEST_CASE("1x8, 2x4, 4x2 and 8x1 micro-batches move the weights alike under Sgd", "[train]") {
  using T = double;
  const auto whole = trained_with_split<T>(1);
  CHECK(kdlib_tests::scaled_difference(
            whole.data(), kdlib_tests::all_values(*std::make_unique<kdlib_tests::ToyModel<T>>(17, 4, 2)).data(),
            whole.size()) > 100 * Tolerance<T>::reduction);  // the steps did move them
  for (const std::int64_t split : {2, 4, 8}) {
    const auto other = trained_with_split<T>(split);
    CHECK(kdlib_tests::scaled_difference(other.data(), whole.data(), whole.size()) < Tolerance<T>::reduction);
  }
}

TEST_CASE("a mean of micro-batch means moves the weights otherwise", "[train]") {
  using T = double;
  const auto whole = trained_with_split<T>(1), wrong = trained_with_split<T>(4, true),
             same = trained_with_split<T>(1, true);
  CHECK(kdlib_tests::scaled_difference(same.data(), whole.data(), whole.size()) <
        Tolerance<T>::reduction);  // one batch: no difference
  CHECK(kdlib_tests::scaled_difference(wrong.data(), whole.data(), whole.size()) > 100 * Tolerance<T>::reduction);
}

TEST_CASE("111 counted tokens give one loss and gradient for every split, order, padding side and chunk size",
          "[train]") {
  using Model = kdlib_tests::ToyModel<double>;
  std::vector<TokenBatch> documents;  // of 2 to 9 tokens, the last cut so that 111 count
  const RaggedDocuments source{{.documents = 1}};
  double left = 111;
  for (std::int64_t n = 0; left > 0; ++n) {
    TokenBatch one = source.batch(n);
    for (float& w : one.weights) {
      w = left > 0 ? w : 0.0f;
      left -= static_cast<double>(w);
    }
    documents.push_back(std::move(one));
  }
  REQUIRE(kdlib::total_weight(documents) == 111.0);

  Model teacher{17, 6, 1}, student{17, 4, 2};
  kdlib::Objective objective{kdlib_tests::TestTeacher<Model>{teacher}, kdlib::ForwardKl{}};
  const auto gradient_of = [&](const std::vector<TokenBatch>& batches, std::int64_t workspace_bytes) {
    kdlib::GradientStep<Model, decltype(objective)> step{{.workspace_bytes = workspace_bytes}};
    std::vector<double> out{step(student, objective, batches).loss.mean()};
    for (const double g : kdlib_tests::all_gradients(student)) out.push_back(g);
    return out;
  };
  // `parts` batches in which each document is packed, or padded to 9 tokens in front or behind; document order as given
  // or turned round.
  const auto split = [&](std::size_t parts, bool padded, bool in_front, bool reversed) {
    std::vector<TokenBatch> batches(parts);
    for (std::size_t i = 0; i < documents.size(); ++i) {
      const TokenBatch& one = documents[reversed ? documents.size() - 1 - i : i];
      TokenBatch& batch = batches[i * parts / documents.size()];
      if (!padded) {
        batch.append(one.ids, one.weights);
        continue;
      }
      std::vector<std::int64_t> ids(9, 0), mask(9, 0), counted(9, 0);
      const std::size_t first = in_front ? 9 - one.ids.size() : 0;
      for (std::size_t t = 0; t < one.ids.size(); ++t) {
        ids[first + t] = one.ids[t];
        mask[first + t] = 1;
        counted[first + t] = one.weights[t] > 0 ? 1 : 0;
      }
      const TokenBatch row = TokenBatch::from_padded(ids, mask, 1, 9, counted);
      batch.append(row.ids, row.weights);
    }
    return batches;
  };
  const auto whole = gradient_of(split(1, false, false, false), 0);
  CHECK(whole[0] > 0);
  const auto same = [&](const std::vector<double>& other) {
    return kdlib_tests::scaled_difference(other.data(), whole.data(), whole.size()) < Tolerance<double>::reduction;
  };
  for (const std::size_t parts : {std::size_t{2}, std::size_t{5}, documents.size()})
    CHECK(same(gradient_of(split(parts, false, false, false), 0)));
  CHECK(same(gradient_of(split(3, false, false, true), 0)));
  CHECK(same(gradient_of(split(3, true, true, false), 0)));
  CHECK(same(gradient_of(split(3, true, false, false), 0)));
  for (const std::int64_t bytes : {1, 1000, 3000, 30000})
    CHECK(same(gradient_of(split(2, false, false, false), bytes)));  // one row a chunk and more
}

TEST_CASE("micro-batches without a counted token leave loss and gradient as they are", "[train]") {
  TokenBatch masked;
  masked.append(std::vector<std::int32_t>{0, 1, 2}, std::vector<float>{0, 0, 0});
  TokenBatch single;
  single.append(std::vector<std::int32_t>{2});  // one token predicts nothing
  CHECK(loss_of_step({masked, tokens_with_loss(2, 3), single}) == loss_of_step({tokens_with_loss(2, 3)}));
  CHECK(loss_of_step({masked, single}) == 0.0);
  KnownLogProbs known;
  kdlib::Objective objective{NoTeacher{}, kdlib::CrossEntropy{}};
  kdlib::GradientStep<KnownLogProbs::Model, decltype(objective)> step;
  const std::vector<TokenBatch> none{masked, single};
  const auto sums = step(known.model, objective, none);
  CHECK(sums.loss.weight == 0);
  CHECK(known.model.forward_calls == 0);
  for (const double g : kdlib_tests::all_gradients(known.model)) CHECK(g == 0.0);
}

TEST_CASE("row weights weigh the rows and their sum is the normaliser", "[train]") {
  TokenBatch batch;  // losses 1 and 3 with weights 3 and 1: (3 + 3) / 4
  batch.append(std::vector<std::int32_t>{3, 0}, std::vector<float>{3, 0});
  batch.append(std::vector<std::int32_t>{3, 2}, std::vector<float>{1, 0});
  CHECK(kdlib_tests::near(loss_of_step({batch}), 1.5, Tolerance<double>::loss));
}

namespace {
constexpr double span_tolerance = 1e-6;  // 1 / denominator is a row weight, a float

struct Scalars {
  std::map<std::string, double> values;
  void scalar(std::string_view name, std::int64_t, double value) { values[std::string(name)] = value; }
  void flush() {}
};

/// 900 tokens of loss 2 in span 0 and 100 tokens of loss 1 in span 1, in `parts` micro-batches.
std::vector<TokenBatch> reasoning_and_answer(std::size_t parts) {
  std::vector<TokenBatch> batches(parts);
  for (int i = 0; i < 1000; ++i) {
    const bool answer = i % 10 == 9;
    batches[static_cast<std::size_t>(i) * parts / 1000].append(std::vector<std::int32_t>{3, answer ? 0 : 1}, {},
                                                               std::vector<std::int32_t>{answer ? 1 : 0, -1});
  }
  return batches;
}

struct SpanRun {
  std::map<std::string, double> metrics;
  std::vector<double> weights;
};
SpanRun one_step_with_spans(std::size_t parts) {
  KnownLogProbs known;
  kdlib::Trainer trainer{known.model, ListedBatches{reasoning_and_answer(parts)},
                         kdlib::Objective{NoTeacher{}, kdlib::CrossEntropy{}}, kdlib::Sgd{}, kdlib::ConstantRate{0.5}};
  Scalars sink;
  trainer.run(
      {.steps = 1, .micro_batches = static_cast<std::int64_t>(parts), .spans = {{"reasoning", 1}, {"answer", 1}}},
      sink);
  return {sink.values, kdlib_tests::all_values(known.model)};
}
}  // namespace

TEST_CASE("900 reasoning tokens of loss 2 and 100 answer tokens of loss 1 give 3.0 under spans, however they are cut",
          "[train]") {
  const SpanRun whole = one_step_with_spans(1);
  CHECK(kdlib_tests::near(whole.metrics.at("train/loss"), 3.0, span_tolerance));  // a token mean would be 1.9
  CHECK(kdlib_tests::near(whole.metrics.at("train/loss/reasoning"), 2.0, span_tolerance));
  CHECK(kdlib_tests::near(whole.metrics.at("train/loss/answer"), 1.0, span_tolerance));
  CHECK(whole.metrics.at("train/tokens") == 1000);
  for (const std::size_t parts : {std::size_t{2}, std::size_t{7}}) {
    const SpanRun cut = one_step_with_spans(parts);
    CHECK(kdlib_tests::near(cut.metrics.at("train/loss"), 3.0, span_tolerance));
    CHECK(kdlib_tests::scaled_difference(cut.weights.data(), whole.weights.data(), whole.weights.size()) <
          span_tolerance);
  }
}

TEST_CASE("named spans without span numbers, or with a number too large, are refused", "[train]") {
  KnownLogProbs known;
  const auto run = [&](std::vector<TokenBatch> batches) {
    kdlib::Trainer trainer{known.model, ListedBatches{std::move(batches)},
                           kdlib::Objective{NoTeacher{}, kdlib::CrossEntropy{}}, kdlib::Sgd{},
                           kdlib::ConstantRate{0.5}};
    trainer.run({.steps = 1, .spans = {{"reasoning", 1}}});
  };
  CHECK_THROWS_WITH(run({tokens_with_loss(2, 3)}), contains("does not say which span"));
  CHECK_THROWS_AS(run(reasoning_and_answer(1)), kdlib::InputError);
}

namespace {

/// A model that makes codes where they are not held, as Decoder does, and counts how often.
struct CodedModel : kdlib_tests::ToyModel<double> {
  using Base = kdlib_tests::ToyModel<double>;
  using Base::Base;
  int made = 0, passes = 0;
  bool held = false, breaks = false;

  void hold_codes(bool hold) {
    if (hold) ++made;
    held = hold;
  }
  kdlib::Tensor<double, kdlib::Cpu> forward_training(const TokenBatch& batch) {
    if (!held) ++made;
    ++passes;
    if (breaks && passes == 2) throw kdlib::Error("broken");
    return Base::forward_training(batch);
  }
};

}  // namespace

TEST_CASE("codes that follow parameters are made once for all micro-batches of a step", "[train]") {
  const std::vector<TokenBatch> batches(5, tokens_with_loss(1, 2));
  kdlib::Objective objective{NoTeacher{}, kdlib::CrossEntropy{}};
  kdlib::GradientStep<CodedModel, decltype(objective)> step;
  CodedModel model(4, 1, 1);
  step(model, objective, batches);
  CHECK(model.passes == 5);
  CHECK(model.made == 1);
  step(model, objective, batches);
  CHECK(model.made == 2);
  CHECK_FALSE(model.held);
  CodedModel broken(4, 1, 1);
  broken.breaks = true;
  CHECK_THROWS_AS(step(broken, objective, batches), kdlib::Error);
  CHECK_FALSE(broken.held);
}
