// SPDX-License-Identifier: Apache-2.0
// Bodies of compress_experts.hpp: the search in whitened coordinates. Aligning is in align_experts_inl.hpp, Adam in
// compress_adam_inl.hpp.
#ifndef KDLIB_MODEL_COMPRESS_EXPERTS_INL_HPP
#define KDLIB_MODEL_COMPRESS_EXPERTS_INL_HPP

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "kdlib/core/fields.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/model/compress_experts.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Directions that a search for the leading `rank` of `size` follows: some more, so that it settles sooner.
KDLIB_FUNC std::int64_t directions_kept(std::int64_t rank, std::int64_t size) {
  return std::min(size, rank + std::max<std::int64_t>(8, rank / 8));
}

KDLIB_FUNC bool decomposes_wholly(const CompressSettings& s, std::int64_t out, std::int64_t in) {
  const std::int64_t small = std::min(out, in);
  return small <= s.whole_below || directions_kept(s.rank, small) == small;
}

/// What an expert's inputs give: C Ui, C Vi, W Vi [n, r], Vi^T Vi [r, r].
struct InputProducts {
  DenseMatrix core_u, core_v, expert_v, v_v;
};

/// One search. Experts, core and factors are those of the whitened inputs: W S, C S, S^-1 Ui, S^T Vi, S^T B.
class ExpertCompressor {
 public:
  ExpertCompressor(std::vector<DenseMatrix> experts, std::vector<double> weights, const CompressSettings& settings,
                   CompressReport& report)
      : experts_(std::move(experts)), weights_(std::move(weights)), settings_(settings), report_(report) {
    const DenseMatrix& first = experts_.front();
    map_.form = settings.form;
    map_.core = DenseMatrix(first.rows, first.columns);
    for (std::size_t e = 0; e < experts_.size(); ++e) {
      add_scaled(map_.core, weights_[e], experts_[e]);
      report.plain += weights_[e] * experts_[e].squares();
      map_.experts.push_back(empty_part(settings.form, first.rows, first.columns, settings.rank));
    }
    const double total = total_weight();
    for (double& v : map_.core.values) v /= total;
    errors_.resize(experts_.size());
    start_right_.resize(experts_.size());
    start_left_.resize(experts_.size());
    whole_ = decomposes_wholly(settings, first.rows, first.columns);
    if (settings.init == CoreInit::als && !whole_ && settings.form == CoreForm::wrappers) {
      expert_products_.resize(experts_.size());
      each_expert([this](std::size_t e) { expert_products_[e] = gram(experts_[e], gemm()); });
    }
    measure();
    told("mean");
  }
  /// The experts are transposed: names of steps say so.
  void set_turned(bool turned) { turned_ = turned; }

  /// Fits and cores in turn, then a last fit.
  void alternate() {
    for (std::int64_t round = 0; round < settings_.rounds; ++round) {
      const double before = report_.objective;
      fit();
      fit_core();
      if (report_.objective > (1 - settings_.tolerance) * before) break;
    }
    fit();
    // Half-steps know errors as differences of squares; what is reported is measured.
    if (!whole_) report_.objective = report_.steps.back().objective = measure();
  }
  /// Adam on all numbers from here, the best state kept.
  void descend(const char* name, std::int64_t steps);
  void random_factors();
  SharedCore& map() { return map_; }

