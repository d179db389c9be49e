// SPDX-License-Identifier: Apache-2.0
// The row loops, included once for each instruction set (rows_inl.hpp), hence no include guard.
#ifdef KDLIB_ROWS_SPACE
// flatten: everything a loop calls is inlined into it, a user's unmarked functor too, and gets the loop's instruction
// set.
#define KDLIB_LOOP KDLIB_ROWS_TARGET __attribute__((noinline, flatten))

KDLIB_NAMESPACE_BEGIN
namespace detail {
namespace KDLIB_ROWS_SPACE {

template <class C>
struct PackFor {
  using type = KDLIB_ROWS_PACK;
};
template <>
struct PackFor<double> {
  using type = ScalarPack<double>;
};

/// Accumulators of one block of the first sweep; e_s and e_t are the last entries' exponentials. Both cross sums are of
/// x - y (student's less teacher's): the teacher's own minus the other's is the negative of cross_t.
template <class P, bool Teacher, bool Sums>
struct StatisticLanes {
  P sum_s{0}, sum_t{0}, first_s{0}, first_t{0}, cross_s{0}, cross_t{0}, e_s{0}, e_t{0};
  P max_s{-std::numeric_limits<typename P::scalar>::infinity()},
      max_t{-std::numeric_limits<typename P::scalar>::infinity()};

  KDLIB_INLINE void add(const P& s, const P& t, const P& anchor_s, const P& anchor_t, const P& k, const P& floor) {
    const P x = P::max(floor, s - anchor_s);
    e_s = P::exp2(x * k);
    sum_s = sum_s + e_s;
    if constexpr (Sums) first_s = P::fma(e_s, x, first_s), max_s = P::max(max_s, s);
    if constexpr (Teacher) {
      const P y = P::max(floor, t - anchor_t);
      e_t = P::exp2(y * k);
      sum_t = sum_t + e_t;
      if constexpr (Sums) {
        const P d = x - y;
        max_t = P::max(max_t, t);
        first_t = P::fma(e_t, y, first_t);
        cross_s = P::fma(e_s, d, cross_s);
        cross_t = P::fma(e_t, d, cross_t);
      }
    }
  }
};

struct Loops {
  /// The largest of n entries.
  template <class C, class T>
  KDLIB_LOOP static double largest(const T* z, std::int64_t n) {
    using P = typename PackFor<C>::type;
    constexpr C low = -std::numeric_limits<C>::infinity();
    P m{low};
    std::int64_t i = 0;
    for (; i + P::width <= n; i += P::width) m = P::max(m, P::load(z + i));
    if (i < n) m = P::max(m, P::load_part(z + i, n - i, low));
    return static_cast<double>(m.largest());
  }

  /// First sweep over one block with fixed anchors; the block's sums in `out`, anchors taken from `base`. The
  /// exponentials go to keep_s and keep_t where keeps_exponentials; the largest logits come with Sums.
  template <class C, class T, bool Teacher, bool Sums>
  KDLIB_LOOP static void block_statistics(const T* s, const T* t, std::int64_t n, const RowSums& base, C log2_scale,
                                          C floor_value, C* keep_s, C* keep_t, RowSums& out) {
    using P = typename PackFor<C>::type;
    constexpr C low = -std::numeric_limits<C>::infinity();
    const P anchor_s{static_cast<C>(base.student.anchor)}, anchor_t{static_cast<C>(base.teacher.anchor)}, k{log2_scale},
        floor{floor_value};
    StatisticLanes<P, Teacher, Sums> lanes;
    std::int64_t i = 0;
    for (; i + P::width <= n; i += P::width) {
      if constexpr (Teacher) lanes.add(P::load(s + i), P::load(t + i), anchor_s, anchor_t, k, floor);
      else lanes.add(P::load(s + i), anchor_t, anchor_s, anchor_t, k, floor);
      if constexpr (keeps_exponentials<C, T>) lanes.e_s.store(keep_s + i);
      if constexpr (keeps_exponentials<C, T> && Teacher) lanes.e_t.store(keep_t + i);
    }
    if (i < n) {
      if constexpr (Teacher)
        lanes.add(P::load_part(s + i, n - i, low), P::load_part(t + i, n - i, low), anchor_s, anchor_t, k, floor);
      else lanes.add(P::load_part(s + i, n - i, low), anchor_t, anchor_s, anchor_t, k, floor);
      if constexpr (keeps_exponentials<C, T>) lanes.e_s.store_part(keep_s + i, n - i);
      if constexpr (keeps_exponentials<C, T> && Teacher) lanes.e_t.store_part(keep_t + i, n - i);
    }
    out.student = {base.student.anchor, lanes.sum_s.sum(), lanes.first_s.sum(), lanes.cross_s.sum()};
    if constexpr (Teacher)
      out.teacher = {base.teacher.anchor, lanes.sum_t.sum(), lanes.first_t.sum(), -lanes.cross_t.sum()};
    if constexpr (Sums) out.student.largest = static_cast<double>(lanes.max_s.largest());
    if constexpr (Sums && Teacher) out.teacher.largest = static_cast<double>(lanes.max_t.largest());
  }

