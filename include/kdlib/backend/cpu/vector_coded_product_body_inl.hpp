// SPDX-License-Identifier: Apache-2.0
// Products of up to 8 rows with coded weights, which are never written out decoded: included by vector_body_inl.hpp
// inside its namespaces, once for each instruction set, hence no include guard.
//
// A chunk of a row fills one vector with words of 8 codes (4 of eight bits). Plane j of a chunk is code j of every
// word, so one shift and one look-up give a vector of values; x lies in the same order (spread_rows), which costs
// nothing per row of the weight.
#ifdef KDLIB_VECTOR_SPACE
#if KDLIB_VECTOR_BYTES >= 32

template <int Bits>
constexpr std::int64_t chunk_planes = Bits == 8 ? 4 : 8;
template <int Bits>
constexpr std::int64_t chunk_columns = chunk_planes<Bits>* Pack<float>::lanes;

/// What chunk_values gives is the level divided by this: a code of eight bits stays in the top byte of its word.
template <int Bits>
constexpr float level_unit = Bits == 8 ? 1.0f / 16777216.0f : 1.0f;

#if KDLIB_VECTOR_BYTES == 64
typedef __m512i Words;
template <int Bits>
KDLIB_LANE Words chunk_words(const std::uint8_t* p) {
  Words v;
  __builtin_memcpy(&v, p, sizeof v);
  if constexpr (Bits != 3) return v;
  const __m512i quarter =
      _mm512_setr_epi32(0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 11, 12);  // 12 bytes of codes to every 16
  const __m512i bytes =
      _mm512_set4_epi32(-2146760183, -2146957562, -2147154941, -2147352320);  // 0 1 2 -, 3 4 5 -, 6 7 8 -, 9 10 11 -
  return _mm512_maskz_shuffle_epi8(~0ull, _mm512_maskz_permutexvar_epi32(0xFFFF, quarter, v), bytes);
}
template <int Bits, int J>
KDLIB_LANE V<float> chunk_values(const LevelTable& t, const Words& w) {
  if constexpr (Bits == 8) {
    const __m512i top = _mm512_set4_epi32(0x0C808080 + (J << 24), 0x08808080 + (J << 24), 0x04808080 + (J << 24),
                                          0x00808080 + (J << 24));
    return _mm512_maskz_cvtepi32_ps(0xFFFF, _mm512_maskz_shuffle_epi8(~0ull, w, top));
  } else if constexpr (J == 0) return look_up(t, w);
  else return look_up(t, _mm512_maskz_srli_epi32(0xFFFF, w, J * Bits));
}
KDLIB_LANE V<float> spread_groups(const float* p, const std::int32_t* lanes) {
  __m512i index;
  __builtin_memcpy(&index, lanes, sizeof index);
  return _mm512_maskz_permutexvar_ps(0xFFFF, index, load(p));
}
#else
typedef __m256i Words;
template <int Bits>
KDLIB_LANE Words chunk_words(const std::uint8_t* p) {
  Words v;
  if constexpr (Bits != 3) {
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  __m128i low, high;
  __builtin_memcpy(&low, p, sizeof low);
  __builtin_memcpy(&high, p + 12, sizeof high);
  const __m256i bytes = _mm256_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1, 0, 1, 2, -1, 3, 4, 5, -1,
                                         6, 7, 8, -1, 9, 10, 11, -1);
  return _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1), bytes);
}
template <int Bits, int J>
KDLIB_LANE V<float> chunk_values(const LevelTable& t, const Words& w) {
  if constexpr (Bits == 8) {
    const __m256i top = _mm256_setr_epi32(0x00808080 + (J << 24), 0x04808080 + (J << 24), 0x08808080 + (J << 24),
                                          0x0C808080 + (J << 24), 0x00808080 + (J << 24), 0x04808080 + (J << 24),
                                          0x08808080 + (J << 24), 0x0C808080 + (J << 24));
    return _mm256_cvtepi32_ps(_mm256_shuffle_epi8(w, top));
  } else return look_up(t, _mm256_srli_epi32(w, J * Bits));
}
KDLIB_LANE V<float> spread_groups(const float* p, const std::int32_t* lanes) {
  __m256i index;
  __builtin_memcpy(&index, lanes, sizeof index);
  return _mm256_permutevar8x32_ps(load(p), index);
}
#endif

