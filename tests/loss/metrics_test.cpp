// SPDX-License-Identifier: Apache-2.0
// Metrics on known distributions (C36), exact top-5 sets, and heads with bias, softcap and logit scale.
#include <algorithm>

#include "loss/row_reference.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {
RowMetrics metrics_of(const Row& s, const Row& t, std::int32_t label) {
  const std::int32_t labels[] = {label};
  return run_rows(CrossEntropy{}, Logits<float>({s}), Logits<float>({t}), {.labels = labels}, 1, true).result.metrics;
}

/// The five largest ids by sorting, lower ids first among equals.
std::vector<std::int64_t> sorted_five(const Row& z) {
  std::vector<std::int64_t> ids(z.size());
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int64_t>(i);
  std::stable_sort(ids.begin(), ids.end(), [&](std::int64_t a, std::int64_t b) {
    return z[static_cast<std::size_t>(a)] > z[static_cast<std::size_t>(b)];
  });
  ids.resize(std::min<std::size_t>(5, ids.size()));
  return ids;
}
}  // namespace

TEST_CASE("C36: each metric has the name and sign of what it measures", "[loss]") {
  const Row s = example_student(), t = example_teacher();
  const RowMetrics m = metrics_of(s, t, 1);
  CHECK(m.weight == 1);
  CHECK(m.teacher_weight == 1);
  CHECK(m.label_weight == 1);
  CHECK(m.forward_kl == Approx(0.650245281575959).epsilon(1e-6));  // KL(teacher || student)
  CHECK(m.reverse_kl == Approx(0.685861055921870).epsilon(1e-6));  // KL(student || teacher)
  CHECK(m.teacher_entropy == Approx(0.947536963975426).epsilon(1e-6));
  double entropy = 0;
  for (const double a : log_softmax(s)) entropy -= std::exp(a) * a;
  CHECK(m.student_entropy == Approx(entropy).epsilon(1e-6));
  CHECK(m.label_log_prob == Approx(std::log(.276004345)).epsilon(1e-6));
  CHECK(m.top1_agreement == 0);  // 2 against 0
  CHECK(m.top5_overlap == 1);    // of four entries all are in both
  CHECK(m.top5_contains == 1);
  CHECK(m.label_top1 == 0);
  CHECK(metrics_of(s, t, 2).label_top1 == 1);
  const RowMetrics far = metrics_of({9, 8, 7, 6, 5, 0, 0, 0, 0, 0}, {0, 0, 0, 6, 5, 0, 0, 9, 8, 7}, 0);
  CHECK(far.top5_overlap == Approx(0.4));
  CHECK(far.top5_contains == 0);
}

TEST_CASE("metrics are those of temperature 1 whatever the loss uses", "[loss]") {
  const Row s = example_student(), t = example_teacher();
  const RowMetrics m =
      run_rows(ForwardKl{.temperature = 3}, Logits<double>({s}), Logits<double>({t}), {}, 1, true).result.metrics;
  CHECK(m.forward_kl == Approx(0.650245281575959).epsilon(1e-12));
}

TEST_CASE("top-1 and top-5 sets are exact, ties included, on short and long rows at every level", "[loss]") {
  for (const CpuLevel level : {CpuLevel::portable, CpuLevel::avx2, CpuLevel::avx512}) {
    if (level > detail::best_cpu_level()) continue;
    const LevelScope scope(level);
    Normal random(21);
    for (int k = 0; k < 40; ++k) {
      const std::int64_t v = k < 10 ? 2 + k : 1 + random.below(9000);
      Row s = random.row(v, 2), t = random.row(v, 2);
      if (k % 2 == 0)  // many ties
        for (Row* row : {&s, &t})
          for (double& x : *row) x = std::round(x);
      for (double& x : s) x = static_cast<float>(x);
      for (double& x : t) x = static_cast<float>(x);
      const std::vector<std::int64_t> a = sorted_five(s), b = sorted_five(t);
      double common = 0;
      for (const std::int64_t i : a) common += std::count(b.begin(), b.end(), i) > 0 ? 1 : 0;
      const RowMetrics m = metrics_of(s, t, 0);
      INFO("V = " << v << " at " << cpu_level_name(level));
      CHECK(m.top1_agreement == (a[0] == b[0] ? 1 : 0));
      CHECK(m.top5_overlap == Approx(common / static_cast<double>(b.size())));
      CHECK(m.top5_contains == (std::count(a.begin(), a.end(), b[0]) > 0 ? 1 : 0));
      CHECK(m.label_top1 == (a[0] == 0 ? 1 : 0));
    }
  }
}

