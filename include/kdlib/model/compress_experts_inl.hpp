// SPDX-License-Identifier: Apache-2.0
// Bodies of compress_experts.hpp: the search in whitened coordinates. Aligning is in align_experts_inl.hpp, Adam in
// compress_adam_inl.hpp.
#ifndef KDLIB_MODEL_COMPRESS_EXPERTS_INL_HPP
#define KDLIB_MODEL_COMPRESS_EXPERTS_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/core/fields.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/model/compress_experts.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// One search. Experts, core and factors are those of the whitened inputs: W S, C S, S^-1 Ui, S^T Vi, S^T B.
class ExpertCompressor {
 public:
  ExpertCompressor(std::vector<DenseMatrix> experts, std::vector<double> weights, const CompressSettings& settings,
                   CompressReport& report)
      : experts_(std::move(experts)), weights_(std::move(weights)), settings_(settings), report_(report) {
    const DenseMatrix& first = experts_.front();
    double total = 0;
    map_.form = settings.form;
    map_.core = DenseMatrix(first.rows, first.columns);
    for (std::size_t e = 0; e < experts_.size(); ++e) {
      total += weights_[e];
      add_scaled(map_.core, weights_[e], experts_[e]);
      report.plain += weights_[e] * experts_[e].squares();
      map_.experts.push_back(empty_part(settings.form, first.rows, first.columns, settings.rank));
    }
    for (double& v : map_.core.values) v /= total;
    told("mean");
  }

  /// Fits and cores in turn, then a last fit.
  void alternate() {
    for (std::int64_t round = 0; round < settings_.rounds; ++round) {
      const double before = report_.objective;
      fit();
      fit_core();
      if (report_.objective > (1 - settings_.tolerance) * before) break;
    }
    fit();
  }
  /// Adam on all numbers from here, the best state kept.
  void descend(const char* name, std::int64_t steps);
  void random_factors();
  SharedCore& map() { return map_; }

 private:
  double error_of(std::size_t e) const {
    DenseMatrix rest = experts_[e];
    add_scaled(rest, -1, map_.weight(e));
    return weights_[e] * rest.squares();
  }
  double error() const {
    double sum = 0;
    for (std::size_t e = 0; e < experts_.size(); ++e) sum += error_of(e);
    return sum;
  }
  void told(const char* name) {
    report_.objective = error();
    report_.steps.push_back({name, report_.objective});
    if (settings_.progress) settings_.progress(report_.steps.back());
  }

  void fit();
  void fit_right(std::size_t e);
  void fit_left(std::size_t e);
  void fit_residual(std::size_t e);
  void fit_core();
  double soft_inverse(const ThinSvd& svd, std::size_t i) const {
    const double s = svd.s[i], divisor = s * s + settings_.soft * svd.s[0] * svd.s[0];
    return divisor > 0 ? s / divisor : 0;
  }
  /// Keeps the new factors unless the expert's error rises; then both columns of each pair get equal norms.
  void keep(std::size_t e, const ExpertPart& before, double error_before);
  DenseMatrix normal_product(const DenseMatrix& core) const;
  DenseMatrix around(std::size_t e, const DenseMatrix& m) const;
  ExpertPart descend_gradient(std::size_t e, DenseMatrix& core_gradient) const;

  std::vector<DenseMatrix> experts_;
  std::vector<double> weights_;
  const CompressSettings& settings_;
  CompressReport& report_;
  SharedCore map_;
};

/// The first `rank` columns of `m` scaled by factor(i).
template <class F>
DenseMatrix leading_columns(const DenseMatrix& m, std::int64_t rank, F&& factor) {
  DenseMatrix out(m.rows, rank);
  for (std::int64_t j = 0; j < std::min(rank, m.columns); ++j) {
    const double f = factor(static_cast<std::size_t>(j));
    for (std::int64_t i = 0; i < m.rows; ++i) out(i, j) = f * m(i, j);
  }
  return out;
}

KDLIB_FUNC void balance_columns(DenseMatrix& u, DenseMatrix& v) {
  for (std::int64_t j = 0; j < u.columns; ++j) {
    double a = 0, b = 0;
    for (std::int64_t i = 0; i < u.rows; ++i) a += u(i, j) * u(i, j);
    for (std::int64_t i = 0; i < v.rows; ++i) b += v(i, j) * v(i, j);
    if (a == 0 || b == 0) continue;
    const double factor = std::pow(b / a, 0.25);
    for (std::int64_t i = 0; i < u.rows; ++i) u(i, j) *= factor;
    for (std::int64_t i = 0; i < v.rows; ++i) v(i, j) /= factor;
  }
}

