// SPDX-License-Identifier: Apache-2.0
// Losses of one row in plain double precision, written from the definitions in probability space, apart from the
// engine's formulas.
#ifndef KDLIB_TESTS_LOSS_ROW_REFERENCE_HPP
#define KDLIB_TESTS_LOSS_ROW_REFERENCE_HPP

#include <cmath>
#include <cstdint>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/loss/losses.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

namespace kdlib_tests {

using Row = std::vector<double>;

struct RowReference {
  double value = 0;
  Row gradient;  // with respect to the student's logits
};

inline Row log_softmax(const Row& z, double temperature = 1) {
  double m = -INFINITY, sum = 0;
  for (const double x : z) m = std::max(m, x);
  for (const double x : z) sum += std::exp((x - m) / temperature);
  Row out;
  for (const double x : z) out.push_back((x - m) / temperature - std::log(sum));
  return out;
}

/// p * x with 0 * infinity = 0.
inline double times(double p, double x) { return p == 0 ? 0 : p * x; }

/// From w_i = p_s(i) dL/dp_s(i): gradient (w_j - p_j sum w) / T.
inline RowReference finish(double value, const Row& log_p, const Row& w, double temperature) {
  double sum = 0;
  for (const double x : w) sum += x;
  RowReference r{value, {}};
  for (std::size_t j = 0; j < w.size(); ++j) r.gradient.push_back((w[j] - std::exp(log_p[j]) * sum) / temperature);
  return r;
}

inline RowReference forward_kl(const Row& s, const Row& t, double temperature = 1) {
  const Row a = log_softmax(s, temperature), b = log_softmax(t, temperature);
  double value = 0;
  Row w;
  for (std::size_t i = 0; i < a.size(); ++i) value += times(std::exp(b[i]), b[i] - a[i]), w.push_back(-std::exp(b[i]));
  return finish(value, a, w, temperature);
}

inline RowReference reverse_kl(const Row& s, const Row& t, double temperature = 1) {
  const Row a = log_softmax(s, temperature), b = log_softmax(t, temperature);
  double value = 0;
  Row w;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double term = times(std::exp(a[i]), a[i] - b[i]);
    value += term, w.push_back(term + std::exp(a[i]));
  }
  return finish(value, a, w, temperature);
}

inline RowReference jensen_shannon(const Row& s, const Row& t, double beta, double temperature = 1,
                                   bool scaled = false) {
  if (beta == 0) return forward_kl(s, t, temperature);
  if (beta == 1) return reverse_kl(s, t, temperature);
  const Row a = log_softmax(s, temperature), b = log_softmax(t, temperature);
  const double factor = scaled ? 1 / (beta * (1 - beta)) : 1;
  double value = 0;
  Row w;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double high = std::max(a[i], b[i]);
    const double log_m = high + std::log(beta * std::exp(b[i] - high) + (1 - beta) * std::exp(a[i] - high));
    value += beta * times(std::exp(b[i]), b[i] - log_m) + (1 - beta) * times(std::exp(a[i]), a[i] - log_m);
    w.push_back(factor * (1 - beta) * times(std::exp(a[i]), a[i] - log_m));
  }
  return finish(factor * value, a, w, temperature);
}

/// log(a p + b q) from log p and log q.
inline double log_mixture(double a, double log_p, double b, double log_q) {
  const double x = std::log(a) + log_p, y = std::log(b) + log_q, high = std::max(x, y);
  return high + std::log1p(std::exp(std::min(x, y) - high));
}

inline RowReference skew_forward_kl(const Row& s, const Row& t, double lambda, double temperature = 1) {
  const Row a = log_softmax(s, temperature), b = log_softmax(t, temperature);
  double value = 0;
  Row w;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double log_m = log_mixture(lambda, b[i], 1 - lambda, a[i]);
    value += times(std::exp(b[i]), b[i] - log_m);
    w.push_back(-(1 - lambda) * std::exp(a[i] + b[i] - log_m));  // -p_t (1 - lambda) p_s / m
  }
  return finish(value, a, w, temperature);
}

inline RowReference skew_reverse_kl(const Row& s, const Row& t, double lambda, double temperature = 1) {
  const Row a = log_softmax(s, temperature), b = log_softmax(t, temperature);
  double value = 0;
  Row w;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double log_m = log_mixture(1 - lambda, b[i], lambda, a[i]), p = std::exp(a[i]);
    value += times(p, a[i] - log_m);
    w.push_back(times(p, a[i] - log_m) - lambda * std::exp(2 * a[i] - log_m));
  }
  return finish(value, a, w, temperature);
}

inline RowReference cross_entropy(const Row& s, std::int32_t label, double temperature = 1) {
  const Row a = log_softmax(s, temperature);
  Row w(s.size(), 0.0);
  w[static_cast<std::size_t>(label)] = -1;
  return finish(-a[static_cast<std::size_t>(label)], a, w, temperature);
}

/// value rho (log p_s - log p_t), gradient with the advantage held constant.
inline RowReference policy_gradient(const Row& s, double teacher_log_prob, std::int32_t label, double ratio) {
  const Row a = log_softmax(s);
  const double advantage = teacher_log_prob - a[static_cast<std::size_t>(label)];
  Row w(s.size(), 0.0);
  w[static_cast<std::size_t>(label)] = -advantage * ratio;
  return finish(-advantage * ratio, a, w, 1);
}