TEST_CASE("C36: the label's rank counts the larger entries, at every level, whatever the loss", "[loss]") {
  CHECK(metrics_of(example_student(), example_teacher(), 2).label_rank == 1);
  CHECK(metrics_of(example_student(), example_teacher(), 3).label_rank == 4);
  CHECK(metrics_of({3, 3, 1, 3}, {0, 0, 0, 0}, 1).label_rank == 1);  // equals do not count
  CHECK(metrics_of({3, -INFINITY, 1, -INFINITY}, {0, 0, 0, 0}, 3).label_rank == 3);
  CHECK(std::isnan(metrics_of({3, NAN, 1, 2}, {0, 0, 0, 0}, 1).label_rank));
  for (const CpuLevel level : {CpuLevel::portable, CpuLevel::avx2, CpuLevel::avx512}) {
    if (level > detail::best_cpu_level()) continue;
    const LevelScope scope(level);
    Normal random(22);
    for (const std::int64_t v : {5, 16, 1023, 1025, 5000}) {
      Row s = random.row(v, 2);
      for (double& x : s) x = static_cast<float>(v == 1025 ? std::round(x) : x);
      const std::int64_t y = random.below(v);
      double rank = 1;
      for (const double x : s) rank += x > s[static_cast<std::size_t>(y)] ? 1 : 0;
      CHECK(metrics_of(s, s, static_cast<std::int32_t>(y)).label_rank == rank);
    }
  }
}

TEMPLATE_TEST_CASE("C36: JS is free where it is the loss, on request elsewhere, else of weight 0", "[loss]", double,
                   float) {
  const Row s = example_student(), t = example_teacher();
  const Logits<TestType> a({s}), b({t});
  const auto metrics = [&](const auto& loss, bool request) {
    return row_loss(loss, a.view(), LogitTargets<TestType, Cpu>{b.view()}, {}, 1.0, View<TestType, Cpu>{},
                    {.metrics = true, .jensen_shannon = request})
        .metrics;
  };
  const double want = 0.153307115529217;
  for (const RowMetrics& m :
       {metrics(JensenShannon{}, false), metrics(JensenShannon{}, true), metrics(JensenShannon{.scaled = true}, false),
        metrics(ForwardKl{.temperature = 2}, true), metrics(JensenShannon{.beta = 0.1}, true)}) {
    CHECK(m.js_weight == 1);
    CHECK(agrees<TestType>(m.js, want, 1));
  }
  CHECK(metrics(ForwardKl{}, false).js_weight == 0);
  CHECK(metrics(JensenShannon{.beta = 0.1}, false).js_weight == 0);
  CHECK(metrics(JensenShannon{.temperature = 2}, false).js_weight == 0);
  Normal random(23);
  const Row x = random.row(3000, 4), y = random.row(3000, 4);
  const auto far = run_rows(JensenShannon{}, Logits<TestType>({x}), Logits<TestType>({y}), {}, 1, true);
  const auto asked =
      row_loss(ReverseKl{}, Logits<TestType>({x}).view(), LogitTargets<TestType, Cpu>{Logits<TestType>({y}).view()}, {},
               1.0, View<TestType, Cpu>{}, {.metrics = true, .jensen_shannon = true});
  CHECK(agrees<TestType>(asked.metrics.js, jensen_shannon(x, y, 0.5).value, 1));
  CHECK(agrees<TestType>(far.result.metrics.js, asked.metrics.js, 1));
  CHECK(row_loss(ReverseKl{}, a.view(), LogitTargets<TestType, Cpu>{a.view()}, {}, 1.0, View<TestType, Cpu>{},
                 {.metrics = true, .jensen_shannon = true})
            .metrics.js == 0);
}