KDLIB_FUNC void ExpertCompressor::keep(std::size_t e, const ExpertPart& before, double error_before) {
  ExpertPart& p = map_.experts[e];
  if (!(error_of(e) <= error_before)) {
    p = before;
    return;
  }
  if (map_.form == CoreForm::residual) return balance_columns(p.a, p.b);
  balance_columns(p.input_u, p.input_v);
  balance_columns(p.output_u, p.output_v);
}

/// N = (1 + Uo Vo^T) C = A S B^T; A^T (W - N) ~ P D Q^T; Ui = B S^+ P D^1/2, Vi = Q D^1/2.
KDLIB_FUNC void ExpertCompressor::fit_right(std::size_t e) {
  ExpertPart& p = map_.experts[e];
  const ExpertPart before = p;
  const double error_before = error_of(e);
  const DenseMatrix n = wrapped(p.output_u, p.output_v, map_.core);
  const ThinSvd of_n = thin_svd(n);
  DenseMatrix rest = experts_[e];
  add_scaled(rest, -1, n);
  const ThinSvd best = thin_svd(multiply_transposed(of_n.u, rest));
  const auto root = [&](std::size_t i) { return std::sqrt(best.s[i]); };
  DenseMatrix left = leading_columns(best.u, settings_.rank, root);
  for (std::int64_t i = 0; i < left.rows; ++i)
    for (std::int64_t j = 0; j < left.columns; ++j) left(i, j) *= soft_inverse(of_n, static_cast<std::size_t>(i));
  p.input_u = multiply(of_n.v, left);
  p.input_v = leading_columns(best.v, settings_.rank, root);
  keep(e, before, error_before);
}

/// T = C (1 + Ui Vi^T) = A S B^T; (W - T) B ~ P D Q^T; Uo = P D^1/2, Vo = A S^+ Q D^1/2.
KDLIB_FUNC void ExpertCompressor::fit_left(std::size_t e) {
  ExpertPart& p = map_.experts[e];
  const ExpertPart before = p;
  const double error_before = error_of(e);
  const DenseMatrix t = wrapped_behind(map_.core, p.input_u, p.input_v);
  const ThinSvd of_t = thin_svd(t);
  DenseMatrix rest = experts_[e];
  add_scaled(rest, -1, t);
  const ThinSvd best = thin_svd(multiply(rest, of_t.v));
  const auto root = [&](std::size_t i) { return std::sqrt(best.s[i]); };
  p.output_u = leading_columns(best.u, settings_.rank, root);
  DenseMatrix right = leading_columns(best.v, settings_.rank, root);
  for (std::int64_t i = 0; i < right.rows; ++i)
    for (std::int64_t j = 0; j < right.columns; ++j) right(i, j) *= soft_inverse(of_t, static_cast<std::size_t>(i));
  p.output_v = multiply(of_t.u, right);
  keep(e, before, error_before);
}

/// A B^T is the best approximation of W - C of that rank.
KDLIB_FUNC void ExpertCompressor::fit_residual(std::size_t e) {
  const ExpertPart before = map_.experts[e];
  const double error_before = error_of(e);
  DenseMatrix rest = experts_[e];
  add_scaled(rest, -1, map_.core);
  const ThinSvd best = thin_svd(rest);
  const auto root = [&](std::size_t i) { return std::sqrt(best.s[i]); };
  map_.experts[e].a = leading_columns(best.u, settings_.rank, root);
  map_.experts[e].b = leading_columns(best.v, settings_.rank, root);
  keep(e, before, error_before);
}

/// With a core of full rank the first half-step on the smaller side reaches the bound of that rank.
KDLIB_FUNC void ExpertCompressor::fit() {
  const auto each = [this](const char* name, void (ExpertCompressor::*half)(std::size_t)) {
    for (std::size_t e = 0; e < experts_.size(); ++e) {
      check_stop();
      (this->*half)(e);
    }
    told(name);
  };
  if (map_.form == CoreForm::residual) return each("fit", &ExpertCompressor::fit_residual);
  const bool right_first = map_.core.rows <= map_.core.columns;
  if (right_first) each("right", &ExpertCompressor::fit_right);
  each("left", &ExpertCompressor::fit_left);
  if (!right_first) each("right", &ExpertCompressor::fit_right);
}

/// L^T m R^T.
KDLIB_FUNC DenseMatrix ExpertCompressor::around(std::size_t e, const DenseMatrix& m) const {
  const ExpertPart& p = map_.experts[e];
  return wrapped(p.output_v, p.output_u, wrapped_behind(m, p.input_v, p.input_u));
}

