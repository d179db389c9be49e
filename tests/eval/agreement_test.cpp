// SPDX-License-Identifier: Apache-2.0
// Held-out evaluation against sums over the whole vocabulary in double.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/eval/agreement.hpp"
#include "kdlib/rollout/head_logits.hpp"
#include "kdlib/teacher/live.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"
#include "support/toy_model.hpp"

using namespace kdlib;
using kdlib_tests::Tolerance;
using kdlib_tests::ToyModel;
using Ids = std::vector<std::int32_t>;

namespace {

TokenBatch three_documents() {
  TokenBatch batch;
  batch.append(Ids{1, 2, 3, 4, 5, 6}, std::vector<float>{0, 0, 1, 1, 0.5f, 0});
  batch.append(Ids{7}, {});
  batch.append(Ids{8, 9, 10}, std::vector<float>{1, 2, 0});
  return batch;
}

/// Log-softmax of every row of a batch: [R][V].
template <class T>
std::vector<std::vector<double>> row_log_probs(ToyModel<T>& model, const TokenBatch& batch) {
  std::vector<std::vector<double>> out;
  const Tensor<T, Cpu> hidden = model.forward(batch);
  const Tensor<T, Cpu> logits = head_logits(model.head(), hidden.view());
  for (const TokenBatch::Rows rows = batch.rows(); const std::int64_t token : rows.token) {
    const T* z = logits.data() + token * logits[1];
    std::vector<double> row(z, z + logits[1]);
    const double largest = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (const double x : row) sum += std::exp(x - largest);
    for (double& x : row) x -= largest + std::log(sum);
    out.push_back(row);
  }
  return out;
}

std::vector<std::size_t> top(const std::vector<double>& row, std::size_t count) {
  std::vector<std::size_t> order(row.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return row[a] > row[b]; });
  order.resize(count);
  return order;
}

Agreement by_definition(const std::vector<std::vector<double>>& student,
                        const std::vector<std::vector<double>>& teacher, const TokenBatch::Rows& rows) {
  Agreement a;
  double label_log_prob = 0;
  for (std::size_t r = 0; r < rows.token.size(); ++r) {
    const double w = rows.weight[r];
    a.tokens += w;
    for (std::size_t j = 0; j < student[r].size(); ++j) {
      const double s = student[r][j], t = teacher[r][j];
      a.forward_kl += w * std::exp(t) * (t - s);
      a.reverse_kl += w * std::exp(s) * (s - t);
      a.student_entropy -= w * std::exp(s) * s;
      a.teacher_entropy -= w * std::exp(t) * t;
    }
    const auto s5 = top(student[r], 5), t5 = top(teacher[r], 5);
    a.top1 += s5[0] == t5[0] ? w : 0;
    for (const std::size_t j : s5) a.top5 += std::count(t5.begin(), t5.end(), j) > 0 ? w / 5 : 0;
    a.top5_contains += std::count(s5.begin(), s5.end(), t5[0]) > 0 ? w : 0;
    a.label_top1 += s5[0] == static_cast<std::size_t>(rows.label[r]) ? w : 0;
    label_log_prob += w * student[r][static_cast<std::size_t>(rows.label[r])];
  }
  for (double* x : {&a.forward_kl, &a.reverse_kl, &a.student_entropy, &a.teacher_entropy, &a.top1, &a.top5,
                    &a.top5_contains, &a.label_top1})
    *x /= a.tokens;
  a.perplexity = std::exp(-label_log_prob / a.tokens);
  return a;
}

std::vector<double> values(const Agreement& a) {
  return {a.tokens,        a.forward_kl,      a.reverse_kl,      a.top1,       a.top5,
          a.top5_contains, a.student_entropy, a.teacher_entropy, a.perplexity, a.label_top1};
}

}  // namespace