 private:
  double error_of(std::size_t e) const { return error_of(e, map_.weight(e, gemm())); }
  double error_of(std::size_t e, DenseMatrix approximation) const {
    add_scaled(approximation, -1, experts_[e]);
    return weights_[e] * approximation.squares();
  }
  DenseGemm gemm() const { return settings_.gemm; }
  double total_weight() const { return std::accumulate(weights_.begin(), weights_.end(), 0.0); }
  /// Measures every expert anew.
  double measure() {
    each_expert([this](std::size_t e) { errors_[e] = error_of(e); });
    return error();
  }
  /// Calls f(e) for all experts, on all threads; products inside it stay on their thread.
  template <class F>
  void each_expert(F&& f) const {
    parallel_for(static_cast<std::int64_t>(experts_.size()), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t e = begin; e < end; ++e) {
        check_stop();
        f(static_cast<std::size_t>(e));
      }
    });
  }
  double error() const { return std::accumulate(errors_.begin(), errors_.end(), 0.0); }
  void told(const char* name) {
    report_.objective = error();
    report_.steps.push_back({name, report_.objective});
    if (settings_.progress) settings_.progress(report_.steps.back());
  }

  void fit();
  void whole_right(std::size_t e);
  void whole_left(std::size_t e);
  void whole_residual(std::size_t e);
  void divide_softly(DenseMatrix& m, const ThinSvd& svd) const;
  void leading_fit();
  InputProducts input_products(std::size_t e) const;
  InputProducts leading_right(std::size_t e, const DenseMatrix& across);
  void leading_left(std::size_t e, const DenseMatrix& across, const InputProducts& in);
  void leading_residual(std::size_t e);
  LeadingDirections directions(const DenseMatrix& products, DenseMatrix& start) const;
  void fit_core();
  DenseMatrix core_wanted() const;
  /// Keeps the new factors, whose error is given, unless it is above what it was; then both columns of each pair get
  /// equal norms.
  void keep(std::size_t e, const ExpertPart& before, double error);
  DenseMatrix sum_over_experts(const DenseMatrix& shape,
                               const std::function<void(std::size_t, std::size_t, DenseMatrix&)>& add) const;
  void find_means();
  std::pair<DenseMatrix, DenseMatrix> mean_factors() const;
  DenseMatrix normal_product(const DenseMatrix& core) const;
  ExpertPart descend_gradient(std::size_t e, DenseMatrix& core_gradient, double& error) const;
  double descend_step(DenseMatrix& core_gradient, std::vector<ExpertPart>& gradients) const;

  std::vector<DenseMatrix> experts_;
  std::vector<double> weights_;
  const CompressSettings& settings_;
  CompressReport& report_;
  SharedCore map_;
  std::vector<double> errors_;                         // f_e |W_e - W'_e|^2 as the map is
  bool whole_ = false;                                 // decompositions are whole ones
  bool turned_ = false;                                // experts are transposed: right is left
  DenseMatrix core_products_;                          // C C^T
  std::vector<DenseMatrix> expert_products_;           // W W^T
  DenseMatrix mean_left_, mean_right_;                 // sum f (L^T L - 1), sum f (R R^T - 1)
  std::vector<DenseMatrix> start_right_, start_left_;  // where the next search for leading directions begins
};

/// Columns of u times the factors of the answer, those of v divided by them.
KDLIB_FUNC std::vector<double> balance_columns(DenseMatrix& u, DenseMatrix& v) {
  std::vector<double> factors(static_cast<std::size_t>(u.columns), 1.0);
  for (std::int64_t j = 0; j < u.columns; ++j) {
    double a = 0, b = 0;
    for (std::int64_t i = 0; i < u.rows; ++i) a += u(i, j) * u(i, j);
    for (std::int64_t i = 0; i < v.rows; ++i) b += v(i, j) * v(i, j);
    if (a == 0 || b == 0) continue;
    const double factor = factors[static_cast<std::size_t>(j)] = std::pow(b / a, 0.25);
    for (std::int64_t i = 0; i < u.rows; ++i) u(i, j) *= factor;
    for (std::int64_t i = 0; i < v.rows; ++i) v(i, j) /= factor;
  }
  return factors;
}

KDLIB_FUNC void ExpertCompressor::keep(std::size_t e, const ExpertPart& before, double error) {
  ExpertPart& p = map_.experts[e];
  if (!(error <= errors_[e])) {
    p = before;
    return;
  }
  errors_[e] = error;
  balance_columns(p.a, p.b);
  balance_columns(p.input_u, p.input_v);
  balance_columns(p.output_u, p.output_v);
}

/// With a core of full rank the first half-step on the smaller side reaches the bound of that rank.
KDLIB_FUNC void ExpertCompressor::fit() {
  const auto each = [this](const char* name, void (ExpertCompressor::*half)(std::size_t)) {
    each_expert([&](std::size_t e) { (this->*half)(e); });
    told(name);
  };
  if (map_.form == CoreForm::residual)
    return each("fit", whole_ ? &ExpertCompressor::whole_residual : &ExpertCompressor::leading_residual);
  if (!whole_) return leading_fit();
  const bool right_first = map_.core.rows <= map_.core.columns;
  if (right_first) each("right", &ExpertCompressor::whole_right);
  each("left", &ExpertCompressor::whole_left);
  if (!right_first) each("right", &ExpertCompressor::whole_right);
}

