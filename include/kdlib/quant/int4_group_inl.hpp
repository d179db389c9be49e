// SPDX-License-Identifier: Apache-2.0
// Bodies of int4_group.hpp.
#ifndef KDLIB_QUANT_INT4_GROUP_INL_HPP
#define KDLIB_QUANT_INT4_GROUP_INL_HPP

#include <cmath>
#include <limits>

#include "kdlib/core/parallel.hpp"
#include "kdlib/quant/int4_group.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

struct Int4Group {
  float scale = 0, zero = 0;
};

/// Codes of one group, the sign in two's complement, one a byte. std::nearbyint rounds ties to even in the default mode.
inline Int4Group encode_int4_symmetric(const float* w, std::int64_t n, std::int8_t* q) {
  float largest = 0;
  for (std::int64_t i = 0; i < n; ++i) largest = std::fmax(largest, std::fabs(w[i]));
  const float scale = std::fmax(largest / 7.5f, std::numeric_limits<float>::min()), inverse = 1.0f / scale;
  for (std::int64_t i = 0; i < n; ++i) {
    const float x = std::nearbyint(w[i] * inverse);
    q[i] = static_cast<std::int8_t>(x < -8.0f ? -8.0f : (x > 7.0f ? 7.0f : x));
  }
  return {scale, 0.0f};
}

inline Int4Group encode_int4_affine(const float* w, std::int64_t n, std::int8_t* q) {
  float low = w[0], high = w[0];
  for (std::int64_t i = 1; i < n; ++i) low = std::fmin(low, w[i]), high = std::fmax(high, w[i]);
  const float scale = std::fmax(high - low, 1e-6f) / 15.0f;
  const float eight = 8.0f * scale;  // exact: no rounding to fuse
  for (std::int64_t i = 0; i < n; ++i) {
    const float x = std::nearbyint((w[i] - low) / scale);
    q[i] = static_cast<std::int8_t>((x < 0.0f ? 0.0f : (x > 15.0f ? 15.0f : x)) - 8.0f);
  }
  return {scale, low + eight};
}

}  // namespace detail

inline const char* int4_rule_name(Int4Rule rule) { return rule == Int4Rule::symmetric ? "symmetric" : "affine"; }

inline Int4Data encode_int4(const float* w, std::int64_t rows, std::int64_t columns, std::int64_t group, Int4Rule rule) {
  require<ConfigError>(group > 0 && group % 2 == 0 && columns % group == 0, "[encode_int4] groups of ", group, " do not divide rows of ", columns,
                       " (the group must be even)");
  const std::int64_t groups = columns / group;
  Int4Data out;
  out.codes.resize(static_cast<std::size_t>(rows * columns / 2));
  out.scale.resize(static_cast<std::size_t>(rows * groups));
  if (rule == Int4Rule::affine) out.zero.resize(out.scale.size());
  parallel_for(rows * groups, 64, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::int8_t> q(static_cast<std::size_t>(group));
    for (std::int64_t g = begin; g < end; ++g) {
      const float* x = w + g * group;
      for (std::int64_t i = 0; i < group; ++i)
        require<FormatError>(std::isfinite(x[i]), "[encode_int4] the weight at row ", g / groups, " is not finite");
      const detail::Int4Group one =
          rule == Int4Rule::symmetric ? detail::encode_int4_symmetric(x, group, q.data()) : detail::encode_int4_affine(x, group, q.data());
      out.scale[static_cast<std::size_t>(g)] = one.scale;
      if (rule == Int4Rule::affine) out.zero[static_cast<std::size_t>(g)] = one.zero;
      for (std::size_t i = 0; i < q.size(); i += 2)
        out.codes[static_cast<std::size_t>(g * group) / 2 + i / 2] = static_cast<std::uint8_t>((q[i] & 15) | ((q[i + 1] & 15) << 4));
    }
  });
  return out;
}

template <class T, class D>
Int4Matrix<T, D>::Int4Matrix(const Int4Data& data, std::int64_t rows, std::int64_t columns, std::int64_t group)
    : codes_(Shape{rows, columns / 2}), scale_(Shape{rows, columns / group}) {
  require<ShapeError>(static_cast<std::int64_t>(data.codes.size()) == codes_.count() && static_cast<std::int64_t>(data.scale.size()) == scale_.count() &&
                          (data.zero.empty() || data.zero.size() == data.scale.size()),
                      "[Int4Matrix] ", data.codes.size(), " bytes of codes and ", data.scale.size(), " scales for [", rows, ", ", columns, "] in groups of ",
                      group);
  Memory<D>::from_host(codes_.data(), data.codes.data(), data.codes.size());
  Memory<D>::from_host(scale_.data(), data.scale.data(), data.scale.size() * sizeof(float));
  if (!data.zero.empty()) {
    zero_ = Tensor<float, D>(scale_.shape());
    Memory<D>::from_host(zero_.data(), data.zero.data(), data.zero.size() * sizeof(float));
  }
  ranges_ = {codes_.data(), scale_.data(), zero_.data(), rows, columns, group};
}

template <class T, class D>
std::string Int4Matrix<T, D>::description() const {
  return concat("int4 ", zero_ ? "affine" : "symmetric", ", group ", ranges_.group);
}

KDLIB_NAMESPACE_END

#endif
