// SPDX-License-Identifier: Apache-2.0
// Templates of rope_table.hpp.
#ifndef KDLIB_NN_ROPE_TABLE_INL_HPP
#define KDLIB_NN_ROPE_TABLE_INL_HPP

#include <cmath>
#include <vector>

#include "kdlib/nn/rope_table.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr double two_pi = 6.283185307179586476925286766559;

}  // namespace detail

template <class D, class T>
RopeTable<T, D> make_rope_table(const RopeSettings& settings, std::int64_t head_size, std::int64_t positions) {
  using C = accumulate_t<T>;
  const std::vector<double> f = rope_frequencies(settings, head_size);
  const double scale = rope_table_scale(settings);
  const Shape shape{positions, head_size / 2};
  std::vector<C> cosine(static_cast<std::size_t>(shape.count())), sine(cosine.size());
  for (std::size_t p = 0, i = 0; p < static_cast<std::size_t>(positions); ++p)
    for (std::size_t j = 0; j < f.size(); ++j, ++i) {
      const double angle = static_cast<double>(p) * f[j];
      cosine[i] = static_cast<C>(std::cos(angle) * scale);
      sine[i] = static_cast<C>(std::sin(angle) * scale);
    }
  RopeTable<T, D> table{Tensor<C, D>(shape), Tensor<C, D>(shape)};
  Memory<D>::from_host(table.cosine.data(), cosine.data(), cosine.size() * sizeof(C));
  Memory<D>::from_host(table.sine.data(), sine.data(), sine.size() * sizeof(C));
  return table;
}

KDLIB_NAMESPACE_END

#endif
