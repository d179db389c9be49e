// SPDX-License-Identifier: Apache-2.0
// Factors that undo a rounding: the best approximation of their rank for the text's inputs, found again by plain loops.
#include "kdlib/model/compensate.hpp"

#include <cmath>
#include <map>

#include "kdlib/checkpoint/load.hpp"
#include "kdlib/model/quantize.hpp"
#include "reference_models.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, double>;
using Matrix = std::vector<std::vector<double>>;

namespace {

/// Keeps what entered each map.
struct Inputs final : LinearObserver<Cpu, double> {
  void observe(const Linear<Cpu, double>& map, const Tensor<double, Cpu>& x) override { seen[map.path] = x.clone(); }
  std::map<std::string, Tensor<double, Cpu>> seen;
};

Matrix rows_of(const Tensor<double, Cpu>& t) {
  Matrix m(static_cast<std::size_t>(t[0]));
  for (std::int64_t i = 0; i < t[0]; ++i)
    m[static_cast<std::size_t>(i)].assign(t.data() + i * t[1], t.data() + (i + 1) * t[1]);
  return m;
}

/// a b^T.
Matrix product(const Matrix& a, const Matrix& b) {
  Matrix c(a.size(), std::vector<double>(b.size(), 0));
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::size_t j = 0; j < b.size(); ++j)
      for (std::size_t k = 0; k < a[i].size(); ++k) c[i][j] += a[i][k] * b[j][k];
  return c;
}

double energy(const Matrix& m) {
  double sum = 0;
  for (const auto& row : m)
    for (const double v : row) sum += v * v;
  return sum;
}

/// Sum of the `count` largest eigenvalues of a symmetric matrix, one after the other by power iteration and deflation.
double largest_eigenvalues(Matrix g, std::int64_t count) {
  double sum = 0;
  for (std::int64_t n = 0; n < count; ++n) {
    std::vector<double> v(g.size(), 1);
    for (std::size_t i = 0; i < v.size(); ++i)
      v[i] += 0.01 * static_cast<double>((i * 7 + static_cast<std::size_t>(n)) % 5);
    double value = 0;
    for (int step = 0; step < 2000; ++step) {
      const Matrix next = product(g, {v});
      value = 0;
      for (const auto& row : next) value += row[0] * row[0];
      value = std::sqrt(value);
      for (std::size_t i = 0; i < v.size(); ++i) v[i] = next[i][0] / value;
    }
    sum += value;
    for (std::size_t i = 0; i < v.size(); ++i)
      for (std::size_t j = 0; j < v.size(); ++j) g[i][j] -= value * v[i] * v[j];
  }
  return sum;
}

/// W - codes - s B A of a student's map.
Matrix remaining(const Linear<Cpu, double>& original, const Linear<Cpu, double>& map) {
  Matrix e = rows_of(original.weight()->value);
  const Matrix codes = rows_of(map.packed()->decode_all()), a = rows_of(map.lora->a.value),
               b = rows_of(map.lora->b.value);
  for (std::size_t i = 0; i < e.size(); ++i)
    for (std::size_t j = 0; j < e[i].size(); ++j) {
      e[i][j] -= codes[i][j];
      for (std::size_t r = 0; r < a.size(); ++r) e[i][j] -= map.lora->scale * b[i][r] * a[r][j];
    }
  return e;
}

double logit_distance(Model& a, Model& b, const TokenBatch& batch) {
  const auto x = logits_of(a, a.forward(batch)), y = logits_of(b, b.forward(batch));
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += (x[i] - y[i]) * (x[i] - y[i]);
  return sum;
}

}  // namespace

TEST_CASE("Compensating factors are the best approximation of their rank for the text's inputs", "[model][quant]") {
  const ReferenceModel r("llama");
  const TokenBatch text = r.tokens();
  Model original = Model::from_pretrained(r.path), student = original.share();
  quantize_linear(student, {.kind = PackedKind::int3, .group_size = 32});
  add_lora(student, {.rank = 3, .alpha = 6, .seed = 7});
  const double before = logit_distance(original, student, text);
  const CompensateReport report = compensate_rounding(student, original, text, {.iterations = 200});
  CHECK(report.maps == static_cast<std::int64_t>(student.linears().size()));
  CHECK(report.error_after < 0.8 * report.error_before);
  CHECK(logit_distance(original, student, text) < 0.8 * before);

  Inputs inputs;
  original.forward(text, inputs);
  for (std::size_t i = 0; i < student.linears().size(); i += 3) {  // q, o, up and others
    const Linear<Cpu, double>&from = *original.linears()[i], &map = *student.linears()[i];
    CAPTURE(map.path);
    Matrix error = rows_of(from.weight()->value);
    const Matrix codes = rows_of(map.packed()->decode_all()), x = rows_of(inputs.seen.at(map.path));
    for (std::size_t k = 0; k < error.size(); ++k)
      for (std::size_t j = 0; j < error[k].size(); ++j) error[k][j] -= codes[k][j];
    const Matrix output = product(error, x);  // [out, N]
    const double best = energy(output) - largest_eigenvalues(product(output, output), 3);
    const double left = energy(product(remaining(from, map), x));
    CHECK(left >= best * (1 - 1e-9));
    CHECK(left <= best * (1 + 1e-3));
    double squares = 0;
    for (const double v : std::vector<double>(map.lora->a.value.data(), map.lora->a.value.data() + 3 * map.in))
      squares += v * v;
    CHECK(std::fabs(squares - 1.0) < 1e-9);  // 3 in elements of mean square 1 / (3 in)
  }
}

TEST_CASE("Factors of full rank undo a rounding altogether", "[model][quant]") {
  const ReferenceModel r("llama");
  Model original = Model::from_pretrained(r.path), student = original.share();
  quantize_linear(student, {.group_size = 32});
  const std::int64_t rank = student.linears().front()->out;
  add_lora(student, {.rank = rank, .alpha = 8, .targets = {"q_proj"}, .seed = 7});
  compensate_rounding(student, original, r.tokens());
  for (std::size_t i = 0; i < student.linears().size(); ++i) {
    const Linear<Cpu, double>& map = *student.linears()[i];
    if (map.lora == nullptr) continue;
    CAPTURE(map.path);
    const double left = energy(remaining(*original.linears()[i], map));
    CHECK(left < 1e-12 * energy(rows_of(original.linears()[i]->weight()->value)));
  }
}

TEST_CASE("Compensation refuses students that have nothing to compensate", "[model][quant]") {
  const ReferenceModel r("llama");
  Model original = Model::from_pretrained(r.path), student = original.share();
  CHECK_THROWS_WITH(compensate_rounding(student, original, r.tokens()), contains("no rounded linear map"));
  add_lora(student, {.rank = 2});
  CHECK_THROWS_WITH(compensate_rounding(student, original, r.tokens()), contains("no rounded linear map"));
  quantize_linear(student, {.group_size = 32});
  CHECK_THROWS_WITH(compensate_rounding(student, original, r.tokens(), {.iterations = 0}), contains("positive"));
}