/// sum_e f_e L^T L C R R^T.
KDLIB_FUNC DenseMatrix ExpertCompressor::normal_product(const DenseMatrix& core) const {
  DenseMatrix out(core.rows, core.columns);
  for (std::size_t e = 0; e < experts_.size(); ++e) {
    const ExpertPart& p = map_.experts[e];
    add_scaled(out, weights_[e],
               around(e, wrapped(p.output_u, p.output_v, wrapped_behind(core, p.input_u, p.input_v))));
  }
  return out;
}

/// The core that is best for these factors: conjugate gradients on the normal equations from the present one, or for a
/// residual the mean of what the factors leave.
KDLIB_FUNC void ExpertCompressor::fit_core() {
  const DenseMatrix before = map_.core;
  const double error_before = report_.objective;
  DenseMatrix wanted(before.rows, before.columns);
  double total = 0;
  for (std::size_t e = 0; e < experts_.size(); ++e) {
    total += weights_[e];
    if (map_.form == CoreForm::wrappers) {
      add_scaled(wanted, weights_[e], around(e, experts_[e]));
      continue;
    }
    add_scaled(wanted, weights_[e], experts_[e]);
    add_scaled(wanted, -weights_[e], multiply_by_transposed(map_.experts[e].a, map_.experts[e].b));
  }
  if (map_.form == CoreForm::residual) {
    for (double& v : wanted.values) v /= total;
    map_.core = std::move(wanted);
    return told("core");
  }
  DenseMatrix rest = wanted;
  add_scaled(rest, -1, normal_product(map_.core));
  DenseMatrix direction = rest;
  double squares = rest.squares();
  const double enough = 1e-30 * wanted.squares();
  for (std::int64_t step = 0; step < settings_.core_steps && squares > enough; ++step) {
    check_stop();
    const DenseMatrix image = normal_product(direction);
    const double along = inner_product(direction, image);
    if (!(along > 0)) break;
    add_scaled(map_.core, squares / along, direction);
    add_scaled(rest, -squares / along, image);
    const double now = rest.squares();
    for (double& v : direction.values) v *= now / squares;
    add_scaled(direction, 1, rest);
    squares = now;
  }
  if (!(error() <= error_before)) map_.core = before;
  told("core");
}

/// S with S S^T = M + lambda mean(diagonal) 1; lambda is `ridge` and, until the factor exists, ten times as much, at
/// most 0.1.
KDLIB_FUNC DenseMatrix whitening(const DenseMatrix& moments, double ridge) {
  double mean = 0;
  for (std::int64_t i = 0; i < moments.rows; ++i) mean += moments(i, i) / static_cast<double>(moments.rows);
  for (double lambda = ridge; lambda < 0.2; lambda = std::max(10 * lambda, 1e-4)) {
    DenseMatrix m = moments;
    for (std::int64_t i = 0; i < m.rows; ++i) m(i, i) += lambda * mean;
    if (auto s = cholesky(m)) return *s;
  }
  fail<ConfigError>("[compress_experts] the second moments [", moments.rows, ", ", moments.columns,
                    "] are not positive definite, also with a tenth of their mean diagonal added; its mean is ",
                    setting_text(mean), ": give more calibration text, or none");
}

KDLIB_FUNC void check_compression(const std::vector<DenseMatrix>& experts, const std::vector<double>& weights,
                                  const DenseMatrix& moments) {
  require<ShapeError>(!experts.empty() && experts.size() == weights.size(), "[compress_experts] ", experts.size(),
                      " experts and ", weights.size(), " weights; one weight an expert is needed");
  double total = 0;
  for (std::size_t e = 0; e < experts.size(); ++e) {
    const DenseMatrix& w = experts[e];
    require<ShapeError>(w.rows > 0 && w.columns > 0 && w.rows == experts[0].rows && w.columns == experts[0].columns,
                        "[compress_experts] expert ", e, " is [", w.rows, ", ", w.columns, "], expert 0 [",
                        experts[0].rows, ", ", experts[0].columns, "]");
    require<ConfigError>(std::isfinite(weights[e]) && weights[e] >= 0, "[compress_experts] the weight of expert ", e,
                         " is ", setting_text(weights[e]), "; it must be 0 or above");
    require<ConfigError>(std::isfinite(w.squares()), "[compress_experts] expert ", e, " holds NaN or an infinity");
    total += weights[e];
  }
  require<ConfigError>(total > 0, "[compress_experts] the weights of all ", experts.size(), " experts are 0");
  require<ShapeError>(
      moments.values.empty() || (moments.rows == experts[0].columns && moments.columns == experts[0].columns),
      "[compress_experts] the second moments are [", moments.rows, ", ", moments.columns, "], the experts read ",
      experts[0].columns, " inputs");
  require<ConfigError>(std::isfinite(moments.squares()),
                       "[compress_experts] the second moments hold NaN or an infinity");
}

}  // namespace detail