  /// p of entries [i, i + width) of one side, `last - i` of them where not whole; z are their logits about the anchor.
  /// The last operation is exact, so no contraction into a fused multiply-add can make p_s - p_t differ from 0 for
  /// equal logits.
  template <class T, class P, class C>
  KDLIB_INLINE static P probability(const SideConstants<C>& side, const P& z, std::int64_t i, std::int64_t last,
                                    const RowConstants<C>& c) {
    if constexpr (keeps_exponentials<C, T>) {
      const P e =
          i + P::width <= last ? P::load(side.exponentials + i) : P::load_part(side.exponentials + i, last - i, C(0));
      return e * P(side.near_one) * P(side.power);
    } else {
      return P::exp2(P::fma(z, P(c.log2_scale), -P(side.fraction)), P(side.offset));
    }
  }

  /// Second sweep, last block first (its logits are still in cache). Sweep::gradient writes out = scale * (h - p_s
  /// subtract) (+ add); Sweep::retain writes out = h, keep = p_s and sums h.
  template <class C, class T, class O, Sweep Kind, class Loss>
  KDLIB_LOOP static void entries(const Loss loss, const RowStatistics row, const RowConstants<C> c, const T* s,
                                 const T* t, std::int64_t n, O* out, C* keep, const C* add, EntrySums& sums) {
    using P = typename PackFor<C>::type;
    constexpr bool teacher = reads_teacher<Loss>;
    const P scale{c.scale}, subtract{-c.subtract}, inverse{c.inverse_temperature}, floor{c.floor};
    for (std::int64_t block = (n - 1) / row_block; block >= 0; --block) {
      const std::int64_t first = block * row_block, last = first + row_block < n ? first + row_block : n;
      P value{0}, derivative{0};
      for (std::int64_t i = first; i < last; i += P::width) {
        const bool whole = i + P::width <= last;
        Entry<P> x{{P(0), P(0)}, P(0), P(0)};
        const P a = P::max(
            floor, (whole ? P::load(s + i) : P::load_part(s + i, last - i, c.student.anchor)) - P(c.student.anchor));
        x.p_s = probability<T>(c.student, a, i, last, c);
        x.log_p_s = P::fma(a, inverse, -P(c.student.log_sum));
        if constexpr (teacher) {
          const P b = P::max(
              floor, (whole ? P::load(t + i) : P::load_part(t + i, last - i, c.teacher.anchor)) - P(c.teacher.anchor));
          x.p_t = probability<T>(c.teacher, b, i, last, c);
          x.log_ratio = P::fma(a - b, inverse, P(c.log_sum_difference));
        }
        EntryLoss<P> e = loss.entry(row, as_entry_of<Loss>(x));
        if (!whole) e.value = e.value * P::first(last - i), e.derivative = e.derivative * P::first(last - i);
        value = value + e.value;
        if constexpr (Kind == Sweep::retain) {
          derivative = derivative + e.derivative;
          if (whole) e.derivative.store(out + i), x.p_s.store(keep + i);
          else e.derivative.store_part(out + i, last - i), x.p_s.store_part(keep + i, last - i);
        } else if constexpr (Kind == Sweep::gradient) {
          P g = P::fma(x.p_s, subtract, e.derivative) * scale;
          if (add != nullptr) g = g + (whole ? P::load(add + i) : P::load_part(add + i, last - i, C(0)));
          if (whole) g.store(out + i);
          else g.store_part(out + i, last - i);
        }
      }
      sums.value += value.sum();
      if constexpr (Kind == Sweep::retain) sums.derivative += derivative.sum();
    }
  }

