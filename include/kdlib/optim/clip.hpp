// SPDX-License-Identifier: Apache-2.0
// The global gradient norm, and the factor that clips by it.
#ifndef KDLIB_OPTIM_CLIP_HPP
#define KDLIB_OPTIM_CLIP_HPP

#include <cmath>
#include <utility>
#include <vector>

#include "kdlib/backend/concepts.hpp"
#include "kdlib/tensor/host_reads.hpp"
#include "kdlib/tensor/parameter.hpp"

KDLIB_NAMESPACE_BEGIN

/// A device that forms the factor of clipping itself.
template <class D, class G>
concept FormsFactor = requires(const double* sums, GradientFactor* out) {
  Kernels<D, G>::gradient_factor(std::int64_t{}, sums, double{}, out);
};

/// The norm of all gradients, whose sums of squares a device may still be forming: read(HostReads&), then norm().
template <class D>
class PendingNorm {
 public:
  /// Queues the sums. A parameter without a gradient counts as zero. Gradients may change when this returns.
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
  /// Where the device forms the factor itself: the norm and the factor for `limit` (clip_factor) on the device.
  template <class G>
  requires FormsFactor<D, G> GradientFactor* factor(double limit) {
    factor_ = Buffer<GradientFactor, D>(1);
    Kernels<D, G>::gradient_factor(there_.count(), there_.data(), limit, factor_.data());
    return factor_.data();
  }
  /// The object stays where it is until they are read.
  void read(HostReads<D>& reads) { reads.add(there_.data(), there_.count(), here_.data()); }
  /// sqrt of the sum of squares of all gradients, summed in double.
  double norm() const {
    double sum = 0;
    for (const double x : here_) sum += x;
    return std::sqrt(sum);
  }

 private:
  std::vector<double> here_;
  Buffer<double, D> there_;  // empty on the host
  Buffer<GradientFactor, D> factor_;
};

/// PendingNorm::norm() behind a wait of its own.
template <class T, class D>
double gradient_norm(const std::vector<Parameter<T, D>*>& parameters) {
  PendingNorm<D> pending(parameters);
  HostReads<D> reads;
  pending.read(reads);
  reads.wait();
  return pending.norm();
}

/// min(1, limit / (norm + 1e-6)), the 1e-6 as in torch.nn.utils.clip_grad_norm_: the optimizer's gradient_scale.
/// `limit` <= 0 does not clip. A norm that is not finite is the caller's to refuse.
inline double clip_factor(double norm, double limit) {
  if (limit <= 0) return 1;
  const double factor = limit / (norm + 1e-6);
  return factor < 1 ? factor : 1;
}

/// The global norm and the factor that clips it.
struct GradientClip {
  double norm = 0, factor = 1;
};

/// The norm of all gradients together and the factor that brings it to `limit`. The gradients stay as they are: the
/// optimiser's step takes the factor.
template <class T, class D>
GradientClip measure_clip(const std::vector<Parameter<T, D>*>& parameters, double limit) {
  const double norm = gradient_norm(parameters);
  return {norm, clip_factor(norm, limit)};
}

KDLIB_NAMESPACE_END

#endif
