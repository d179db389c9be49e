// SPDX-License-Identifier: Apache-2.0
// The fused pass: equal to rows of stored logits, and to itself for any chunk, split, packing and mask (D15, C14-C16,
// C29, C30, C32, C35).
#include "kdlib/tensor/token_batch.hpp"
#include "loss/row_reference.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

template <class T>
Tensor<T, Cpu> random_tensor(Normal& random, std::int64_t rows, std::int64_t columns, double deviation) {
  Tensor<T, Cpu> t({rows, columns});
  for (std::int64_t i = 0; i < t.count(); ++i) t.data()[i] = static_cast<T>(static_cast<float>(deviation * random()));
  return t;
}

/// A student and a teacher head of different width over one vocabulary, and rows of hidden states.
template <class T>
struct Problem {
  Tensor<T, Cpu> hidden, teacher_hidden, teacher_head;
  Parameter<T, Cpu> head;
  std::vector<std::int32_t> labels;
  std::vector<float> weights;

  Problem(std::int64_t rows, std::int64_t v, std::uint64_t seed = 1, std::int64_t h = 12, std::int64_t ht = 20) {
    Normal random(seed);
    hidden = random_tensor<T>(random, rows, h, 1);
    teacher_hidden = random_tensor<T>(random, rows, ht, 1);
    head.value = random_tensor<T>(random, v, h, 0.6);
    teacher_head = random_tensor<T>(random, v, ht, 0.5);
    for (std::int64_t r = 0; r < rows; ++r) {
      labels.push_back(static_cast<std::int32_t>(random.below(v)));
      weights.push_back(static_cast<float>(0.5 + random.uniform()));
    }
  }
  HeadView<T, Cpu> student() const { return {.weight = head.value.view()}; }
  HiddenTargets<T, Cpu> targets() const { return {teacher_hidden.view(), {.weight = teacher_head.view()}}; }
  RowInputs rows() const { return {.labels = labels, .weights = weights}; }
};

template <class T>
struct Outcome {
  HeadLossResult result;
  std::vector<T> hidden, head;
};

template <class T, class Loss, class Targets>
Outcome<T> run(const Loss& loss, Problem<T>& p, const Targets& targets, const RowInputs& rows,
               HeadLossSettings settings = {}, double scale = 0.1, const HeadView<T, Cpu>* student = nullptr) {
  settings.row_values = true;
  Tensor<T, Cpu> gradient(p.hidden.shape());
  p.head.gradient = Tensor<T, Cpu>::zeros(p.head.value.shape());
  const HeadView<T, Cpu> head = student == nullptr ? p.student() : *student;
  Outcome<T> out;
  out.result = head_loss(loss, head, p.hidden.view(), targets, rows, scale, gradient.view(), &p.head, settings);
  out.hidden.assign(gradient.data(), gradient.data() + gradient.count());
  out.head.assign(p.head.gradient.data(), p.head.gradient.data() + p.head.gradient.count());
  return out;
}

template <class A>
double difference(const A& a, const A& b) {
  REQUIRE(a.size() == b.size());
  return scaled_difference(a.data(), b.data(), a.size());
}
template <class T>
void check_same(const Outcome<T>& a, const Outcome<T>& b) {
  CHECK(a.result.loss.sum == Approx(b.result.loss.sum).epsilon(Tolerance<T>::loss));
  CHECK(a.result.loss.weight == Approx(b.result.loss.weight).epsilon(1e-12));
  CHECK(difference(a.hidden, b.hidden) < Tolerance<T>::gradient);
  CHECK(difference(a.head, b.head) < Tolerance<T>::gradient);
}

std::int64_t workspace(std::int64_t rows, std::int64_t v, std::size_t size) {
  return rows * v * 2 * static_cast<std::int64_t>(size);
}

const auto mixed_loss =
    Sum{Term{0.7, JensenShannon{.beta = 0.3, .temperature = 2}}, Term{0.3, CrossEntropy{}}, Term{0.2, ReverseKl{}}};

}  // namespace

