// SPDX-License-Identifier: Apache-2.0
// The global gradient norm, and the factor that clips by it.
#ifndef KDLIB_OPTIM_CLIP_HPP
#define KDLIB_OPTIM_CLIP_HPP

#include <cmath>
#include <utility>
#include <vector>

#include "kdlib/tensor/parameter.hpp"

KDLIB_NAMESPACE_BEGIN

/// sqrt of the sum of squares of all gradients, summed in double. A parameter without a gradient counts as zero.
template <class T, class D>
double gradient_norm(const std::vector<Parameter<T, D>*>& parameters) {
  using G = gradient_t<T>;
  std::vector<std::pair<const G*, std::int64_t>> arrays;
  for (const Parameter<T, D>* p : parameters)
    if (p->gradient) arrays.emplace_back(p->gradient.data(), p->gradient.count());
  std::vector<double> sums(arrays.size());
  if constexpr (requires { Kernels<D, G>::sum_squares_each(arrays, sums.data()); }) {
    Kernels<D, G>::sum_squares_each(arrays, sums.data());  // a device is waited for once
  } else {
    for (std::size_t i = 0; i < arrays.size(); ++i)
      sums[i] = Kernels<D, G>::sum_squares(arrays[i].first, arrays[i].second);
  }
  double sum = 0;
  for (const double x : sums) sum += x;
  return std::sqrt(sum);
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