/// Which group each lane of a chunk belongs to, counted from the chunk's first.
struct LaneGroups {
  std::int64_t per_chunk = 1;  // groups in a chunk; 1 also where a group holds several chunks
  alignas(64) std::int32_t lanes[Pack<float>::lanes] = {};
};
template <int Bits>
KDLIB_LANE LaneGroups lane_groups(std::int64_t group) {
  LaneGroups g;
  if (group >= chunk_columns<Bits>) return g;
  g.per_chunk = chunk_columns<Bits> / group;
  for (std::int64_t l = 0; l < Pack<float>::lanes; ++l)
    g.lanes[l] = static_cast<std::int32_t>(l * chunk_planes<Bits> / group);
  return g;
}

KDLIB_LANE V<float> chunk_factor(const LaneGroups& lanes, const float* p) {
  return lanes.per_chunk > 1 ? spread_groups(p, lanes.lanes) : splat(*p);
}

/// Sums of M rows of x with one row of the weight. Nested members, not an array: they must stay in registers.
template <int M>
struct CodedSums {
  V<float> sum{};
  CodedSums<M - 1> rest;
};
template <>
struct CodedSums<0> {};

template <int M, int N>
KDLIB_LANE void coded_step(CodedSums<M>& a, CodedSums<M>& b, const V<float>& va, const V<float>& vb, const float* x) {
  if constexpr (M > 0) {
    const V<float> one = load(x);
    a.sum += va * one;
    if constexpr (N > 1) b.sum += vb * one;
    coded_step<M - 1, N>(a.rest, b.rest, va, vb, x + Pack<float>::lanes);
  }
}
/// a += factor * what a chunk gave.
template <int M>
KDLIB_LANE void coded_scaled(CodedSums<M>& a, const CodedSums<M>& chunk, const V<float>& scale) {
  if constexpr (M > 0) {
    a.sum += scale * chunk.sum;
    coded_scaled<M - 1>(a.rest, chunk.rest, scale);
  }
}
/// a += zero * what x sums to in a chunk.
template <int M>
KDLIB_LANE void coded_shifted(CodedSums<M>& a, const V<float>& zero, const float* x_sums) {
  if constexpr (M > 0) {
    a.sum += zero * load(x_sums);
    coded_shifted<M - 1>(a.rest, zero, x_sums + Pack<float>::lanes);
  }
}
template <int M>
KDLIB_LANE void coded_put(const CodedSums<M>& a, std::int64_t m, float beta, float* y, std::int64_t ldy) {
  if constexpr (M > 0) {
    if (m <= 0) return;
    *y = sum<float>(a.sum) + (beta == 0.0f ? 0.0f : beta * *y);
    coded_put<M - 1>(a.rest, m - 1, beta, y + ldy, ldy);
  }
}

/// One row of the weight on its way through a product.
struct CodedRow {
  const std::uint8_t* codes;
  const float *scale, *zero;
};

/// Up to two rows of x: a chunk is summed by level and scaled once.
template <int Bits, int M, int N, int J>
KDLIB_LANE void sum_planes(CodedSums<M>& a, CodedSums<M>& b, const LevelTable& t, const Words& wa, const Words& wb,
                           const float* x) {
  if constexpr (J < chunk_planes<Bits>) {
    coded_step<M, N>(a, b, chunk_values<Bits, J>(t, wa), N > 1 ? chunk_values<Bits, J>(t, wb) : V<float>{},
                     x + J * M * Pack<float>::lanes);
    sum_planes<Bits, M, N, J + 1>(a, b, t, wa, wb, x);
  }
}
/// More rows of x: values are scaled before they meet them.
template <int Bits, int M, int N, int J>
KDLIB_LANE void add_planes(CodedSums<M>& a, CodedSums<M>& b, const LevelTable& t, const Words& wa, const Words& wb,
                           const V<float>& sa, const V<float>& za, const V<float>& sb, const V<float>& zb,
                           const float* x) {
  if constexpr (J < chunk_planes<Bits>) {
    const V<float> va = chunk_values<Bits, J>(t, wa) * sa + za,
                   vb = N > 1 ? chunk_values<Bits, J>(t, wb) * sb + zb : va;
    coded_step<M, N>(a, b, va, vb, x + J * M * Pack<float>::lanes);
    add_planes<Bits, M, N, J + 1>(a, b, t, wa, wb, sa, za, sb, zb, x);
  }
}