/// S with S S^T = M + lambda mean(diagonal) 1; lambda is `ridge` and, until the factor exists, ten times as much, at
/// most 0.1.
KDLIB_FUNC DenseMatrix whitening(const DenseMatrix& moments, double ridge, DenseGemm gemm) {
  double mean = 0;
  for (std::int64_t i = 0; i < moments.rows; ++i) mean += moments(i, i) / static_cast<double>(moments.rows);
  for (double lambda = ridge; lambda < 0.2; lambda = std::max(10 * lambda, 1e-4)) {
    DenseMatrix m = moments;
    for (std::int64_t i = 0; i < m.rows; ++i) m(i, i) += lambda * mean;
    if (auto s = cholesky(m, gemm)) return *s;
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
  require<ConfigError>(whole_below >= 0, "[compress_experts] whole_below is ", whole_below, "; it must be 0 or above");
  require<ConfigError>(gemm != nullptr, "[compress_experts] gemm is null; plain_gemm is there without a backend");
  require<ConfigError>(adam_steps >= 0 && (init != CoreInit::adam || adam_steps > 0),
                       "[compress_experts] adam_steps is ", adam_steps,
                       init == CoreInit::adam ? "; it must be above 0" : "; it must be 0 or above");
  require<ConfigError>(adam_rate > 0 && std::isfinite(adam_rate), "[compress_experts] adam_rate is ",
                       setting_text(adam_rate), "; it must be above 0");
}

namespace detail {

KDLIB_FUNC void transpose_map(SharedCore& map) {
  map.core = map.core.transposed();
  for (ExpertPart& p : map.experts) {
    std::swap(p.input_u, p.output_v);
    std::swap(p.input_v, p.output_u);
    std::swap(p.a, p.b);
  }
}

/// From the coordinates of whitened inputs back to the experts': C = C' S^-1, that is S^T C^T = C'^T.
KDLIB_FUNC void undo_whitening(const DenseMatrix& s, SharedCore& map, DenseGemm gemm) {
  map.core = solve_lower_transposed(s, map.core.transposed(), gemm).transposed();
  parallel_for(static_cast<std::int64_t>(map.experts.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t e = begin; e < end; ++e) {
      ExpertPart& p = map.experts[static_cast<std::size_t>(e)];
      if (map.form == CoreForm::residual) {
        p.b = solve_lower_transposed(s, std::move(p.b), gemm);
        continue;
      }
      p.input_u = multiply(s, p.input_u, gemm);
      p.input_v = solve_lower_transposed(s, std::move(p.input_v), gemm);
    }
  });
}

}  // namespace detail

KDLIB_FUNC SharedCore compress_experts(const std::vector<DenseMatrix>& experts, const std::vector<double>& weights,
                                       const DenseMatrix& moments, const CompressSettings& settings,
                                       CompressReport* report) {
  detail::check_compression(experts, weights, moments);
  const std::int64_t out = experts[0].rows, in = experts[0].columns;
  settings.check(out, in);
  CompressReport own;
  CompressReport& told = report != nullptr ? *report : own;
  told = CompressReport();
  const bool als = settings.init == CoreInit::als, whitened = !moments.values.empty() && als;
  // The search for leading directions works on the smaller side first, which is then the rows.
  const bool turned = als && out > in && !detail::decomposes_wholly(settings, out, in);
  const DenseMatrix s = whitened ? detail::whitening(moments, settings.ridge, settings.gemm) : DenseMatrix();
  std::vector<DenseMatrix> seen;
  for (const DenseMatrix& w : experts) {
    check_stop();
    DenseMatrix m = whitened ? multiply(w, s, settings.gemm) : w;
    seen.push_back(turned ? m.transposed() : std::move(m));
  }
  detail::ExpertCompressor search(std::move(seen), weights, settings, told);
  search.set_turned(turned);
  if (als) {
    search.alternate();
    if (settings.adam_steps > 0) search.descend("refine", settings.adam_steps);
  } else {
    search.random_factors();
    search.descend("adam", settings.adam_steps);
  }
  SharedCore map = std::move(search.map());
  if (turned) detail::transpose_map(map);
  if (whitened) detail::undo_whitening(s, map, settings.gemm);
  return map;
}

KDLIB_FUNC double compression_error(const std::vector<DenseMatrix>& experts, const std::vector<double>& weights,
                                    const DenseMatrix& moments, const SharedCore& map, double ridge, DenseGemm gemm) {
  detail::check_compression(experts, weights, moments);
  require<ShapeError>(map.experts.size() == experts.size(), "[compression_error] ", experts.size(),
                      " experts, the map has ", map.experts.size());
  const DenseMatrix s = moments.values.empty() ? DenseMatrix() : detail::whitening(moments, ridge, gemm);
  double sum = 0;
  for (std::size_t e = 0; e < experts.size(); ++e) {
    check_stop();
    DenseMatrix rest = experts[e];
    add_scaled(rest, -1, map.weight(e, gemm));
    sum += weights[e] * (s.values.empty() ? rest : multiply(rest, s, gemm)).squares();
  }
  return sum;
}

KDLIB_NAMESPACE_END

#include "kdlib/model/align_experts_inl.hpp"
#include "kdlib/model/compress_adam_inl.hpp"
#include "kdlib/model/compress_core_inl.hpp"
#include "kdlib/model/compress_leading_inl.hpp"
#include "kdlib/model/compress_whole_inl.hpp"

#endif
