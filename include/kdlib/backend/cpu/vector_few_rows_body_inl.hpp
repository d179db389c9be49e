// SPDX-License-Identifier: Apache-2.0
// Products of a few rows with a weight (generation): included by vector_body_inl.hpp inside its namespaces, once for
// each instruction set, hence no include guard.
#ifdef KDLIB_VECTOR_SPACE

/// The sums of one row of a tile. Named members, not an array: they must stay in registers.
template <class T>
struct TileRow {
  V<T> c0{}, c1{}, c2{}, c3{};
};
template <int N, class T>
KDLIB_LANE void tile_step(TileRow<T>& s, const V<T>& a, const V<T>& b0, const V<T>& b1, const V<T>& b2,
                          const V<T>& b3) {
  s.c0 += a * b0;
  if constexpr (N > 1) s.c1 += a * b1;
  if constexpr (N > 2) s.c2 += a * b2;
  if constexpr (N > 3) s.c3 += a * b3;
}
/// The 16-byte vector that the halves of v add up to.
template <int Bytes>
KDLIB_LANE auto fold(const char* from) {
  typedef float half __attribute__((vector_size(Bytes / 2)));
  half low, high;
  __builtin_memcpy(&low, from, sizeof low);
  __builtin_memcpy(&high, from + sizeof low, sizeof high);
  low += high;
  if constexpr (Bytes / 2 > 16) return fold<Bytes / 2>(reinterpret_cast<const char*>(&low));
  else return low;
}
typedef float Quad __attribute__((vector_size(16)));
KDLIB_LANE Quad quad(const V<float>& v) {
#if KDLIB_VECTOR_BYTES == 16
  return v;
#else
  return fold<KDLIB_VECTOR_BYTES>(reinterpret_cast<const char*>(&v));
#endif
}

template <class T>
KDLIB_LANE void tile_put(T alpha, const V<T>& s, T beta, T* y) {
  *y = alpha * sum<T>(s) + (beta == T{0} ? T{0} : beta * *y);
}
template <int N, class T>
KDLIB_LANE void tile_store(const TileRow<T>& s, T alpha, T beta, T* y) {
  if constexpr (N > 2 && std::is_same_v<T, float>) {  // three or four sums at once: add across a transposed block
    const Quad a = quad(s.c0), b = quad(s.c1), c = quad(s.c2), d = quad(s.c3);
    const Quad ab = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
    const Quad cd = __builtin_shufflevector(c, d, 0, 1, 4, 5) + __builtin_shufflevector(c, d, 2, 3, 6, 7);
    Quad all = (__builtin_shufflevector(ab, cd, 0, 2, 4, 6) + __builtin_shufflevector(ab, cd, 1, 3, 5, 7)) * alpha;
    if (beta != 0.0f) {
      Quad old{};
      __builtin_memcpy(&old, y, N * sizeof(float));
      all += beta * old;
    }
    __builtin_memcpy(y, &all, N * sizeof(float));
    return;
  }
  tile_put<T>(alpha, s.c0, beta, y);
  if constexpr (N > 1) tile_put<T>(alpha, s.c1, beta, y + 1);
  if constexpr (N > 2) tile_put<T>(alpha, s.c2, beta, y + 2);
  if constexpr (N > 3) tile_put<T>(alpha, s.c3, beta, y + 3);
}