TEST_CASE("C36: mass on the support, tail loss and the share of cut rows have the values of the example", "[loss]") {
  const std::int32_t ids[] = {0, 1};
  const Row p = log_softmax(example_teacher()), q = log_softmax(example_student());
  const double log_probs[] = {p[0], p[1]}, log_tail[] = {std::log(1 - .880797078)};
  const TopKTargets<double, Cpu> targets{{ids, {1, 2}}, {log_probs, {1, 2}}, {log_tail, {1}}};
  const Logits<double> s({example_student()});
  const auto of = [&](const auto& loss, bool metrics = true) {
    return row_loss(loss, s.view(), targets, {}, 1.0, View<double, Cpu>{}, {.metrics = metrics}).metrics;
  };
  const RowMetrics m = of(TopKForwardKl{});
  CHECK(m.support_weight == 1);
  CHECK(m.teacher_support_mass == Approx(.880797078).epsilon(1e-8));
  CHECK(m.student_support_mass == Approx(.443409442).epsilon(1e-8));
  const double tail = (1 - .880797078) * std::log((1 - .880797078) / (1 - .443409442));
  CHECK(m.tail_loss == Approx(tail).epsilon(1e-7));
  CHECK(of(Sum{Term{0.5, TopKForwardKl{}}, Term{0.1, NegativeEntropy{}}}).tail_loss ==
        Approx(0.5 * tail).epsilon(1e-7));
  CHECK(of(TopKReverseKl<>{}).tail_loss ==
        Approx((1 - .443409442) * std::log((1 - .443409442) / (1 - .880797078))).epsilon(1e-7));
  CHECK(of(TopKForwardKl{.mass = TopKMass::raw}).tail_loss == 0);
  CHECK(of(NegativeEntropy{}).support_weight == 0);
  CHECK(of(TopKForwardKl{}, false).support_weight == 0);

  const std::vector<Row> rows = {example_student(), example_student(), example_student()};
  const std::int32_t labels[] = {2, 0, 3};
  const float mu[] = {static_cast<float>(q[2] - 1), static_cast<float>(q[0]), static_cast<float>(q[3])},
              weights[] = {1, 2, 1};
  const RowInputs inputs{.labels = labels,
                         .weights = weights,
                         .behaviour_log_probs = mu};  // ratios e, 1, 1; advantages -1.65, 1.35, -1.15
  const auto cut = [&](const auto& loss) {
    return run_rows(loss, Logits<double>(rows),
                    Logits<double>({example_teacher(), example_teacher(), example_teacher()}), inputs, 1, true)
        .result.metrics;
  };
  CHECK(cut(PolicyGradient{}).clamp_weight == 4);
  CHECK(cut(PolicyGradient{}).clamped == 0);
  CHECK(cut(PolicyGradient{.ratio_limit = 2}).clamped == 1);
  CHECK(cut(PolicyGradient{.advantage_limit = 1.25f}).clamped == 3);
  CHECK(cut(PolicyGradient{.ratio_limit = 2, .advantage_limit = 1.5f}).clamped == 1);
  CHECK(cut(Sum{Term{0.5, PolicyGradient{.ratio_limit = 2}}, Term{0.5, ReverseKl{}}}).clamped == 1);
  CHECK(cut(BaselinePolicyGradient{{.advantage_limit = 1.25f}}).clamped == 2);  // advantages -0.97, 2.03, -0.47
  CHECK(cut(ReverseKl{}).clamp_weight == 0);
}

TEST_CASE("metrics are weighted sums, and rows of weight 0 stay out", "[loss]") {
  const std::vector<Row> s = {example_student(), {1, 2, 3, 4}, example_student()},
                         t = {example_teacher(), {4, 3, 2, 1}, example_teacher()};
  const float weights[] = {2, 0, 0.5};
  const RowMetrics m =
      run_rows(ForwardKl{}, Logits<double>(s), Logits<double>(t), {.weights = weights}, 1, true).result.metrics;
  CHECK(m.weight == 2.5);
  CHECK(m.forward_kl / m.weight == Approx(0.650245281575959).epsilon(1e-12));
  CHECK(m.label_weight == 0);
}

namespace {
/// Two heads with bias, softcap and logit scale, and hidden rows for them.
struct CappedHeads {
  Normal random{31};
  std::int64_t rows = 3, v = 19, h = 6;
  Tensor<double, Cpu> bias = tensor({v}), teacher_bias = tensor({v}), teacher_weight = tensor({v, h}),
                      teacher_hidden = tensor({rows, h}), hidden = tensor({rows, h});
  Parameter<double, Cpu> head{.name = "lm_head.weight", .value = tensor({v, h}), .gradient = {}, .trainable = true};

