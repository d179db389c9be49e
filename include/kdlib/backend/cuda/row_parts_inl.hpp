// SPDX-License-Identifier: Apache-2.0
// One element of the small kernels around the CUDA row engine, for the device and for a test on the host.
#ifndef KDLIB_BACKEND_CUDA_ROW_PARTS_INL_HPP
#define KDLIB_BACKEND_CUDA_ROW_PARTS_INL_HPP

#include "kdlib/backend/concepts.hpp"
#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// z[i] of [rows, columns] = c tanh((z + scale * bias) / c); bias nullptr and c = 0 leave their part out.
template <class T>
struct ModifyLogit {
  const T* bias;
  accumulate_t<T> scale, softcap;
  std::int64_t columns;
  T* z;

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const {
    using C = accumulate_t<T>;
    C x = static_cast<C>(z[i]);
    if (bias != nullptr) x += scale * static_cast<C>(bias[i % columns]);
    if (softcap > 0) x = softcap * ::tanh(x / softcap);
    z[i] = T(x);
  }
};

template <class T>
struct SoftcapBackward {
  accumulate_t<T> inverse;
  const T* z;
  T* gradient;

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const {
    using C = accumulate_t<T>;
    const C y = static_cast<C>(z[i]) * inverse;
    gradient[i] = T(static_cast<C>(gradient[i]) * (1 - y * y));
  }
};

/// out[i] of [count, width] = x[rows[r], column].
template <class T>
struct GatherRow {
  const T* x;
  const std::int64_t* rows;
  std::int64_t width;
  T* out;

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const { out[i] = x[rows[i / width] * width + i % width]; }
};

/// y[rows[r], column] += x[i]; rows are distinct.
template <class T>
struct ScatterAddRow {
  const T* x;
  const std::int64_t* rows;
  std::int64_t width;
  T* y;

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const {
    using C = accumulate_t<T>;
    T& to = y[rows[i / width] * width + i % width];
    to = T(static_cast<C>(to) + static_cast<C>(x[i]));
  }
};

/// Clears the flag of an update where the value of row r is not finite or its top-k is refused.
struct CheckValue {
  const RowResult* results;
  GradientFactor* factor;

  KDLIB_HOST_DEVICE void operator()(std::int64_t r) const {
    if (!(results[r].value - results[r].value == 0) || results[r].wrong_id != 0) factor->finite = 0;
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