TEST_CASE("fused gradients equal finite differences in double", "[loss]") {
  Problem<double> p(5, 31);
  p.weights[1] = 0;
  const double scale = 0.37, step = Tolerance<double>::difference_step;
  const auto check = [&](const auto& loss) {
    const Outcome<double> got = run(loss, p, p.targets(), p.rows(), {}, scale);
    const auto value = [&] { return scale * run(loss, p, p.targets(), p.rows(), {}, scale).result.loss.sum; };
    const auto differences = [&](double* x, const std::vector<double>& gradient) {
      std::vector<double> numeric(gradient.size());
      for (std::size_t i = 0; i < gradient.size(); ++i) {
        const double x0 = x[i];
        x[i] = x0 + step;
        const double up = value();
        x[i] = x0 - step;
        numeric[i] = (up - value()) / (2 * step);
        x[i] = x0;
      }
      CHECK(scaled_difference(gradient.data(), numeric.data(), numeric.size()) < Tolerance<double>::finite_difference);
    };
    differences(p.hidden.data(), got.hidden);
    differences(p.head.value.data(), got.head);
  };
  check(ForwardKl{.temperature = 2});
  check(ReverseKl{.temperature = 0.7f});
  check(JensenShannon{.beta = 0.1});
  check(CrossEntropy{});
  check(mixed_loss);
  check(Sum{Term{1, SampledKl<KlEstimator::k3>{}}, Term{0.5, SampledKl<KlEstimator::k2>{}}});
}

TEMPLATE_TEST_CASE("the fused pass equals rows of stored logits", "[loss]", double, float) {
  Problem<TestType> p(6, 129);
  const Outcome<TestType> fused = run(mixed_loss, p, p.targets(), p.rows());
  Tensor<TestType, Cpu> s({6, 129}), t({6, 129}), g({6, 129});
  Kernels<Cpu, TestType>::gemm(false, true, 6, 129, 12, 1, p.hidden.data(), 12, p.head.value.data(), 12, 0, s.data(),
                               129);
  Kernels<Cpu, TestType>::gemm(false, true, 6, 129, 20, 1, p.teacher_hidden.data(), 20, p.teacher_head.data(), 20, 0,
                               t.data(), 129);
  const Outcome<TestType> stored = run(mixed_loss, p, LogitTargets<TestType, Cpu>{t.view()}, p.rows());
  check_same(stored, fused);
  const HeadLossResult rows =
      row_loss(mixed_loss, s.view(), LogitTargets<TestType, Cpu>{t.view()}, p.rows(), 0.1, g.view());
  CHECK(rows.loss.sum == Approx(fused.result.loss.sum).epsilon(Tolerance<TestType>::loss));
  std::vector<TestType> hidden(6 * 12);
  Kernels<Cpu, TestType>::gemm(false, false, 6, 12, 129, 1, g.data(), 129, p.head.value.data(), 12, 0, hidden.data(),
                               12);
  CHECK(difference(hidden, fused.hidden) < Tolerance<TestType>::gradient);
}

TEMPLATE_TEST_CASE("D15: any chunk size gives the same loss and gradients", "[loss]", double, float) {
  Problem<TestType> p(17, 67);
  const Outcome<TestType> whole = run(mixed_loss, p, p.targets(), p.rows());
  for (std::int64_t chunk = 1; chunk <= 17; ++chunk)
    check_same(run(mixed_loss, p, p.targets(), p.rows(), {.workspace_bytes = workspace(chunk, 67, sizeof(TestType))}),
               whole);
  CHECK(head_loss_chunk(17, 67, 2, 4, 1) == 1);            // below one row still takes one
  CHECK(head_loss_chunk(17, 67, 2, 4, 67 * 8 * 9) == 9);   // 9 + 8
  CHECK(head_loss_chunk(17, 67, 2, 4, 67 * 8 * 16) == 9);  // not 16 + 1
  CHECK(head_loss_chunk(17, 67, 2, 4, std::int64_t{1} << 40) == 17);
}

TEST_CASE("repeated passes are equal bit for bit", "[loss]") {
  Problem<float> p(33, 515);
  const HeadLossSettings settings{.workspace_bytes = workspace(8, 515, 4), .metrics = true};
  const Outcome<float> a = run(mixed_loss, p, p.targets(), p.rows(), settings),
                       b = run(mixed_loss, p, p.targets(), p.rows(), settings);
  CHECK(a.hidden == b.hidden);
  CHECK(a.head == b.head);
  CHECK(a.result.loss.sum == b.result.loss.sum);
  CHECK(a.result.row_values == b.result.row_values);
}