KDLIB_FUNC void CompressSettings::check(std::int64_t out, std::int64_t in) const {
  const std::int64_t most = std::min(out, in);
  require<ConfigError>(rank >= 1 && rank <= most, "[compress_experts] rank is ", rank, "; experts [", out, ", ", in,
                       "] allow 1 to ", most);
  require<ConfigError>(rounds >= 1, "[compress_experts] rounds is ", rounds, "; it must be 1 or more");
  require<ConfigError>(tolerance >= 0 && tolerance < 1, "[compress_experts] tolerance is ", setting_text(tolerance),
                       "; it must be 0 or above and below 1");
  require<ConfigError>(core_steps >= 1, "[compress_experts] core_steps is ", core_steps, "; it must be 1 or more");
  require<ConfigError>(ridge >= 0 && ridge <= 0.1, "[compress_experts] ridge is ", setting_text(ridge),
                       "; it must be from 0 to 0.1");
  require<ConfigError>(soft >= 0 && soft < 1, "[compress_experts] soft is ", setting_text(soft),
                       "; it must be 0 or above and below 1");
  require<ConfigError>(adam_steps >= 0 && (init != CoreInit::adam || adam_steps > 0),
                       "[compress_experts] adam_steps is ", adam_steps,
                       init == CoreInit::adam ? "; it must be above 0" : "; it must be 0 or above");
  require<ConfigError>(adam_rate > 0 && std::isfinite(adam_rate), "[compress_experts] adam_rate is ",
                       setting_text(adam_rate), "; it must be above 0");
}

KDLIB_FUNC SharedCore compress_experts(const std::vector<DenseMatrix>& experts, const std::vector<double>& weights,
                                       const DenseMatrix& moments, const CompressSettings& settings,
                                       CompressReport* report) {
  detail::check_compression(experts, weights, moments);
  settings.check(experts[0].rows, experts[0].columns);
  CompressReport own;
  CompressReport& told = report != nullptr ? *report : own;
  told = CompressReport();
  const bool whitened = !moments.values.empty() && settings.init == CoreInit::als;
  DenseMatrix s;
  std::vector<DenseMatrix> seen = experts;
  if (whitened) {
    s = detail::whitening(moments, settings.ridge);
    for (DenseMatrix& w : seen) w = multiply(w, s);
  }
  detail::ExpertCompressor search(std::move(seen), weights, settings, told);
  if (settings.init == CoreInit::als) {
    search.alternate();
    if (settings.adam_steps > 0) search.descend("refine", settings.adam_steps);
  } else {
    search.random_factors();
    search.descend("adam", settings.adam_steps);
  }
  SharedCore map = std::move(search.map());
  if (!whitened) return map;
  // C = C' S^-1: S^T C^T = C'^T.
  map.core = solve_lower_transposed(s, map.core.transposed()).transposed();
  for (ExpertPart& p : map.experts) {
    if (map.form == CoreForm::residual) {
      p.b = solve_lower_transposed(s, p.b);
      continue;
    }
    p.input_u = multiply(s, p.input_u);
    p.input_v = solve_lower_transposed(s, p.input_v);
  }
  return map;
}

KDLIB_FUNC double compression_error(const std::vector<DenseMatrix>& experts, const std::vector<double>& weights,
                                    const DenseMatrix& moments, const SharedCore& map, double ridge) {
  detail::check_compression(experts, weights, moments);
  require<ShapeError>(map.experts.size() == experts.size(), "[compression_error] ", experts.size(),
                      " experts, the map has ", map.experts.size());
  DenseMatrix s = moments.values.empty() ? DenseMatrix() : detail::whitening(moments, ridge);
  double sum = 0;
  for (std::size_t e = 0; e < experts.size(); ++e) {
    DenseMatrix rest = experts[e];
    add_scaled(rest, -1, map.weight(e));
    sum += weights[e] * (s.values.empty() ? rest : multiply(rest, s)).squares();
  }
  return sum;
}

KDLIB_NAMESPACE_END

#include "kdlib/model/align_experts_inl.hpp"
#include "kdlib/model/compress_adam_inl.hpp"

#endif
