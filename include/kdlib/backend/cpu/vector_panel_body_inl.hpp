// SPDX-License-Identifier: Apache-2.0
// Products of 5 to 32 rows with a weight (generation in batches): included by vector_body_inl.hpp inside its
// namespaces, once for each instruction set, hence no include guard.
#ifdef KDLIB_VECTOR_SPACE

/// The widest panel in vectors, 0 where few_rows is as good.
constexpr std::int64_t panel_vectors = KDLIB_VECTOR_BYTES == 64 ? 2 : KDLIB_VECTOR_BYTES == 32 ? 3 : 0;
constexpr std::int64_t panel_block = 64;  // columns of w that are brought into the nearest cache at a time

/// Vectors that hold m rows of x side by side; 0: the panel does not fit or does not pay.
template <class T>
KDLIB_LANE std::int64_t panel_width(std::int64_t m) {
  const std::int64_t width = (m + Pack<T>::lanes - 1) / Pack<T>::lanes;
  return 2 * m <= Pack<T>::lanes || m <= 4 || width > panel_vectors ? 0 : width;
}

/// panel[k, width * lanes] = x[m, k]^T, rows that x lacks are 0.
template <class T>
KDLIB_LOOP void fill_panel(std::int64_t m, std::int64_t k, const T* x, std::int64_t ldx, T* panel) {
  const std::int64_t width = panel_width<T>(m) * Pack<T>::lanes;
  for (std::int64_t i = 0; i < k; ++i) {
    T* to = panel + i * width;
    for (std::int64_t r = 0; r < m; ++r) to[r] = x[r * ldx + i];
    for (std::int64_t r = m; r < width; ++r) to[r] = T{0};
  }
}

/// The sums of `Rows` rows of w with a panel of `Width` vectors. Nested members, not an array: they must stay in
/// registers.
template <class T, int Rows, int Width>
struct PanelSums {
  V<T> c0{}, c1{}, c2{};
  PanelSums<T, Rows - 1, Width> rest;
};
template <class T, int Width>
struct PanelSums<T, 0, Width> {};

template <int Rows, int Width, class T>
KDLIB_LANE void panel_step(PanelSums<T, Rows, Width>& s, const V<T>& x0, const V<T>& x1, const V<T>& x2, const T* w) {
  if constexpr (Rows > 0) {
    const V<T> b = splat(*w);
    s.c0 += x0 * b;
    if constexpr (Width > 1) s.c1 += x1 * b;
    if constexpr (Width > 2) s.c2 += x2 * b;
    panel_step<Rows - 1, Width, T>(s.rest, x0, x1, x2, w + panel_block);
  }
}
template <int Rows, int Width, class T>
KDLIB_LANE void panel_put(const PanelSums<T, Rows, Width>& s, T* out) {
  if constexpr (Rows > 0) {
    constexpr std::int64_t lanes = Pack<T>::lanes;
    store(out, s.c0);
    if constexpr (Width > 1) store(out + lanes, s.c1);
    if constexpr (Width > 2) store(out + 2 * lanes, s.c2);
    panel_put<Rows - 1, Width, T>(s.rest, out + Width * lanes);
  }
}

/// `Rows` rows of w against the panel; y[m, Rows].
template <int Rows, int Width, class T>
KDLIB_LANE void panel_tile(std::int64_t m, std::int64_t k, T alpha, const T* panel, const T* w, std::int64_t ldw,
                           const T* next, T beta, T* y, std::int64_t ldy) {
  constexpr std::int64_t lanes = Pack<T>::lanes;
  constexpr std::int64_t lines = panel_block * static_cast<std::int64_t>(sizeof(T)) / 64;  // of a row in a block
  alignas(64) T near[Rows * panel_block];
  PanelSums<T, Rows, Width> s;
  for (std::int64_t begin = 0; begin < k; begin += panel_block) {
    const std::int64_t count = k - begin < panel_block ? k - begin : panel_block;
    for (int r = 0; r < Rows; ++r) {
      const T* from = w + r * ldw + begin;
      T* to = near + r * panel_block;
      if (count == panel_block)
        for (std::int64_t i = 0; i < panel_block; i += lanes) store(to + i, load(from + i));
      else __builtin_memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
    }
    const T* x = panel + begin * Width * lanes;
    for (std::int64_t i = 0; i < count; ++i, x += Width * lanes) {
      // One line of the rows that follow at every step: asking evenly keeps the memory busy while the products are
      // formed.
      if (next != nullptr && i < Rows * lines)
        __builtin_prefetch(next + i / lines * ldw + begin + i % lines * (panel_block / lines));
      const V<T> x0 = load(x), x1 = Width > 1 ? load(x + lanes) : x0, x2 = Width > 2 ? load(x + 2 * lanes) : x0;
      panel_step<Rows, Width, T>(s, x0, x1, x2, near + i);
    }
  }
  alignas(64) T sums[Rows * Width * lanes];
  panel_put<Rows, Width, T>(s, sums);
  constexpr std::int64_t most = Width * lanes;  // m is at most that; compilers that know m alone would warn
  for (std::int64_t r = 0; r < (m < most ? m : most); ++r)
    for (int c = 0; c < Rows; ++c) {
      T& to = y[r * ldy + c];
      to = alpha * sums[c * Width * lanes + r] + (beta == T{0} ? T{0} : beta * to);
    }
}

template <int Rows, int Width, class T>
KDLIB_LOOP void panel_rows(std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* panel, const T* w,
                           std::int64_t ldw, T beta, T* y, std::int64_t ldy) {
  std::int64_t c = 0;
  for (; c + Rows <= n; c += Rows)
    panel_tile<Rows, Width>(m, k, alpha, panel, w + c * ldw, ldw, c + 2 * Rows <= n ? w + (c + Rows) * ldw : nullptr,
                            beta, y + c, ldy);
  for (; c < n; ++c)
    panel_tile<1, Width>(m, k, alpha, panel, w + c * ldw, ldw, static_cast<const T*>(nullptr), beta, y + c, ldy);
}

/// y[m, n] = alpha * x w[n, k]^T + beta * y where the panel holds x: each element of w is read once and meets all rows
/// of x.
template <class T>
KDLIB_LOOP void multiply_panel(std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* panel, const T* w,
                               std::int64_t ldw, T beta, T* y, std::int64_t ldy) {
#if KDLIB_VECTOR_BYTES == 64  // 32 registers
  switch (panel_width<T>(m)) {
    case 1:
      return panel_rows<16, 1>(m, n, k, alpha, panel, w, ldw, beta, y, ldy);
    default:
      return panel_rows<12, 2>(m, n, k, alpha, panel, w, ldw, beta, y, ldy);
  }
#elif KDLIB_VECTOR_BYTES == 32  // 16 registers
  switch (panel_width<T>(m)) {
    case 1:
      return panel_rows<12, 1>(m, n, k, alpha, panel, w, ldw, beta, y, ldy);
    case 2:
      return panel_rows<6, 2>(m, n, k, alpha, panel, w, ldw, beta, y, ldy);
    default:
      return panel_rows<4, 3>(m, n, k, alpha, panel, w, ldw, beta, y, ldy);
  }
#else
  (void)m, (void)n, (void)k, (void)alpha, (void)panel, (void)w, (void)ldw, (void)beta, (void)y, (void)ldy;
#endif
}

/// Elements of scratch that a product with m rows of k needs for its panel; 0: it does without.
template <class T>
KDLIB_LOOP void panel_elements(std::int64_t m, std::int64_t k, std::int64_t& out) {
  out = panel_width<T>(m) * Pack<T>::lanes * k;
}

#endif
