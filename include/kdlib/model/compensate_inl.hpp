// SPDX-License-Identifier: Apache-2.0
// Bodies of compensate.hpp.
#ifndef KDLIB_MODEL_COMPENSATE_INL_HPP
#define KDLIB_MODEL_COMPENSATE_INL_HPP

#include <cmath>
#include <unordered_map>

#include "kdlib/core/rng.hpp"
#include "kdlib/model/compensate.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Makes the columns of q [rows, columns] orthonormal (modified Gram-Schmidt, twice, in double). Columns that the
/// others already span become zero.
template <class D, class T>
void orthonormalise(Tensor<T, D>& q) {
  const std::size_t rows = static_cast<std::size_t>(q[0]), columns = static_cast<std::size_t>(q[1]);
  std::vector<T> host(rows * columns);
  Memory<D>::to_host(host.data(), q.data(), host.size() * sizeof(T));
  std::vector<double> v(columns * rows);  // column by column
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < columns; ++j) v[j * rows + i] = static_cast<double>(host[i * columns + j]);
  const auto dot = [&](std::size_t a, std::size_t b) {
    double sum = 0;
    for (std::size_t i = 0; i < rows; ++i) sum += v[a * rows + i] * v[b * rows + i];
    return sum;
  };
  for (std::size_t j = 0; j < columns; ++j) {
    const double length = std::sqrt(dot(j, j));
    for (int pass = 0; pass < 2; ++pass)
      for (std::size_t k = 0; k < j; ++k) {
        const double along = dot(j, k);
        for (std::size_t i = 0; i < rows; ++i) v[j * rows + i] -= along * v[k * rows + i];
      }
    const double rest = std::sqrt(dot(j, j)), factor = rest > 1e-10 * length ? 1 / rest : 0;
    for (std::size_t i = 0; i < rows; ++i) v[j * rows + i] *= factor;
  }
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < columns; ++j) host[i * columns + j] = static_cast<T>(v[j * rows + i]);
  Memory<D>::from_host(q.data(), host.data(), host.size() * sizeof(T));
}

/// The values of a map's weight, decoded where it is packed.
template <class D, class T>
Tensor<gradient_t<T>, D> weight_values(const Linear<D, T>& l) {
  return widened(l.packed() != nullptr ? l.packed()->decode_all() : l.weight()->value.clone());
}

/// Finds the factors of each map as the original model's inputs pass by.
template <class D, class T>
class RoundingCompensator final : public LinearObserver<D, T> {
 public:
  RoundingCompensator(Decoder<D, T>& student, const CompensateSettings& settings) : settings_(settings) {
    for (Linear<D, T>* l : student.linears())
      if (l->lora != nullptr && l->state() == LinearState::packed) maps_.emplace(l->path, l);
  }
  bool empty() const { return maps_.empty(); }
  const CompensateReport& report() const { return report_; }

  void observe(const Linear<D, T>& original, const Tensor<T, D>& input) override {
    const auto found = maps_.find(original.path);
    if (found == maps_.end()) return;
    Linear<D, T>& map = *found->second;
    require<ConfigError>(map.in == original.in && map.out == original.out, "[compensate_rounding] ", map.path, " is [",
                         map.out, ", ", map.in, "] and [", original.out, ", ", original.in, "] in the original");
    const Tensor<C, D> x = widened(input);
    Tensor<C, D> error = weight_values(original);
    const double scale = energy(error, x);
    const Tensor<C, D> codes = widened(map.packed()->decode_all());
    K::axpy(error.count(), C(-1), codes.data(), error.data());
    const Tensor<C, D> basis = subspace(error, x, map.lora->rank);
    set_factors(*map.lora, error, basis);
    const double before = energy(error, x);
    const LoraPair<D, T>& p = *map.lora;
    const Tensor<C, D> a = p.a.trained_values(), b = p.b.trained_values();
    K::gemm(false, false, map.out, map.in, p.rank, static_cast<C>(-p.scale), b.data(), p.rank, a.data(), map.in, C(1),
            error.data(), map.in);
    ++report_.maps;
    report_.error_before += scale > 0 ? before / scale : 0;
    report_.error_after += scale > 0 ? energy(error, x) / scale : 0;
  }

 private:
  using C = gradient_t<T>;
  using K = Kernels<D, C>;