/// y[m, N] += N rows of the weight against M rows of x, of which m count.
template <int Bits, int M, int N>
KDLIB_LANE void coded_tile(const CodedRanges& w, const LevelTable& table, const LaneGroups& lanes, const CodedRow& ra,
                           const CodedRow& rb, const float* x, const float* x_sums, std::int64_t ahead, std::int64_t m,
                           float beta, float* y, std::int64_t ldy) {
  constexpr std::int64_t bytes = chunk_columns<Bits> * Bits / 8, width = Pack<float>::lanes;
  const std::int64_t chunks = (w.columns + chunk_columns<Bits> - 1) / chunk_columns<Bits>;
  CodedSums<M> a, b;
  for (std::int64_t c = 0; c < chunks; ++c, x += chunk_planes<Bits> * M * width, x_sums += M * width) {
    const std::int64_t g = lanes.per_chunk > 1 ? c * lanes.per_chunk : c * chunk_columns<Bits> / w.group;
    __builtin_prefetch(ra.codes + c * bytes + ahead);
    if constexpr (N > 1) __builtin_prefetch(rb.codes + c * bytes + ahead);
    const Words wa = chunk_words<Bits>(ra.codes + c * bytes), wb = N > 1 ? chunk_words<Bits>(rb.codes + c * bytes) : wa;
    const V<float> sa = chunk_factor(lanes, ra.scale + g) * level_unit<Bits>,
                   za = ra.zero != nullptr ? chunk_factor(lanes, ra.zero + g) : V<float>{};
    const V<float> sb = N > 1 ? chunk_factor(lanes, rb.scale + g) * level_unit<Bits> : sa,
                   zb = N > 1 && rb.zero != nullptr ? chunk_factor(lanes, rb.zero + g) : V<float>{};
    if constexpr (M <= 2) {
      CodedSums<M> ca, cb;
      sum_planes<Bits, M, N, 0>(ca, cb, table, wa, wb, x);
      coded_scaled<M>(a, ca, sa);
      if constexpr (N > 1) coded_scaled<M>(b, cb, sb);
      if (ra.zero != nullptr) {
        coded_shifted<M>(a, za, x_sums);
        if constexpr (N > 1) coded_shifted<M>(b, zb, x_sums);
      }
    } else {
      add_planes<Bits, M, N, 0>(a, b, table, wa, wb, sa, za, sb, zb, x);
    }
  }
  coded_put<M>(a, m, beta, y, ldy);
  if constexpr (N > 1) coded_put<M>(b, m, beta, y + 1, ldy);
}

/// coded_scale of `count` groups whose scales are exponents.
KDLIB_LANE void spread_exponents(const std::uint8_t* p, std::int64_t count, float* out) {
  constexpr std::int64_t width = Pack<float>::lanes;
  typedef std::uint8_t Bytes __attribute__((vector_size(width)));
  typedef std::uint32_t Bits __attribute__((vector_size(KDLIB_VECTOR_BYTES)));
  std::int64_t g = 0;
  for (; g + width <= count; g += width) {
    Bytes b;
    __builtin_memcpy(&b, p + g, sizeof b);
    const Bits bits = exponent_bits(__builtin_convertvector(b, Bits));
    __builtin_memcpy(out + g, &bits, sizeof bits);
  }
  for (; g < count; ++g) {
    const std::uint32_t bits = exponent_bits<std::uint32_t>(p[g]);
    __builtin_memcpy(out + g, &bits, sizeof bits);
  }
}

/// Scales and zeros of row r as the tiles want them, in `scratch` [2, row_groups + lanes] where they are stored
/// otherwise.
KDLIB_LANE CodedRow coded_row(const CodedRanges& w, std::int64_t r, float* scratch) {
  const std::int64_t groups = w.row_groups();
  CodedRow row{w.codes + r * w.row_bytes(), w.scale == nullptr ? nullptr : w.scale + r * groups,
               w.zero == nullptr ? nullptr : w.zero + r * groups};
  if (w.scale == nullptr) {
    if (w.nested_map == nullptr) spread_exponents(w.small_scale + r * groups, groups, scratch);
    else
      for (std::int64_t g = 0; g < groups; ++g) scratch[g] = coded_scale(w, r * groups + g);
    row.scale = scratch;
  }
  if (w.shifted) {
    float* zero = scratch + groups + Pack<float>::lanes;
    for (std::int64_t g = 0; g < groups; ++g) zero[g] = -row.scale[g] * row.zero[g];
    row.zero = zero;
  }
  return row;
}