TEMPLATE_TEST_CASE("agreement equals its definition summed over the vocabulary in double", "[eval]", float, double) {
  ToyModel<TestType> student(40, 6, 1), teacher_model(40, 6, 2);
  LiveTeacher teacher{teacher_model};
  const TokenBatch documents = three_documents();
  const Agreement expected =
      by_definition(row_log_probs(student, documents), row_log_probs(teacher_model, documents), documents.rows());
  REQUIRE(expected.tokens == 5.5);
  for (const std::int64_t tokens : {1, 7, 1000}) {
    const std::vector<double> got = values(agreement(student, teacher, documents, {.tokens = tokens})),
                              want = values(expected);
    for (std::size_t i = 0; i < want.size(); ++i) {
      CAPTURE(tokens, i);
      REQUIRE(kdlib_tests::near(got[i], want[i], Tolerance<TestType>::reduction * 10));
    }
  }
  REQUIRE(kdlib_tests::near(perplexity(student, documents).value(), expected.perplexity,
                            Tolerance<TestType>::reduction * 10));
}

TEST_CASE("standard errors come from the sums of documents", "[eval]") {
  REQUIRE(ratio_error(std::vector<double>{1, 3}, std::vector<double>{1, 1}) ==
          1);  // the error of a mean: sd sqrt(2) over sqrt(2)
  REQUIRE(ratio_error(std::vector<double>{2, 6, 4}, std::vector<double>{1, 3, 2}) == 0);
  REQUIRE(std::isnan(ratio_error(std::vector<double>{1}, std::vector<double>{1})));
  REQUIRE_THROWS_AS(ratio_error(std::vector<double>{1, 2}, std::vector<double>{1}), ShapeError);

  ToyModel<double> student(40, 6, 1), teacher_model(40, 6, 2);
  LiveTeacher teacher{teacher_model};
  const TokenBatch documents = three_documents();
  std::vector<double> weight, forward, reverse, top1;
  for (std::int64_t b : {0, 2}) {  // the second has no row
    TokenBatch one;
    const auto begin = static_cast<std::size_t>(documents.offsets[static_cast<std::size_t>(b)]),
               end = static_cast<std::size_t>(documents.offsets[static_cast<std::size_t>(b + 1)]);
    one.append(std::span(documents.ids).subspan(begin, end - begin),
               std::span(documents.weights).subspan(begin, end - begin));
    const Agreement a = by_definition(row_log_probs(student, one), row_log_probs(teacher_model, one), one.rows());
    weight.push_back(a.tokens);
    forward.push_back(a.forward_kl * a.tokens);
    reverse.push_back(a.reverse_kl * a.tokens);
    top1.push_back(a.top1 * a.tokens);
  }
  const Agreement a = agreement(student, teacher, documents);
  REQUIRE(kdlib_tests::near(a.forward_kl_error, ratio_error(forward, weight), 1e-9));
  REQUIRE(kdlib_tests::near(a.reverse_kl_error, ratio_error(reverse, weight), 1e-9));
  REQUIRE(kdlib_tests::near(a.top1_error, ratio_error(top1, weight), 1e-9));
  REQUIRE(a.forward_kl_error > 0);
}

TEST_CASE("a student equal to its teacher has divergence 0 and full agreement", "[eval]") {
  ToyModel<double> model(40, 6, 1);
  LiveTeacher teacher{model};
  const Agreement a = agreement(model, teacher, three_documents());
  REQUIRE(a.forward_kl == 0);
  REQUIRE(a.reverse_kl == 0);
  REQUIRE(a.top1 == 1);
  REQUIRE(a.top5 == 1);
  REQUIRE(a.student_entropy == a.teacher_entropy);
}

TEST_CASE("evaluation changes no gradient and gives the same bits twice", "[eval]") {
  ToyModel<float> student(40, 6, 1), teacher_model(40, 6, 2);
  LiveTeacher teacher{teacher_model};
  const Agreement a = agreement(student, teacher, three_documents()),
                  b = agreement(student, teacher, three_documents());
  REQUIRE(values(a) == values(b));
  for (auto* p : student.parameters()) REQUIRE_FALSE(p->gradient);
}

