// SPDX-License-Identifier: Apache-2.0
// Targets of one's own: an ensemble of two teachers whose logits exist for one chunk of rows at a time.
#include "loss/row_reference.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

/// The logarithm of the mean probability of two teachers.
struct Ensemble {
  static constexpr bool teacher_rows = true;
  static constexpr bool teacher_label = true;
  HiddenTargets<double, Cpu> a, b;
  std::vector<std::pair<std::int64_t, std::int64_t>>* asked = nullptr;  // rows of each call

  std::int64_t row_count() const { return a.hidden[0]; }
  std::int64_t vocabulary() const { return a.head.weight[0]; }
  std::int64_t real_vocabulary() const { return a.head.real_vocabulary; }
  void write_logits(std::int64_t begin, std::int64_t end, View<double, Cpu> out) const {
    if (asked != nullptr) asked->emplace_back(begin, end);
    Tensor<double, Cpu> other({out[0], out[1]});
    write_head_logits(a.head, a.hidden.rows(begin, end - begin), out);
    write_head_logits(b.head, b.hidden.rows(begin, end - begin), other.view());
    for (std::int64_t r = 0; r < out[0]; ++r) {
      double* p = out.data() + r * out[1];
      const double* q = other.data() + r * out[1];
      const Row first = log_softmax(Row(p, p + out[1])), second = log_softmax(Row(q, q + out[1]));
      for (std::size_t i = 0; i < first.size(); ++i) p[i] = log_of_both(first[i], second[i]) - std::log(2.0);
    }
  }
};

struct Models {
  static constexpr std::int64_t rows = 7, v = 40, padded = 43, h = 5, wide = 9;
  Tensor<double, Cpu> hidden{{rows, h}}, head{{v, h}}, hidden_a{{rows, wide}}, head_a{{padded, wide}},
      hidden_b{{rows, h}}, head_b{{padded, h}};
  std::vector<std::int32_t> labels = {1, 2, 3, 4, 5, 6, 39};
  std::vector<float> weights = {1, 0, 0.5f, 2, 0, 1, 1};

  Models() {
    Normal random(91);
    for (auto* t : {&hidden, &head, &hidden_a, &head_a, &hidden_b, &head_b})
      for (std::int64_t i = 0; i < t->count(); ++i) t->data()[i] = random();
  }
  HeadView<double, Cpu> student() const { return {.weight = head.view(), .real_vocabulary = v}; }
  Ensemble ensemble() const {
    return {{hidden_a.view(), {.weight = head_a.view(), .softcap = 4, .real_vocabulary = v}},
            {hidden_b.view(), {.weight = head_b.view(), .real_vocabulary = v}}};
  }
};

}  // namespace

TEST_CASE("an ensemble of two teachers gives the loss of its stored logits, chunk by chunk", "[loss]") {
  const Models m;
  Ensemble ensemble = m.ensemble();
  Tensor<double, Cpu> stored({Models::rows, Models::v});
  ensemble.write_logits(0, Models::rows, stored.view());
  const LogitTargets<double, Cpu> logits{std::as_const(stored).view(), Models::v};
  const auto loss =
      Sum{Term{0.8, JensenShannon{.beta = 0.3}}, Term{0.2, CrossEntropy{}}, Term{0.1, ReverseKl{.temperature = 2}}};
  for (const bool masked : {false, true})
    for (const std::int64_t chunk_rows : {1, 3, 100}) {
      INFO((masked ? "masked, " : "all rows, ") << chunk_rows << " rows a chunk");
      RowInputs inputs{.labels = m.labels};
      if (masked) inputs.weights = m.weights;
      std::vector<std::pair<std::int64_t, std::int64_t>> asked;
      ensemble.asked = &asked;
      Tensor<double, Cpu> got({Models::rows, Models::h}), want({Models::rows, Models::h});
      const HeadLossSettings settings{.workspace_bytes = chunk_rows * Models::v * 16, .metrics = true};
      const auto a =
          head_loss(loss, m.student(), m.hidden.view(), ensemble, inputs, 0.5, got.view(), nullptr, settings);
      const auto b = head_loss(loss, m.student(), m.hidden.view(), logits, inputs, 0.5, want.view(), nullptr, settings);
      CHECK(a.loss.sum == Approx(b.loss.sum).epsilon(1e-12));
      CHECK(a.metrics.forward_kl == Approx(b.metrics.forward_kl).epsilon(1e-12));
      CHECK(scaled_difference(got.data(), want.data(), static_cast<std::size_t>(got.count())) < 1e-12);
      std::int64_t rows = 0;
      for (const auto& [begin, end] : asked) {
        CHECK(end - begin <= chunk_rows);
        for (std::int64_t r = begin; r < end; ++r) CHECK((!masked || m.weights[static_cast<std::size_t>(r)] > 0));
        rows += end - begin;
      }
      CHECK(rows == (masked ? 5 : 7));
      if (masked && chunk_rows == 100)  // one call for each run of rows that count
        CHECK(asked == std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 1}, {2, 4}, {5, 7}});
    }
}

TEST_CASE("targets of one's own of another size are refused", "[loss]") {
  const Models m;
  const Tensor<double, Cpu> other({3, Models::wide});
  Ensemble ensemble = m.ensemble();
  ensemble.a.hidden = other.view();
  CHECK_THROWS_WITH(head_loss(ForwardKl{}, m.student(), m.hidden.view(), ensemble, {}, 1.0, {}, nullptr),
                    contains("targets of 3 rows for 7 rows"));
  Ensemble unreal = m.ensemble();
  unreal.a.head.real_vocabulary = 0;
  const HeadView<double, Cpu> all{.weight = m.head.view()};
  CHECK_THROWS_AS(head_loss(ForwardKl{}, all, m.hidden.view(), unreal, {}, 1.0, {}, nullptr), ShapeError);
}

TEST_CASE("what a loss did not ask for is NaN, not 0", "[loss]") {
  CHECK(std::isnan(RowStatistics{}.reverse_kl));
  CHECK(std::isnan(RowStatistics{}.student_entropy));
  CHECK(std::isnan(LabelPoint{}.teacher_log_prob));
  struct Unasked {  // reads a moment without saying so
    Dual at_normaliser(const RowStatistics& row) const { return {row.student_entropy, 0}; }
  };
  CHECK(std::isnan(run_row<double>(Unasked{}, {0, 1}, {0, 1}).value()));
}