  /// Gradient of losses of the label alone: out = -scale * subtract * p_s (+ add).
  template <class C, class T, class O>
  KDLIB_LOOP static void probabilities(const RowConstants<C> c, const T* s, std::int64_t n, O* out, const C* add) {
    using P = typename PackFor<C>::type;
    const P scale{-c.scale * c.subtract}, floor{c.floor};
    for (std::int64_t block = 0; block * row_block < n; ++block) {
      const std::int64_t last = std::min(n, (block + 1) * row_block);
      for (std::int64_t i = block * row_block; i < last; i += P::width) {
        const bool whole = i + P::width <= last;
        const P a = P::max(
            floor, (whole ? P::load(s + i) : P::load_part(s + i, last - i, c.student.anchor)) - P(c.student.anchor));
        P g = probability<T>(c.student, a, i, last, c) * scale;
        if (add != nullptr) g = g + (whole ? P::load(add + i) : P::load_part(add + i, last - i, C(0)));
        if (whole) g.store(out + i);
        else g.store_part(out + i, last - i);
      }
    }
  }

  /// Third sweep: out = scale * (h - p subtract) (+ add). `out` may be the memory of h.
  template <class C, class O>
  KDLIB_LOOP static void finish(const RowConstants<C> c, const C* h, const C* p, std::int64_t n, O* out, const C* add) {
    using P = typename PackFor<C>::type;
    const P scale{c.scale}, subtract{-c.subtract};
    for (std::int64_t i = 0; i < n; i += P::width) {
      const bool whole = i + P::width <= n;
      const P a = whole ? P::load(h + i) : P::load_part(h + i, n - i, C(0));
      const P b = whole ? P::load(p + i) : P::load_part(p + i, n - i, C(0));
      P g = P::fma(b, subtract, a) * scale;
      if (add != nullptr) g = g + (whole ? P::load(add + i) : P::load_part(add + i, n - i, C(0)));
      if (whole) g.store(out + i);
      else g.store_part(out + i, n - i);
    }
  }

  /// Entries of z[0..n) above `bound`, n <= row_block (NaN is not above). bound - z is NaN for two equal infinities:
  /// not above either.
  template <class C, class T>
  KDLIB_LOOP static double count_above(const T* z, std::int64_t n, C bound) {
    using P = typename PackFor<C>::type;
    const P limit{bound}, one{1}, zero{0};
    P a{0}, b{0}, c{0}, d{0};  // four, so that no addition waits for the one before
    std::int64_t i = 0;
    for (; i + 4 * P::width <= n; i += 4 * P::width) {
      a = a + P::where_not_negative(limit - P::load(z + i), zero, one);
      b = b + P::where_not_negative(limit - P::load(z + i + P::width), zero, one);
      c = c + P::where_not_negative(limit - P::load(z + i + 2 * P::width), zero, one);
      d = d + P::where_not_negative(limit - P::load(z + i + 3 * P::width), zero, one);
    }
    double total = ((a + b) + (c + d)).sum();
    for (; i < n; ++i) total += static_cast<C>(z[i]) > bound ? 1 : 0;
    return total;
  }

  /// Inserts the entries of z[0..n) that are at least `bound`; `first` is the id of z[0].
  template <class C, class T, class Sink>
  KDLIB_LOOP static void collect(const T* z, std::int64_t n, std::int64_t first, C bound, Sink& top) {
    using P = typename PackFor<C>::type;
    std::int64_t i = 0;
    for (; i + 4 * P::width <= n; i += 4 * P::width) {
      const P low = P::max(P::load(z + i), P::load(z + i + P::width)),
              high = P::max(P::load(z + i + 2 * P::width), P::load(z + i + 3 * P::width));
      if (!P::max(low, high).any_at_least(bound)) continue;
      for (std::int64_t j = i; j < i + 4 * P::width; ++j)
        if (static_cast<C>(z[j]) >= bound) top.insert(static_cast<double>(z[j]), first + j);
    }
    for (; i < n; ++i)
      if (static_cast<C>(z[i]) >= bound) top.insert(static_cast<double>(z[i]), first + i);
  }
};

}  // namespace KDLIB_ROWS_SPACE
}  // namespace detail
KDLIB_NAMESPACE_END
#undef KDLIB_LOOP
#endif