inline void add(RowReference& total, double weight, const RowReference& part) {
  total.value += weight * part.value;
  if (total.gradient.empty()) total.gradient.assign(part.gradient.size(), 0.0);
  for (std::size_t i = 0; i < part.gradient.size(); ++i) total.gradient[i] += weight * part.gradient[i];
}

// ---- the example of the specification (losses.md, section 3)
// ----------------------------------------------------------------------

inline Row example_teacher() { return {2, 1, 0, -1}; }
inline Row example_student() { return {0, 0.5, 1, -0.5}; }

// ---- the engine on rows
// -------------------------------------------------------------------------------------------------------------

template <class T>
struct Logits {
  std::vector<T> values;
  std::int64_t rows = 0, columns = 0;

  Logits(std::int64_t r, std::int64_t v) : values(static_cast<std::size_t>(r * v)), rows(r), columns(v) {}
  explicit Logits(const std::vector<Row>& from)
      : Logits(static_cast<std::int64_t>(from.size()), static_cast<std::int64_t>(from.front().size())) {
    std::size_t k = 0;
    for (const Row& row : from)
      for (const double x : row) values[k++] = static_cast<T>(x);
  }
  kdlib::View<const T, kdlib::Cpu> view() const { return {values.data(), {rows, columns}}; }
  kdlib::View<T, kdlib::Cpu> view() { return {values.data(), {rows, columns}}; }
  Row row(std::int64_t r) const {
    Row out;
    for (std::int64_t i = 0; i < columns; ++i)
      out.push_back(static_cast<double>(values[static_cast<std::size_t>(r * columns + i)]));
    return out;
  }
};

template <class T>
struct EngineResult {
  kdlib::HeadLossResult result;
  Logits<T> gradient;
  double value(std::int64_t r = 0) const { return result.row_values[static_cast<std::size_t>(r)]; }
};

/// Value and gradient of sum_r weight_r value_r (scale 1), every row's value, metrics.
template <class T, class Loss>
EngineResult<T> run_rows(const Loss& loss, const Logits<T>& student, const Logits<T>& teacher,
                         const kdlib::RowInputs& rows = {}, double scale = 1, bool metrics = false) {
  EngineResult<T> out{{}, Logits<T>(student.rows, student.columns)};
  out.result = kdlib::row_loss(loss, student.view(), kdlib::LogitTargets<T, kdlib::Cpu>{teacher.view()}, rows, scale,
                               out.gradient.view(), {.metrics = metrics, .row_values = true});
  return out;
}
template <class T, class Loss>
EngineResult<T> run_row(const Loss& loss, const Row& s, const Row& t, const kdlib::RowInputs& rows = {}) {
  return run_rows(loss, Logits<T>(std::vector<Row>{s}), Logits<T>(std::vector<Row>{t}), rows);
}

/// What the engine may differ by: double 1e-12; float 1e-5 relative plus 2e-7 absolute (issue text); the largest
/// difference over what is allowed.
template <class T>
bool agrees(double got, double want, double magnitude) {
  if (std::isnan(got) || std::isnan(want)) return false;
  const double allowed = std::is_same_v<T, double>
                             ? Tolerance<double>::loss * std::max(1.0, magnitude)
                             : (std::is_same_v<T, float> ? 1e-5 * magnitude + 2e-7 : 4e-3 * magnitude + 1e-6);
  return std::abs(got - want) <= allowed;
}

template <class T>
void check_row(const EngineResult<T>& got, std::int64_t r, const RowReference& want, double weight = 1) {
  INFO("row " << r << ": value " << got.value(r) << ", expected " << want.value);
  CHECK(agrees<T>(got.value(r), want.value, std::abs(want.value)));
  double largest = 0, worst = 0;
  std::size_t at = 0;
  for (const double g : want.gradient) largest = std::max(largest, std::abs(g * weight));
  const Row row = got.gradient.row(r);
  for (std::size_t i = 0; i < row.size(); ++i) {
    const double d = std::abs(row[i] - want.gradient[i] * weight);
    if (!(d <= worst)) worst = d, at = i;
  }
  INFO("gradient differs most at entry " << at << ": " << row[at] << ", expected " << want.gradient[at] * weight);
  CHECK(agrees<T>(row[at], want.gradient[at] * weight, largest));
}

/// Normal numbers, seeded.
class Normal {
 public:
  explicit Normal(std::uint64_t seed) : rng_(seed, kdlib::RngPurpose::test) {}
  double uniform() { return rng_.uniform(next_++); }
  double operator()() {
    const double u = uniform(), v = uniform();
    return std::sqrt(-2 * std::log(1 - u)) * std::cos(6.283185307179586 * v);
  }
  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(rng_.below(next_++, static_cast<std::uint64_t>(n)));
  }
  Row row(std::int64_t n, double deviation) {
    Row out;
    for (std::int64_t i = 0; i < n; ++i) out.push_back(deviation * (*this)());
    return out;
  }

 private:
  kdlib::Rng rng_;
  std::uint32_t next_ = 0;
};

/// Runs a case at one vector level and restores the level at the end of the scope.
class LevelScope {
 public:
  explicit LevelScope(kdlib::CpuLevel level) : before_(kdlib::cpu_level()) { kdlib::set_cpu_level(level); }
  ~LevelScope() { kdlib::set_cpu_level(before_); }
  LevelScope(const LevelScope&) = delete;
  LevelScope& operator=(const LevelScope&) = delete;

 private:
  kdlib::CpuLevel before_;
};

}  // namespace kdlib_tests

#endif
