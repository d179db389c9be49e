// SPDX-License-Identifier: Apache-2.0
// The norm of all gradients together, and the factor that brings the norm to a limit (clipping).
#ifndef KDLIB_OPTIM_CLIP_HPP
#define KDLIB_OPTIM_CLIP_HPP

#include <cmath>
#include <utility>
#include <vector>

#include "kdlib/backend/concepts.hpp"
#include "kdlib/tensor/host_reads.hpp"
#include "kdlib/tensor/parameter.hpp"

KDLIB_NAMESPACE_BEGIN

/// A device that computes the factor of clipping itself.
template <class D, class G>
concept FormsFactor = requires(const double* sums, GradientFactor* out) {
  Kernels<D, G>::gradient_factor(std::int64_t{}, sums, double{}, out);
};

/// The norm of all gradients together. The device may still be computing the sums of squares: call read(HostReads&),
/// wait for the reads, then call norm().
template <class D>
class PendingNorm {
 public:
  /// Queues the sums. A parameter without a gradient counts as zero. The gradients may change as soon as this returns.
  template <class T>
  explicit PendingNorm(const std::vector<Parameter<T, D>*>& parameters) {
    using G = gradient_t<T>;
    std::vector<std::pair<const G*, std::int64_t>> arrays;
    for (const Parameter<T, D>* p : parameters)
      if (p->gradient) arrays.emplace_back(p->gradient.data(), p->gradient.count());
    here_.resize(arrays.size());
    if constexpr (requires { Kernels<D, G>::sum_squares_each(arrays, here_.data()); }) {
      there_ = Buffer<double, D>(static_cast<std::int64_t>(arrays.size()));
      Kernels<D, G>::sum_squares_each(arrays, there_.data());
    } else {
      for (std::size_t i = 0; i < arrays.size(); ++i)
        here_[i] = Kernels<D, G>::sum_squares(arrays[i].first, arrays[i].second);
    }
  }
  /// For devices that compute the factor themselves: the norm and the factor for `limit` (clip_factor), on the device.
  template <class G>
  requires FormsFactor<D, G> GradientFactor* factor(double limit) {
    factor_ = Buffer<GradientFactor, D>(1);
    Kernels<D, G>::gradient_factor(there_.count(), there_.data(), limit, factor_.data());
    return factor_.data();
  }
  /// Adds the sums to `reads`. This object must stay where it is until they are read.
  void read(HostReads<D>& reads) { reads.add(there_.data(), there_.count(), here_.data()); }
  /// Returns the square root of the sum of squares of all gradients, summed in double.
  double norm() const {
    double sum = 0;
    for (const double x : here_) sum += x;
    return std::sqrt(sum);
  }

 private:
  std::vector<double> here_;
  Buffer<double, D> there_;  // empty on the CPU
  Buffer<GradientFactor, D> factor_;
};

/// Returns PendingNorm::norm() after a wait of its own.
template <class T, class D>
double gradient_norm(const std::vector<Parameter<T, D>*>& parameters) {
  PendingNorm<D> pending(parameters);
  HostReads<D> reads;
  pending.read(reads);
  reads.wait();
  return pending.norm();
}

/// Returns the optimizer's gradient_scale: min(1, limit / (norm + 1e-6)), with the 1e-6 of
/// torch.nn.utils.clip_grad_norm_. A `limit` <= 0 means no clipping and gives 1. The caller must refuse a norm that is
/// not finite.
inline double clip_factor(double norm, double limit) {
  if (limit <= 0) return 1;
  const double factor = limit / (norm + 1e-6);
  return factor < 1 ? factor : 1;
}

/// The norm of all gradients together and the factor of clipping.
struct GradientClip {
  double norm = 0, factor = 1;
};

/// Returns the norm of all gradients together and the factor that brings it to `limit`. The gradients are not changed:
/// pass the factor to the optimiser's step.
template <class T, class D>
GradientClip measure_clip(const std::vector<Parameter<T, D>*>& parameters, double limit) {
  const double norm = gradient_norm(parameters);
  return {norm, clip_factor(norm, limit)};
}

KDLIB_NAMESPACE_END

#endif