TEST_CASE("token log-probs are given for every token but the first of each document, whatever the weights (C14, C15)",
          "[eval][C14][C15]") {
  ToyModel<double> model(40, 6, 1);
  TokenBatch documents = three_documents();
  const std::vector<double> got = token_log_probs(model, documents, {.tokens = 3});
  REQUIRE(got.size() == 7);
  documents.weights.clear();
  const auto expected = row_log_probs(model, documents);
  const TokenBatch::Rows rows = documents.rows();
  for (std::size_t r = 0; r < got.size(); ++r)
    REQUIRE(
        kdlib_tests::near(got[r], expected[r][static_cast<std::size_t>(rows.label[r])], Tolerance<double>::reduction));
  TokenBatch single;
  single.append(Ids{3});
  REQUIRE(token_log_probs(model, single).empty());
}

TEST_CASE("documents without rows give zeros, ids outside the vocabulary are refused", "[eval]") {
  ToyModel<float> student(40, 6, 1), teacher_model(40, 6, 2);
  LiveTeacher teacher{teacher_model};
  TokenBatch none;
  none.append(Ids{1, 2}, std::vector<float>{0, 0});
  const Agreement a = agreement(student, teacher, none);
  REQUIRE(a.tokens == 0);
  REQUIRE(a.forward_kl == 0);
  REQUIRE(perplexity(student, none).value() == 1);
  TokenBatch outside;
  outside.append(Ids{1, 40});
  REQUIRE_THROWS_WITH(agreement(student, teacher, outside), contains("id 40"));
  REQUIRE_THROWS_WITH(perplexity(student, outside), contains("id 40"));
}

namespace {

/// A model that keeps the batches it was given and which routing it was told to follow.
struct WatchedModel : ToyModel<float> {
  using ToyModel<float>::ToyModel;
  std::vector<TokenBatch> seen;
  std::vector<std::int32_t> followed;  // first choice of each group's routing, -1 without
  const RoutingRecord* replay = nullptr;

  void set_routing(RoutingRecord*, const RoutingRecord* to_follow) { replay = to_follow; }
  std::int64_t experts() const { return 4; }
  Tensor<float, Cpu> forward(const TokenBatch& batch) {
    seen.push_back(batch);
    followed.push_back(replay == nullptr ? -1 : replay->ids.at(0).at(0));
    return ToyModel<float>::forward(batch);
  }
};

}  // namespace

TEST_CASE("evaluation hands positions, spans, sources and routing of the documents on, and follows routing on request",
          "[eval]") {
  TokenBatch documents = three_documents();
  documents.positions = {4, 5, 6, 7, 8, 9, 2, 30, 31, 32};
  documents.spans = std::vector<std::int32_t>(10, 3);
  documents.sources = {"a", "b", "c"};
  documents.routing.tokens = 10, documents.routing.active = 1;
  documents.routing.ids = {{0, 1, 2, 3, 0, 1, 2, 3, 1, 0}};
  WatchedModel student(40, 6, 1), teacher_model(40, 6, 2);
  LiveTeacher teacher{teacher_model};
  for (const bool replay : {false, true}) {
    const EvaluationSettings settings{.tokens = 7, .replay_routing = replay};  // groups of two documents and of one
    student.seen.clear(), student.followed.clear(), teacher_model.seen.clear(), teacher_model.followed.clear();
    perplexity(student, documents, settings);
    token_log_probs(student, documents, settings);
    agreement(student, teacher, documents, settings);
    REQUIRE(student.seen.size() == 6);
    REQUIRE(teacher_model.seen.size() == 2);
    for (std::size_t i = 0; i < 6; ++i) {
      for (const TokenBatch& got : {student.seen[i], teacher_model.seen[i % 2]}) {
        const TokenBatch right = i % 2 == 0 ? documents.part(0, 2) : documents.document(2);
        CHECK(got.ids == right.ids);
        CHECK(got.positions == right.positions);
        CHECK(got.spans == right.spans);
        CHECK(got.sources == right.sources);
        CHECK(got.routing.ids == right.routing.ids);
      }
      CHECK(student.followed[i] == (!replay ? -1 : i % 2 == 0 ? 0 : 3));
    }
    CHECK(teacher_model.followed == std::vector<std::int32_t>{-1, -1});
    CHECK(student.replay == nullptr);
  }
  ToyModel<float> without(40, 6, 1);
  CHECK_THROWS_WITH(perplexity(without, documents, {.replay_routing = true}), contains("replay_routing"));
}
