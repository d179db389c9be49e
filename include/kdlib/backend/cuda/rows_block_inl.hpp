// SPDX-License-Identifier: Apache-2.0
// What the threads of a block share while they walk one row of the CUDA row engine: partial sums, reductions in a fixed
// tree, tiles of entries.
#ifndef KDLIB_BACKEND_CUDA_ROWS_BLOCK_INL_HPP
#define KDLIB_BACKEND_CUDA_ROWS_BLOCK_INL_HPP

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kdlib/backend/cuda/block.hpp"
#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Where the running maxima of all threads begin.
struct BlockAnchors {
  double s, t;
};
/// Sums of a part of a row of logits z about a running maximum: of e = e^(x / T) with x = z - top, of e x and of e (x -
/// y) with the other model's y. Each pack of entries is summed in C and added in double: p_s - 1 of a sure label comes
/// from what the sum holds beside 1.
struct BlockSide {
  double top, sum, first, cross;
};
/// `cut` is not 0 where an entry was cut at the floor, or a maximum rose so far that entries before it lie below the
/// floor now: the cross sums moved such entries with their maximum.
struct BlockState {
  BlockSide s, t;
  double cut;
};

/// Moves a side's top up; `u` is e^((old - new) / T). The other side's cross sum changes as well.
KDLIB_HOST_DEVICE inline void raise_side(BlockSide& side, BlockSide& other, double top, double u) {
  const double shift = side.top - top;  // x' = x + shift
  side = {top, side.sum * u, (side.first + shift * side.sum) * u, (side.cross + shift * side.sum) * u};
  other.cross -= shift * other.sum;
}
/// The cross sums of both sides are of (own - other), so that one rule serves both.
KDLIB_HOST_DEVICE inline void merge_states(BlockState& a, BlockState b, bool teacher, double inverse) {
  const auto level = [inverse](BlockState& x, BlockState& y, BlockSide BlockState::*side,
                               BlockSide BlockState::*other) {
    const double shift = ((x.*side).top - (y.*side).top) * inverse;
    if (shift < 0) raise_side(x.*side, x.*other, (y.*side).top, exp(shift));
    else if (shift > 0) raise_side(y.*side, y.*other, (x.*side).top, exp(-shift));
    if (fabs(shift) > 1e5) x.cut += 1;
  };
  const auto add = [](BlockSide& x, const BlockSide& y) { x.sum += y.sum, x.first += y.first, x.cross += y.cross; };
  level(a, b, &BlockState::s, &BlockState::t);
  if (teacher) level(a, b, &BlockState::t, &BlockState::s);
  add(a.s, b.s);
  if (teacher) add(a.t, b.t);
  a.cut += b.cut;
}

/// What a logit of -infinity counts as, about its row's anchor. NaN stays.
KDLIB_HOST_DEVICE inline double at_least_lowest_log_prob(double log_prob) { return log_prob < -1e6 ? -1e6 : log_prob; }

/// The five largest of a part of a row, lower ids first among equals; id -1: fewer than five. NaN is never among them.
template <class C>
struct BlockTop {
  C value[5];
  std::int32_t id[5];

  KDLIB_HOST_DEVICE static BlockTop none() {
    BlockTop t;
    KDLIB_UNROLL
    for (int k = 0; k < 5; ++k) t.value[k] = C(0), t.id[k] = -1;
    return t;
  }
  KDLIB_HOST_DEVICE bool before(C v, std::int32_t i, int k) const {
    return id[k] < 0 ? v == v : (v > value[k] || (v == value[k] && i < id[k]));
  }
  KDLIB_HOST_DEVICE void insert(C v, std::int32_t i) {
    if (!before(v, i, 4)) return;
    KDLIB_UNROLL
    for (int k = 0; k < 5; ++k) {
      if (i < 0 || !before(v, i, k)) continue;
      const C old = value[k];
      const std::int32_t old_id = id[k];
      value[k] = v, id[k] = i, v = old, i = old_id;
    }
  }
  KDLIB_HOST_DEVICE void merge(const BlockTop& o) {
    KDLIB_UNROLL
    for (int k = 0; k < 5; ++k)
      if (o.id[k] >= 0) insert(o.value[k], o.id[k]);
  }
  KDLIB_HOST_DEVICE bool holds(std::int32_t i) const {
    bool found = false;
    KDLIB_UNROLL
    for (int k = 0; k < 5; ++k) found = found || id[k] == i;
    return found;
  }
  KDLIB_HOST_DEVICE int count() const {
    int n = 0;
    KDLIB_UNROLL
    for (int k = 0; k < 5; ++k) n += id[k] >= 0 ? 1 : 0;
    return n;
  }
};
template <class C>
struct BlockTops {
  BlockTop<C> s, t;
};