template <int Bits, int M>
KDLIB_LANE void multiply_coded_rows(const CodedRanges& w, std::int64_t begin, std::int64_t end, std::int64_t m,
                                    const float* x, const float* x_sums, float* scratch, float beta, float* y) {
  // Two rows share what is read of x; AVX2 has 16 registers. Eight bits wait for memory, which one stream of addresses
  // reads faster.
  constexpr int N = Bits == 8 && M <= 2 ? 1 : KDLIB_VECTOR_BYTES == 64 || M == 1 ? 2 : 1;
  LevelTable table{};
  if constexpr (Bits != 8) table = level_table(w.levels);
  const LaneGroups lanes = lane_groups<Bits>(w.group);
  const std::int64_t step = N * w.row_bytes(), ahead = (4096 + step - 1) / step * step;
  float* second = scratch + 2 * (w.row_groups() + Pack<float>::lanes);
  std::int64_t r = begin;
  for (; r + N <= end; r += N) {
    const CodedRow a = coded_row(w, r, scratch);
    coded_tile<Bits, M, N>(w, table, lanes, a, N > 1 ? coded_row(w, r + 1, second) : a, x, x_sums, ahead, m, beta,
                           y + r, w.rows);
  }
  for (; r < end; ++r) {
    const CodedRow a = coded_row(w, r, scratch);
    coded_tile<Bits, M, 1>(w, table, lanes, a, a, x, x_sums, ahead, m, beta, y + r, w.rows);
  }
}

template <int Bits>
KDLIB_LOOP void multiply_coded_bits(const CodedRanges& w, std::int64_t begin, std::int64_t end, std::int64_t m,
                                    const float* x, const float* x_sums, float* scratch, float beta, float* y) {
  if (m == 1) return multiply_coded_rows<Bits, 1>(w, begin, end, m, x, x_sums, scratch, beta, y);
  if (m == 2) return multiply_coded_rows<Bits, 2>(w, begin, end, m, x, x_sums, scratch, beta, y);
  if (m <= 4) return multiply_coded_rows<Bits, 4>(w, begin, end, m, x, x_sums, scratch, beta, y);
  return multiply_coded_rows<Bits, 8>(w, begin, end, m, x, x_sums, scratch, beta, y);
}
#endif

/// Leaves plan.rows 0 where these codes, groups or this instruction set have no product here.
KDLIB_LOOP void plan_coded(const CodedRanges& w, std::int64_t m, CodedPlan& plan) {
#if KDLIB_VECTOR_BYTES >= 32
  const std::int64_t planes = w.bits == 8 ? 4 : 8, columns = planes * Pack<float>::lanes,
                     chunks = (w.columns + columns - 1) / columns;
  const bool whole = w.group % planes == 0 && (columns % w.group == 0 || w.group % columns == 0);
  if (m > 8 || !whole || (w.crossing && w.columns % w.group != 0)) return;
  plan.rows = m <= 2 ? m : m <= 4 ? 4 : 8;
  plan.elements = chunks * columns * plan.rows;
  plan.sums = chunks * Pack<float>::lanes * plan.rows;
  plan.scratch = 4 * (w.row_groups() + Pack<float>::lanes);
#else
  (void)w, (void)m, (void)plan;
#endif
}

/// x [m, columns] in the order of the chunks, [chunks, planes, rows, lanes], and its sums over the planes, [chunks,
/// rows, lanes].
KDLIB_LOOP void spread_rows(const CodedRanges& w, const CodedPlan& plan, std::int64_t m, const float* x, float* spread,
                            float* sums) {
  const std::int64_t planes = w.bits == 8 ? 4 : 8, lanes = Pack<float>::lanes;
  for (std::int64_t begin = 0; begin < w.columns;
       begin += planes * lanes, spread += planes * plan.rows * lanes, sums += plan.rows * lanes)
    for (std::int64_t r = 0; r < plan.rows; ++r)
      for (std::int64_t l = 0; l < lanes; ++l) {
        float total = 0;
        for (std::int64_t j = 0; j < planes; ++j) {
          const std::int64_t c = begin + l * planes + j;
          const float value = r < m && c < w.columns ? x[r * w.columns + c] : 0.0f;
          spread[(j * plan.rows + r) * lanes + l] = value;
          total += value;
        }
        sums[r * lanes + l] = total;
      }
}

/// y[m, begin to end of rows] = x W^T + beta * y, from spread x.
KDLIB_LOOP void multiply_coded(const CodedRanges& w, std::int64_t begin, std::int64_t end, std::int64_t m,
                               const float* x, const float* x_sums, float* scratch, float beta, float* y) {
#if KDLIB_VECTOR_BYTES >= 32
  switch (w.bits) {
    case 3:
      return multiply_coded_bits<3>(w, begin, end, m, x, x_sums, scratch, beta, y);
    case 4:
      return multiply_coded_bits<4>(w, begin, end, m, x, x_sums, scratch, beta, y);
    default:
      return multiply_coded_bits<8>(w, begin, end, m, x, x_sums, scratch, beta, y);
  }
#else
  (void)w, (void)begin, (void)end, (void)m, (void)x, (void)x_sums, (void)scratch, (void)beta, (void)y;
#endif
}

#endif
