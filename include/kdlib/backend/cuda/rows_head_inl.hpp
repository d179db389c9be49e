// SPDX-License-Identifier: Apache-2.0
// What a row of the CUDA engine needs beside its sums: the teacher's head for AdaptiveKl, and the Jensen-Shannon
// metric.
#ifndef KDLIB_BACKEND_CUDA_ROWS_HEAD_INL_HPP
#define KDLIB_BACKEND_CUDA_ROWS_HEAD_INL_HPP

#include "kdlib/backend/cuda/rows_body_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A number's place among all numbers of its type: greater for greater ones, equal for -0 and 0.
KDLIB_HOST_DEVICE inline std::uint64_t order_of(float x) {
  std::uint32_t bits;
  x = x + 0.0f;  // -0 becomes 0
  memcpy(&bits, &x, sizeof(bits));
  return bits >> 31 != 0 ? ~bits & 0xFFFFFFFFu : bits | 0x80000000u;
}
KDLIB_HOST_DEVICE inline std::uint64_t order_of(double x) {
  std::uint64_t bits;
  x = x + 0.0;
  memcpy(&bits, &x, sizeof(bits));
  return bits >> 63 != 0 ? ~bits : bits | (std::uint64_t{1} << 63);
}

/// Sums p_t and |p_s - p_t| over the entries that the teacher ranks at `least` or above, in double, in a fixed order; c
/// counts those at `least`.
template <class Block, class T>
KDLIB_HOST_DEVICE BlockTriple BlockRow<Block, T>::head_sums(const BlockConstants<double>& c, std::uint64_t least) {
  BlockTriple mine{0, 0, 0};
  team_.template tiles<true, false, false, C>(s_, t_, static_cast<T*>(nullptr), n_, {}, 0, [&](auto& lanes) {
    KDLIB_UNROLL
    for (int j = 0; j < block_width<T>; ++j) {
      if (!(lanes.valid >> j & 1u)) continue;
      const std::uint64_t order = order_of(lanes.t[j]);
      if (order < least) continue;
      const Entry<double> e = entry<true>(lanes.s[j], lanes.t[j], c);
      mine.a += e.p_t, mine.b += fabs(e.p_s - e.p_t), mine.c += order == least ? 1 : 0;
    }
  });
  return team_.add_up(mine);
}

/// The share of the head in sum |p_s - p_t|. The head's least entry is found by bisection over the order of the
/// teacher's logits: a sweep a bit of C. Among equals at that place lower ids come first.
template <class Block, class T>
KDLIB_HOST_DEVICE double BlockRow<Block, T>::head_share(double head_mass, const BlockLeaf& leaf) {
  const BlockConstants<double> c = BlockConstants<double>::of(leaf, false);
  const BlockTriple whole = head_sums(c, 0);
  if (!(whole.b > 0)) return whole.b == 0 ? 0.5 : whole.b;  // NaN stays
  std::uint64_t least = 0;                                  // the mass at or above it reaches head_mass
  for (int bit = static_cast<int>(8 * sizeof(C)) - 1; bit >= 0; --bit) {
    const std::uint64_t tried = least | std::uint64_t{1} << bit;
    if (head_sums(c, tried).a >= head_mass) least = tried;
  }
  const BlockTriple at = head_sums(c, least), above = head_sums(c, least + 1);
  if (at.c <= 1) return min(1.0, at.b / whole.b);
  double mass = above.a, gap = above.b;  // every thread walks the equals in order: they are rare
  for (std::int64_t i = 0; i < n_ && mass < head_mass; ++i) {
    if (order_of(static_cast<C>(t_[i])) != least) continue;
    const Entry<double> e = entry<true>(static_cast<C>(s_[i]), static_cast<C>(t_[i]), c);
    mass += e.p_t, gap += fabs(e.p_s - e.p_t);
  }
  return min(1.0, gap / whole.b);
}

/// JSD with beta = 1/2 at T = 1, from a sweep of its own.
template <class Block, class T>
KDLIB_HOST_DEVICE double BlockRow<Block, T>::jensen_shannon(const BlockStatistics& at) {
  BlockLeaf leaf;
  leaf.at = at;
  const BlockConstants<C> c = BlockConstants<C>::of(leaf, false);
  const JsEntry js;
  double mine = 0;
  team_.template tiles<true, false, false, C>(s_, t_, static_cast<T*>(nullptr), n_, {}, 0, [&](auto& lanes) {
    C sum = 0;
    KDLIB_UNROLL
    for (int j = 0; j < block_width<T>; ++j)
      if (lanes.valid >> j & 1u) sum += js.entry(at.row, entry<true>(lanes.s[j], lanes.t[j], c)).value;
    mine += static_cast<double>(sum);
  });
  return within_bounds(js, team_.add_up(mine));
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