struct BlockTriple {
  double a, b, c;
};

/// A row's statistics at one temperature, and what entries are formed from.
struct BlockStatistics {
  RowStatistics row;
  double top_s = 0, top_t = 0, log_s = 0, log_t = 0;  // the largest logits, log of the sum about them
  double log_tail_s = 0;                              // log of the student's mass outside the support
};

/// One loss of the (perhaps nested) sum with its row's numbers.
struct BlockLeaf {
  BlockStatistics at;
  double weight = 1;                       // term weight times T^2
  double scale = 0, subtract = 0;          // gradient += scale * (h - p_s * subtract)
  double label_derivative = 0, value = 0;  // of the parts that are no sum over the vocabulary
  double tail_derivative = 0;              // of a loss on the support
  bool closed = false;
};

/// What the entries of a leaf are formed from, in registers.
template <class X>
struct BlockConstants {
  X top_s, top_t, inverse, floor, log_s, log_t, log_difference, scale, subtract, label_derivative, weight;
  X log_outside;  // log of the student's sum outside the support
  bool shares;    // the entry is that of the leaf before

  KDLIB_HOST_DEVICE static BlockConstants of(const BlockLeaf& leaf, bool shares) {
    const RowStatistics& row = leaf.at.row;
    return {static_cast<X>(leaf.at.top_s),
            static_cast<X>(leaf.at.top_t),
            static_cast<X>(1 / row.temperature),
            static_cast<X>(-1e6 * row.temperature),
            static_cast<X>(leaf.at.log_s),
            static_cast<X>(leaf.at.log_t),
            static_cast<X>(leaf.at.log_t - leaf.at.log_s),
            static_cast<X>(leaf.scale),
            static_cast<X>(leaf.subtract),
            static_cast<X>(leaf.label_derivative),
            static_cast<X>(leaf.weight),
            static_cast<X>(leaf.at.log_s + leaf.at.log_tail_s),
            shares};
  }
};

/// The teacher's top-k of the row, by id, each id once. K slots of each.
template <class B>
struct BlockSupport {
  SharedArray<double, B> log_t, log_s, derivative, gradient;
  SharedArray<std::int32_t, B> ids;
};

constexpr std::int64_t support_slot_bytes = 4 * sizeof(double) + sizeof(std::int32_t);
constexpr int block_slot_bytes = 128;                             // of a warp's part of a reduction
constexpr std::int64_t block_slots_bytes = 8 * block_slot_bytes;  // of 256 threads

constexpr std::int64_t block_shared_bytes(std::int64_t leaves, std::int64_t k) {
  return block_slots_bytes + leaves * static_cast<std::int64_t>(sizeof(BlockLeaf)) +
         (k * support_slot_bytes + 7) / 8 * 8;
}

/// The shared memory of a row: one reduction slot a warp, the leaves, the support.
template <class B>
struct BlockShared {
  SharedArray<BlockLeaf, B> leaves;
  BlockSupport<B> support;

  KDLIB_HOST_DEVICE static BlockShared of(B& block, std::int64_t leaf_count, std::int64_t k) {
    BlockShared s;
    s.leaves = block.template shared<BlockLeaf>(block_slots_bytes, leaf_count);
    std::int64_t at = block_slots_bytes + leaf_count * static_cast<std::int64_t>(sizeof(BlockLeaf));
    const auto next = [&] {
      const auto array = block.template shared<double>(at, k);
      at += k * static_cast<std::int64_t>(sizeof(double));
      return array;
    };
    s.support.log_t = next(), s.support.log_s = next(), s.support.derivative = next(), s.support.gradient = next();
    s.support.ids = block.template shared<std::int32_t>(at, k);
    return s;
  }
};

/// W entries of a row, from `first` on. Bit j of `valid` marks those that the row has, of `special` those on the
/// support, whose slots are [slot_begin, slot_end).
template <class C, int W>
struct BlockLanes {
  static constexpr int width = W;
  std::int64_t first;
  unsigned valid, special;
  int slot_begin, slot_end;
  C s[W], t[W], out[W];
};

/// Numbers a thread takes at once: 16 bytes of them, 8 of 16-bit types.
template <class T>
constexpr int block_width = sizeof(T) >= 4 ? static_cast<int>(16 / sizeof(T)) : 4;

