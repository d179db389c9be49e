// SPDX-License-Identifier: Apache-2.0
// The parts of drawing tokens that host and device share: weights whose bits are fixed, and the order of tokens.
#ifndef KDLIB_CORE_SAMPLING_HPP
#define KDLIB_CORE_SAMPLING_HPP

#include <cstdint>
#include <cstring>
#include <limits>

#include "kdlib/core/math.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// BitsOf<X>::type holds the bits of X, a float or Lanes4.
typedef std::uint32_t Words4 __attribute__((vector_size(16)));
template <class X>
struct BitsOf {
  using type = std::uint32_t;
};
template <>
struct BitsOf<Lanes4> {
  using type = Words4;
};

/// Returns exp(x) for x <= 0 with a relative error of about 1e-7, and 0 for x below -87.3. X is float or Lanes4. Every
/// product is rounded, because the tokens that a seed draws must not depend on compiler flags or on the device.
template <class X>
KDLIB_INLINE X exp_nonpositive(X x) {
  const auto times = [](X a, float b) { return rounded_product(a, b + X{}); };
  const X least = -87.3f - X{}, y = x < least ? least : x;
  const X shifted = times(y, 1.44269504f) + 12582912.0f;  // the integer part in the low bits
  const X n = shifted - 12582912.0f;
  const X r = (y - times(n, 0.693145752f)) - times(n, 1.42860677e-6f);
  X p = times(r, 1.98756915e-4f) + 1.39819995e-3f;
  p = rounded_product(p, r) + 8.33345184e-3f;
  p = rounded_product(p, r) + 4.16657962e-2f;
  p = rounded_product(p, r) + 1.66666655e-1f;
  p = rounded_product(p, r) + 5.00000012e-1f;
  p = rounded_product(rounded_product(p, r), r) + r + 1.0f;
  typename BitsOf<X>::type power, bits;
  std::memcpy(&power, &shifted, sizeof power);
  std::memcpy(&bits, &p, sizeof bits);
  bits += power << 23;
  std::memcpy(&p, &bits, sizeof p);
  return x < least ? X{} : p;
}

/// The last token that a filter keeps. Tokens are ordered by falling logit, then by rising id; those up to and
/// including the cutoff are kept.
struct SamplingCutoff {
  double logit = -std::numeric_limits<double>::infinity();
  std::int32_t id = std::numeric_limits<std::int32_t>::max();

  KDLIB_INLINE bool keeps(double other, std::int64_t other_id) const {
    return other > logit || (other == logit && other_id <= id);
  }
  KDLIB_INLINE void tighten(const SamplingCutoff& o) {
    if (o.logit > logit || (o.logit == logit && o.id < id)) *this = o;
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