  /// |X M^T|^2 over at most 256 rows of x.
  double energy(const Tensor<C, D>& m, const Tensor<C, D>& x) const {
    const std::int64_t rows = x[0] < 256 ? x[0] : 256;
    Tensor<C, D> y(Shape{rows, m[0]});
    K::gemm(false, true, rows, m[0], m[1], C(1), x.data(), m[1], m.data(), m[1], C(0), y.data(), m[0]);
    return K::sum_squares(y.data(), y.count());
  }

  /// An orthonormal basis [out, rank] of the leading left singular vectors of E X^T.
  Tensor<C, D> subspace(const Tensor<C, D>& error, const Tensor<C, D>& x, std::int64_t rank) const {
    const std::int64_t out = error[0], in = error[1], n = x[0];
    std::vector<C> start(static_cast<std::size_t>(out * rank));
    const Rng rng(settings_.seed, RngPurpose::initialise, 2, static_cast<std::uint32_t>(report_.maps));
    for (std::size_t i = 0; i < start.size(); ++i)
      start[i] = static_cast<C>(rng.uniform(static_cast<std::uint32_t>(i)) - 0.5);
    Tensor<C, D> q(Shape{out, rank}), a(Shape{in, rank}), b(Shape{n, rank});
    Memory<D>::from_host(q.data(), start.data(), start.size() * sizeof(C));
    // A ridge keeps directions that no input of this text has: there E itself decides.
    const double ridge = 1e-6 * K::sum_squares(x.data(), x.count()) / static_cast<double>(in);
    for (std::int64_t i = 0; i < settings_.iterations; ++i) {
      orthonormalise(q);
      K::gemm(true, false, in, rank, out, C(1), error.data(), in, q.data(), rank, C(0), a.data(), rank);
      K::gemm(false, false, n, rank, in, C(1), x.data(), in, a.data(), rank, C(0), b.data(), rank);
      K::gemm(true, false, in, rank, n, C(1), x.data(), in, b.data(), rank, static_cast<C>(ridge), a.data(), rank);
      K::gemm(false, false, out, rank, in, C(1), error.data(), in, a.data(), rank, C(0), q.data(), rank);
    }
    orthonormalise(q);
    return q;
  }

  /// s B A = U U^T E, with A's elements as large as add_lora makes them.
  void set_factors(LoraPair<D, T>& pair, const Tensor<C, D>& error, const Tensor<C, D>& basis) const {
    const std::int64_t out = error[0], in = error[1], rank = pair.rank;
    const Tensor<C, D> a = pair.a.values_to_write(), b = pair.b.values_to_write();
    K::gemm(true, false, rank, in, out, C(1), basis.data(), rank, error.data(), in, C(0), a.data(), in);
    const double mean_square = K::sum_squares(a.data(), rank * in) / static_cast<double>(rank * in);
    const double factor = mean_square > 0 ? std::sqrt(1.0 / (3.0 * static_cast<double>(in)) / mean_square) : 1;
    K::scale(rank * in, static_cast<C>(factor), a.data());
    Memory<D>::copy(b.data(), basis.data(), static_cast<std::size_t>(basis.bytes()));
    K::scale(out * rank, static_cast<C>(1 / (factor * pair.scale)), b.data());
    pair.a.values_changed();
    pair.b.values_changed();
  }

  CompensateSettings settings_;
  std::unordered_map<std::string, Linear<D, T>*> maps_;
  CompensateReport report_;
};

}  // namespace detail

template <class D, class T>
CompensateReport compensate_rounding(Decoder<D, T>& student, Decoder<D, T>& original, const TokenBatch& text,
                                     const CompensateSettings& settings) {
  require<ConfigError>(settings.iterations > 0, "[compensate_rounding] iterations is ", settings.iterations,
                       "; it must be positive");
  detail::RoundingCompensator<D, T> compensator(student, settings);
  require<ConfigError>(!compensator.empty(),
                       "[compensate_rounding] the student has no rounded linear map with an adapter: call "
                       "quantize_linear and add_lora first");
  original.forward(text, compensator);
  CompensateReport report = compensator.report();
  require<ConfigError>(report.maps > 0, "[compensate_rounding] the original has none of the student's linear maps");
  report.error_before /= static_cast<double>(report.maps);
  report.error_after /= static_cast<double>(report.maps);
  return report;
}

KDLIB_NAMESPACE_END

#endif