/// Reductions and tiles of one block. Every thread calls each function; sums are merged in the same order at every run.
template <class Block>
class BlockTeam {
 public:
  KDLIB_HOST_DEVICE explicit BlockTeam(Block& block) : block_(block) {}

  /// combine(a, b) adds b to a. Every thread gets the whole.
  template <class X, class F>
  KDLIB_HOST_DEVICE X reduce(X mine, F combine) {
    static_assert(sizeof(X) <= block_slot_bytes);
    return reduce_block(block_, mine, 0, combine);
  }
  KDLIB_HOST_DEVICE double add_up(double mine) {
    return reduce(mine, [](double& a, const double& b) { a += b; });
  }
  KDLIB_HOST_DEVICE BlockTriple add_up(const BlockTriple& mine) {
    return reduce(mine, [](BlockTriple& a, const BlockTriple& b) { a.a += b.a, a.b += b.b, a.c += b.c; });
  }
  KDLIB_HOST_DEVICE BlockTriple largest(const BlockTriple& mine) {
    return reduce(mine, [](BlockTriple& a, const BlockTriple& b) {
      a = {max(a.a, b.a), max(a.b, b.b), max(a.c, b.c)};
    });
  }

  /// f(lanes) over all entries of a row, with s and (Teacher) t loaded and, with Write, lanes.out stored in g. `ids` is
  /// the support, in order. Rows of odd length start anywhere: packs lie where s is aligned, and the first and the last
  /// may be cut.
  template <bool Teacher, bool Support, bool Write, class C, class T, class F>
  KDLIB_HOST_DEVICE void tiles(const T* s, const T* t, T* g, std::int64_t n,
                               const SharedArray<std::int32_t, Block>& ids, int count, F f) {
    constexpr int W = block_width<T>;
    constexpr std::uintptr_t bytes = sizeof(T) * W;
    const std::int64_t start = -static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(s) % bytes / sizeof(T));
    const auto aligned = [start](const T* p) { return reinterpret_cast<std::uintptr_t>(p + start) % bytes == 0; };
    const bool aligned_t = Teacher && aligned(t), aligned_g = Write && aligned(g);
    const std::int64_t stride = block_.size() * W;
    int next = 0;
    for (std::int64_t base = start; base < n; base += stride) {
      BlockLanes<C, W> lanes;
      lanes.first = base + block_.thread() * W;
      lanes.special = 0;
      lanes.slot_begin = next;
      if constexpr (Support) {
        for (; next < count && ids[next] < base + stride; ++next) {
          const std::int64_t j = ids[next] - lanes.first;
          if (j >= 0 && j < W) lanes.special |= 1u << j;
        }
      }
      lanes.slot_end = next;
      if (lanes.first >= n) continue;
      lanes.valid = (1u << W) - 1;
      if (lanes.first < 0) lanes.valid &= ~0u << -lanes.first;
      if (lanes.first + W > n) lanes.valid &= (1u << (n - lanes.first)) - 1;
      const bool whole = lanes.valid == (1u << W) - 1;
      load<W>(s + lanes.first, whole, lanes.valid, lanes.s);
      if constexpr (Teacher) load<W>(t + lanes.first, whole && aligned_t, lanes.valid, lanes.t);
      f(lanes);
      if constexpr (Write) {
        BlockPack<T, W> pack;
        KDLIB_UNROLL
        for (int j = 0; j < W; ++j) pack.v[j] = T(lanes.out[j]);
        if (whole && aligned_g) {
          *reinterpret_cast<BlockPack<T, W>*>(g + lanes.first) = pack;
        } else {
          KDLIB_UNROLL
          for (int j = 0; j < W; ++j)
            if (lanes.valid >> j & 1u) g[lanes.first + j] = pack.v[j];
        }
      }
    }
  }

 private:
  template <int W, class T, class C>
  KDLIB_HOST_DEVICE static void load(const T* from, bool at_once, unsigned valid, C (&to)[W]) {
    BlockPack<T, W> pack;
    if (at_once) {
      pack = *reinterpret_cast<const BlockPack<T, W>*>(from);
    } else {
      KDLIB_UNROLL
      for (int j = 0; j < W; ++j) pack.v[j] = valid >> j & 1u ? from[j] : T(0.0f);
    }
    KDLIB_UNROLL
    for (int j = 0; j < W; ++j) to[j] = static_cast<C>(pack.v[j]);
  }

  Block& block_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