/// y[M, N] = alpha * x[M, k] w[N, k]^T + beta * y for one tile, M, N <= 4. Meanwhile `Ahead` rows from `next` are asked
/// for: rows are too short for the processor to foresee them, and asking evenly keeps the memory busy while the
/// products are formed.
template <int M, int N, int Ahead, class T>
KDLIB_LANE void dot_tile(std::int64_t k, T alpha, const T* x, std::int64_t ldx, const T* w, std::int64_t ldw,
                         std::uintptr_t next, T beta, T* y, std::int64_t ldy) {
  TileRow<T> s0, s1, s2, s3;
  constexpr std::int64_t lanes = Pack<T>::lanes;
  std::int64_t i = 0;
  for (; i + lanes <= k; i += lanes) {
    const V<T> b0 = load(w + i), b1 = N > 1 ? load(w + ldw + i) : b0, b2 = N > 2 ? load(w + 2 * ldw + i) : b0,
               b3 = N > 3 ? load(w + 3 * ldw + i) : b0;
    if constexpr (Ahead > 0) {
      const std::uintptr_t row = static_cast<std::uintptr_t>(ldw) * sizeof(T),
                           at = next + static_cast<std::uintptr_t>(i) * sizeof(T);
      __builtin_prefetch(reinterpret_cast<const void*>(at));
      if constexpr (Ahead > 1) __builtin_prefetch(reinterpret_cast<const void*>(at + row));
      if constexpr (Ahead > 2) __builtin_prefetch(reinterpret_cast<const void*>(at + 2 * row));
      if constexpr (Ahead > 3) __builtin_prefetch(reinterpret_cast<const void*>(at + 3 * row));
    }
    tile_step<N, T>(s0, load(x + i), b0, b1, b2, b3);
    if constexpr (M > 1) tile_step<N, T>(s1, load(x + ldx + i), b0, b1, b2, b3);
    if constexpr (M > 2) tile_step<N, T>(s2, load(x + 2 * ldx + i), b0, b1, b2, b3);
    if constexpr (M > 3) tile_step<N, T>(s3, load(x + 3 * ldx + i), b0, b1, b2, b3);
  }
  if (const std::int64_t n = k - i; n > 0) {
    const V<T> b0 = load_part(w + i, n), b1 = N > 1 ? load_part(w + ldw + i, n) : b0,
               b2 = N > 2 ? load_part(w + 2 * ldw + i, n) : b0, b3 = N > 3 ? load_part(w + 3 * ldw + i, n) : b0;
    tile_step<N, T>(s0, load_part(x + i, n), b0, b1, b2, b3);
    if constexpr (M > 1) tile_step<N, T>(s1, load_part(x + ldx + i, n), b0, b1, b2, b3);
    if constexpr (M > 2) tile_step<N, T>(s2, load_part(x + 2 * ldx + i, n), b0, b1, b2, b3);
    if constexpr (M > 3) tile_step<N, T>(s3, load_part(x + 3 * ldx + i, n), b0, b1, b2, b3);
  }
  tile_store<N, T>(s0, alpha, beta, y);
  if constexpr (M > 1) tile_store<N, T>(s1, alpha, beta, y + ldy);
  if constexpr (M > 2) tile_store<N, T>(s2, alpha, beta, y + 2 * ldy);
  if constexpr (M > 3) tile_store<N, T>(s3, alpha, beta, y + 3 * ldy);
}

/// M = m <= 4 rows of x against N rows of w.
template <int N, int Ahead, class T>
KDLIB_LANE void dot_rows(std::int64_t m, std::int64_t k, T alpha, const T* x, std::int64_t ldx, const T* w,
                         std::int64_t ldw, std::uintptr_t next, T beta, T* y, std::int64_t ldy) {
  switch (m) {
    case 1:
      return dot_tile<1, N, Ahead>(k, alpha, x, ldx, w, ldw, next, beta, y, ldy);
    case 2:
      return dot_tile<2, N, Ahead>(k, alpha, x, ldx, w, ldw, next, beta, y, ldy);
    case 3:
      return dot_tile<3, N, Ahead>(k, alpha, x, ldx, w, ldw, next, beta, y, ldy);
    default:
      return dot_tile<4, N, Ahead>(k, alpha, x, ldx, w, ldw, next, beta, y, ldy);
  }
}

/// y[m, n] = alpha * x[m, k] w[n, k]^T + beta * y for few rows m: each row of w is read from memory once. Four rows of
/// x at a time meet `group` rows of w, which stay in the nearest cache meanwhile.
template <class T>
KDLIB_LOOP void few_rows(std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* x, std::int64_t ldx,
                         const T* w, std::int64_t ldw, T beta, T* y, std::int64_t ldy) {
  constexpr int width = KDLIB_VECTOR_BYTES == 64 ? 4 : 3;  // AVX2 has 16 registers: 4 x 3 sums, 3 of w, 1 of x
  const std::int64_t group = m > 4 ? 2 * width : width, tiles = (m + 3) / 4 * (group / width),
                     share = tiles >= group ? 1 : 2;
  const auto place = [&](std::int64_t row) {
    return reinterpret_cast<std::uintptr_t>(w) + static_cast<std::uintptr_t>(row * ldw) * sizeof(T);
  };
  std::int64_t c = 0;
  for (; c + group <= n; c += group) {
    std::int64_t asked = c + group;  // next row to ask for
    for (std::int64_t r = 0; r < m; r += 4)
      for (std::int64_t t = c; t < c + group; t += width) {
        const std::int64_t rows = m - r < 4 ? m - r : 4;
        const T *xr = x + r * ldx, *wt = w + t * ldw;
        T* out = y + r * ldy + t;
        if (m <= 4) dot_rows<width, width>(rows, k, alpha, xr, ldx, wt, ldw, place(asked), beta, out, ldy);
        else if (asked >= c + 2 * group) dot_rows<width, 0>(rows, k, alpha, xr, ldx, wt, ldw, 0, beta, out, ldy);
        else if (share == 1) dot_rows<width, 1>(rows, k, alpha, xr, ldx, wt, ldw, place(asked), beta, out, ldy);
        else dot_rows<width, 2>(rows, k, alpha, xr, ldx, wt, ldw, place(asked), beta, out, ldy);
        asked += share;
      }
  }
  for (; c < n; ++c)
    for (std::int64_t r = 0; r < m; r += 4)
      dot_rows<1, 0>(m - r < 4 ? m - r : 4, k, alpha, x + r * ldx, ldx, w + c * ldw, ldw, 0, beta, y + r * ldy + c,
                     ldy);
}

#endif
