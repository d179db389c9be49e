// SPDX-License-Identifier: Apache-2.0
// Normally distributed random numbers from a stream (core/rng.hpp), on the host and on a device.
#ifndef KDLIB_CORE_NORMAL_HPP
#define KDLIB_CORE_NORMAL_HPP

#include <cmath>

#include "kdlib/core/rng.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns a normally distributed number of mean 0 and standard deviation `deviation`, made from the uniform numbers at
/// 2 `index` and 2 `index` + 1 of the stream (Box and Muller, 1958). A device's logarithm and cosine may differ from
/// the host's in the last bit of a double.
KDLIB_HOST_DEVICE inline double normal_number(const Rng& rng, std::uint32_t index, double deviation) {
  const double u = rng.uniform(2 * index), v = rng.uniform(2 * index + 1);
  return deviation * ::sqrt(-2 * ::log(1 - u)) * ::cos(6.283185307179586476925286766559 * v);
}

KDLIB_NAMESPACE_END

#endif