TEST_CASE(
    "D15, C29 and C30: micro-batches of 100, 10 and 1 rows add up to the whole batch, which the mean of their means "
    "does not",
    "[loss]") {
  Problem<double> p(111, 23);
  const double scale = 1.0 / 111;
  p.weights.assign(111, 1.0f);
  const Outcome<double> whole = run(ForwardKl{}, p, p.targets(), p.rows(), {}, scale);
  HeadLossResult total;
  std::vector<double> head(whole.head.size(), 0.0);
  double mean_of_means = 0;
  std::int64_t begin = 0;
  for (const std::int64_t n : {100, 10, 1}) {
    Problem<double> part(1, 23);
    part.head.value = p.head.value;
    part.hidden = p.hidden.clone();
    Tensor<double, Cpu> gradient({n, 12});
    Parameter<double, Cpu> parameter{.name = "head", .value = p.head.value, .gradient = {}, .trainable = true};
    const auto result = head_loss(ForwardKl{}, p.student(), p.hidden.view().rows(begin, n), p.targets().rows(begin, n),
                                  {}, scale, gradient.view(), &parameter, HeadLossSettings{});
    for (std::size_t i = 0; i < head.size(); ++i) head[i] += parameter.gradient.data()[i];
    for (std::int64_t i = 0; i < n * 12; ++i)
      CHECK(gradient.data()[i] == Approx(whole.hidden[static_cast<std::size_t>(begin * 12 + i)]).margin(1e-15));
    total += result;
    mean_of_means += result.loss.mean() / 3;
    begin += n;
  }
  CHECK(total.loss.mean() == Approx(whole.result.loss.mean()).epsilon(1e-12));
  CHECK(difference(head, whole.head) < 1e-12);
  CHECK(std::abs(mean_of_means - whole.result.loss.mean()) > 1e-3);
  // The example of C30: losses 1, 2, 3 on 100, 10, 1 tokens.
  LossSum sum;
  sum += {100, 100}, sum += {20, 10}, sum += {3, 1};
  CHECK(sum.mean() == Approx(123.0 / 111).epsilon(1e-15));
}

TEMPLATE_TEST_CASE("C14, C15: rows of weight 0 cost nothing, get gradient 0 and change nothing else", "[loss]", double,
                   float) {
  Problem<TestType> p(9, 41);
  std::vector<float> all = p.weights;
  for (const std::size_t r : {std::size_t{0}, std::size_t{3}, std::size_t{4}, std::size_t{8}})
    p.weights[r] = 0, p.labels[r] = -1;  // a masked label may be anything
  const Outcome<TestType> masked =
      run(mixed_loss, p, p.targets(), p.rows(), {.workspace_bytes = workspace(2, 41, sizeof(TestType))});
  for (std::size_t r = 0; r < 9; ++r)
    for (std::size_t i = 0; i < 12; ++i) CHECK((masked.hidden[r * 12 + i] != 0) == (p.weights[r] != 0));
  for (std::size_t r = 0; r < 9; ++r) CHECK((masked.result.row_values[r] != 0) == (p.weights[r] != 0));
  // exactly one row: exactly one gradient row, and it is that row's
  p.weights.assign(9, 0.0f);
  p.weights[5] = all[5];
  const Outcome<TestType> one = run(mixed_loss, p, p.targets(), p.rows());
  for (std::size_t r = 0; r < 9; ++r)
    for (std::size_t i = 0; i < 12; ++i) CHECK((one.hidden[r * 12 + i] != 0) == (r == 5));
  for (std::size_t i = 0; i < 12; ++i) CHECK(one.hidden[5 * 12 + i] == Approx(masked.hidden[5 * 12 + i]).margin(1e-6));
}

TEST_CASE("C15 and C32: no rows, or none that counts, give loss 0, weight 0 and gradient 0", "[loss]") {
  Problem<float> none(0, 10);
  const Outcome<float> empty = run(mixed_loss, none, none.targets(), none.rows());
  CHECK(empty.result.loss.sum == 0);
  CHECK(empty.result.loss.weight == 0);
  CHECK(empty.result.loss.mean() == 0);
  for (const float g : empty.head) CHECK(g == 0);
  Problem<float> p(4, 10);
  p.weights.assign(4, 0.0f);
  const Outcome<float> masked = run(mixed_loss, p, p.targets(), p.rows(), {.metrics = true});
  CHECK(masked.result.loss.sum == 0);
  CHECK(masked.result.metrics.weight == 0);
  for (const float g : masked.hidden) CHECK(g == 0);
  for (const float g : masked.head) CHECK(g == 0);
}

TEST_CASE("C14: a document of one answer token has one row, which reads the token before it", "[loss]") {
  TokenBatch batch;
  const std::int32_t ids[] = {5, 7, 2, 9};
  const float weights[] = {0, 0, 1, 0};  // only the prediction of ids[3] counts
  batch.append(ids, weights);
  const TokenBatch::Rows rows = batch.rows();
  REQUIRE(rows.token == std::vector<std::int64_t>{2});
  CHECK(rows.label == std::vector<std::int32_t>{9});
}