  Tensor<double, Cpu> tensor(Shape shape) {
    Tensor<double, Cpu> t(shape);
    for (std::int64_t i = 0; i < t.count(); ++i) t.data()[i] = random();
    return t;
  }
  HeadView<double, Cpu> student() const {
    return {.weight = head.value.view(), .bias = bias.view(), .softcap = 3, .logit_scale = 0.7f};
  }
  HiddenTargets<double, Cpu> targets() const {
    return {teacher_hidden.view(),
            {.weight = teacher_weight.view(), .bias = teacher_bias.view(), .softcap = 5, .logit_scale = 1.3f}};
  }
  /// The logits of a row by the formula cap tanh(scale (W x + b) / cap).
  Row logits(const Tensor<double, Cpu>& w, const Tensor<double, Cpu>& b, const double* x, double scale,
             double cap) const {
    Row out;
    for (std::int64_t i = 0; i < v; ++i) {
      double z = b.data()[i];
      for (std::int64_t k = 0; k < h; ++k) z += w.data()[i * h + k] * x[k];
      out.push_back(cap * std::tanh(scale * z / cap));
    }
    return out;
  }
};

/// Gradients of hidden rows and head against central differences of the loss.
template <class Loss, class Targets>
void check_gradients(CappedHeads& heads, const Loss& loss, const Targets& targets) {
  const std::int32_t labels[] = {0, 7, 18};
  const auto value = [&] {
    return head_loss(loss, heads.student(), heads.hidden.view(), targets, {.labels = labels}, 1.0, {}, nullptr)
        .loss.sum;
  };
  Tensor<double, Cpu> gradient(heads.hidden.shape());
  heads.head.zero_gradient();
  head_loss(loss, heads.student(), heads.hidden.view(), targets, {.labels = labels}, 1.0, gradient.view(), &heads.head,
            {.workspace_bytes = 2 * 3 * heads.v * 8});
  const double step = Tolerance<double>::difference_step;
  const auto differences = [&](double* x, const double* want, std::int64_t n) {
    std::vector<double> numeric;
    for (std::int64_t i = 0; i < n; ++i) {
      const double x0 = x[i];
      x[i] = x0 + step;
      const double up = value();
      x[i] = x0 - step;
      numeric.push_back((up - value()) / (2 * step));
      x[i] = x0;
    }
    CHECK(scaled_difference(want, numeric.data(), numeric.size()) < Tolerance<double>::finite_difference);
  };
  differences(heads.hidden.data(), gradient.data(), heads.hidden.count());
  differences(heads.head.value.data(), heads.head.gradient.data(), heads.head.value.count());
}
}  // namespace

TEST_CASE("C26: softcap, bias and logit scale of both heads enter the gradient", "[loss]") {
  CappedHeads heads;
  check_gradients(heads, Sum{Term{1, JensenShannon{.beta = 0.4}}, Term{0.3, CrossEntropy{}}}, heads.targets());
  check_gradients(heads, ForwardKl{.temperature = 2}, heads.targets());
  check_gradients(heads, CrossEntropy{}, NoTargets{});
}

TEST_CASE("C26: softcap, bias and logit scale of both heads enter the value", "[loss]") {
  const CappedHeads heads;
  double want = 0;
  for (std::int64_t r = 0; r < heads.rows; ++r)
    want += forward_kl(heads.logits(heads.head.value, heads.bias, heads.hidden.data() + r * heads.h,
                                    static_cast<double>(0.7f), 3),
                       heads.logits(heads.teacher_weight, heads.teacher_bias, heads.teacher_hidden.data() + r * heads.h,
                                    static_cast<double>(1.3f), 5))
                .value;
  CHECK(head_loss(ForwardKl{}, heads.student(), heads.hidden.view(), heads.targets(), {}, 1.0, {}, nullptr).loss.sum ==
        Approx(want).epsilon(1e-12));
}

TEST_CASE("wrong sizes and settings are refused with what they need", "[loss]") {
  Logits<double> s({example_student()}), t({example_teacher()});
  const LogitTargets<double, Cpu> targets{std::as_const(t).view()};
  const auto run = [&](const auto& loss, const RowInputs& rows) {
    return row_loss(loss, std::as_const(s).view(), targets, rows, 1.0, View<double, Cpu>{});
  };
  const std::int32_t outside[] = {4}, two[] = {1, 2};
  const float negative[] = {-1};
  CHECK_THROWS_WITH(run(CrossEntropy{}, {.labels = outside}), contains("label 4") && contains("vocabulary of 4"));
  CHECK_THROWS_AS(run(CrossEntropy{}, {.labels = two}), ShapeError);
  CHECK_THROWS_WITH(run(CrossEntropy{}, {}), contains("reads labels"));
  CHECK_THROWS_AS(run(ForwardKl{}, {.weights = negative}), InputError);
  CHECK_THROWS_WITH(run(ForwardKl{.temperature = 0}, {}), contains("temperature"));
  CHECK_THROWS_WITH(run(JensenShannon{.beta = 1.5}, {}), contains("[0, 1]"));
  CHECK_THROWS_AS(run(Sum{Term{NAN, ForwardKl{}}}, {}), ConfigError);
}