TEMPLATE_TEST_CASE("C16: padded vocabularies of different size compare on the real ids; padding gets no gradient",
                   "[loss]", double, float) {
  Problem<TestType> p(5, 40), teacher(5, 48);
  const HeadView<TestType, Cpu> student{.weight = p.head.value.view(), .real_vocabulary = 37};
  const HiddenTargets<TestType, Cpu> targets{p.teacher_hidden.view(),
                                             {.weight = teacher.teacher_head.view(), .real_vocabulary = 37}};
  for (std::int32_t& y : p.labels) y %= 37;
  const Outcome<TestType> padded = run(mixed_loss, p, targets, p.rows(), {}, 0.1, &student);
  Problem<TestType> cut(5, 37);
  cut.hidden = p.hidden, cut.teacher_hidden = p.teacher_hidden, cut.labels = p.labels, cut.weights = p.weights;
  cut.head.value = Tensor<TestType, Cpu>({37, 12});
  std::copy(p.head.value.data(), p.head.value.data() + 37 * 12, cut.head.value.data());
  cut.teacher_head = Tensor<TestType, Cpu>({37, 20});
  std::copy(teacher.teacher_head.data(), teacher.teacher_head.data() + 37 * 20, cut.teacher_head.data());
  const Outcome<TestType> exact = run(mixed_loss, cut, cut.targets(), cut.rows());
  CHECK(padded.result.loss.sum == Approx(exact.result.loss.sum).epsilon(1e-12));
  CHECK(difference(padded.hidden, exact.hidden) < Tolerance<TestType>::gradient);
  for (std::size_t i = 37 * 12; i < padded.head.size(); ++i) CHECK(padded.head[i] == 0);
  CHECK_THROWS_WITH(
      run(ForwardKl{}, p,
          HiddenTargets<TestType, Cpu>{p.teacher_hidden.view(), {.weight = teacher.teacher_head.view()}}, p.rows()),
      contains("40 logits") && contains("48") && contains("real_vocabulary"));
}

TEST_CASE("D11: two zero logits added to both models change the forward KL; masking them does not", "[loss]") {
  Row s = example_student(), t = example_teacher();
  s.insert(s.end(), {0, 0}), t.insert(t.end(), {0, 0});
  CHECK(run_row<double>(ForwardKl{}, s, t).value() == Approx(.584965).epsilon(1e-6));
  const Logits<double> student({s}), teacher({t});
  Logits<double> gradient(1, 6);
  const auto got =
      row_loss(ForwardKl{}, student.view(), LogitTargets<double, Cpu>{teacher.view(), 4}, {}, 1.0, gradient.view());
  CHECK(got.loss.sum == Approx(.650245281575959).epsilon(1e-12));
  CHECK(gradient.values[4] == 0);
  CHECK(gradient.values[5] == 0);
}

TEST_CASE("D11 and C16: 128 zero logits of padding steal n / (e^lse + n) of the mass; as padding they steal nothing",
          "[loss]") {
  const double lse[] = {5, 10, 15, 20}, stolen[] = {.463, 5.78e-3, 3.92e-5, 2.64e-7};
  for (int k = 0; k < 4; ++k) {
    Row s(2 + 128, 0.0);
    s[0] = s[1] = lse[k] - std::log(2.0);
    const std::int32_t label[] = {1};
    const Logits<double> z({s});
    const auto value = [&](std::int64_t real) {
      return row_loss(ForwardKl{}, z.view(), LogitTargets<double, Cpu>{z.view(), real}, {.labels = label}, 1.0,
                      View<double, Cpu>{}, {.metrics = true})
          .metrics.label_log_prob;
    };
    CHECK(value(2) == Approx(std::log(0.5)).epsilon(1e-14));
    CHECK(1 - std::exp(value(0)) / 0.5 == Approx(stolen[k]).epsilon(2e-3));  // three digits are given
  }
}

TEST_CASE("C35: the loss is what is asked for: no cross-entropy is mixed in, and each named term reaches the gradient",
          "[loss]") {
  Problem<double> p(4, 29);
  const Outcome<double> kl = run(ForwardKl{}, p, p.targets(), p.rows()),
                        ce = run(CrossEntropy{}, p, NoTargets{}, p.rows());
  const Outcome<double> both = run(Sum{Term{0.9, ForwardKl{}}, Term{0.1, CrossEntropy{}}}, p, p.targets(), p.rows());
  CHECK(both.result.loss.sum == Approx(0.9 * kl.result.loss.sum + 0.1 * ce.result.loss.sum).epsilon(1e-12));
  for (std::size_t i = 0; i < both.hidden.size(); ++i)
    CHECK(both.hidden[i] == Approx(0.9 * kl.hidden[i] + 0.1 * ce.hidden[i]).margin(1e-14));
}
