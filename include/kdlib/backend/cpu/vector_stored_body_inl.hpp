// SPDX-License-Identifier: Apache-2.0
// The part of vector_body_inl.hpp that decodes and multiplies weights in the formats of files, 32 values at a time:
// included by it inside its namespaces, once for each instruction set, hence no include guard. The formats are in
// vector_stored_formats_body_inl.hpp.
#ifdef KDLIB_VECTOR_SPACE
#if KDLIB_VECTOR_BYTES >= 32

/// The sums of one row of the weight with M rows of x, of R such rows. Nested members, not arrays: they must stay in
/// registers.
template <int M>
struct StoredRow {
  V<float> sum{};
  StoredRow<M - 1> rest;
};
template <>
struct StoredRow<0> {};
template <int R, int M>
struct StoredSums {
  StoredRow<M> row;
  __m128 low = __m128{};  // M = 1, lane 1: minimum times sum of x
  StoredSums<R - 1, M> rest;
};
template <int M>
struct StoredSums<0, M> {};

/// Rows of x at `stride`; pairs: 0 and the sum of x, for every 32 values of the row that goes alone.
struct StoredInput {
  const float* at;
  std::int64_t stride;
  const float* pairs;
};

template <int M>
KDLIB_LANE void stored_columns(StoredRow<M>& s, const Codes32& w, const float* x, std::int64_t stride) {
  if constexpr (M > 0) {
    constexpr std::int64_t lanes = Pack<float>::lanes;
    s.sum += w.a * load(x);
    s.sum += w.b * load(x + lanes);
#if KDLIB_VECTOR_BYTES == 32
    s.sum += w.c * load(x + 2 * lanes);
    s.sum += w.d * load(x + 3 * lanes);
#endif
    stored_columns<M - 1>(s.rest, w, x + stride, stride);
  }
}
/// code * scale + minimum.
template <class F>
KDLIB_LANE void scale_codes(Codes32& w, __m128 scales) {
  if constexpr (!F::scaled) return;
  const V<float> first = broadcast_low(scales),
                 low = F::minimum ? broadcast_low(_mm_shuffle_ps(scales, scales, 1)) : V<float>{};
  const V<float> second = F::two_scales ? broadcast_low(_mm_movehl_ps(scales, scales)) : first;
#if KDLIB_VECTOR_BYTES == 64
  w.a = w.a * first + low, w.b = w.b * second + low;
#else
  w.a = w.a * first + low, w.b = w.b * first + low, w.c = w.c * second + low, w.d = w.d * second + low;
#endif
}

template <class F, int R, int M>
KDLIB_LANE void stored_step(StoredSums<R, M>& s, const StoredByte* const* row, const StoredByte* const* scale,
                            std::int64_t block, int j, const StoredInput& x) {
  if constexpr (R > 0) {
    const StoredByte* b = *row + block * F::bytes;
    Codes32 w = F::codes(b, j);
    if constexpr (M > 1) {  // the weights themselves, for all rows of x
      scale_codes<F>(w, F::scales(b, *scale + block, j));
      stored_columns<M>(s.row, w, x.at, x.stride);
    } else if constexpr (!F::scaled) {
      s.row.sum += against(w, x.at);
    } else {  // scale and minimum once for 32 products
      const __m128 scales = F::scales(b, *scale + block, j);
      if constexpr (F::two_scales)
        s.row.sum += against(w, x.at, broadcast_low(scales), broadcast_low(_mm_movehl_ps(scales, scales)));
      else s.row.sum += against(w, x.at) * broadcast_low(scales);
      if constexpr (F::minimum)
        s.low += scales * _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x.pairs)));
    }
    stored_step<F, R - 1, M>(s.rest, row + 1, scale + 1, block, j, x);
  }
}
template <int M>
KDLIB_LANE void put_row(const StoredRow<M>& s, float low, float* out) {
  if constexpr (M > 0) {
    V<float> v = s.sum;
    rounded(v);  // hides the copy: reading parts of the member would keep all sums in memory
    *out = sum<float>(v) + low;
    put_row<M - 1>(s.rest, 0.0f, out + 1);
  }
}
template <int R, int M>
KDLIB_LANE void put_rows(const StoredSums<R, M>& s, float* out) {
  if constexpr (R > 0) {
    const __m128 low = s.low;
    put_row<M>(s.row, low[1], out);
    put_rows<R - 1, M>(s.rest, out + M);
  }
}

constexpr int stored_group = 4;  // rows of the weight that share what is loaded of x

/// out[stored_group][M]: rows of the weight against M rows of x.
template <class F, int M>
KDLIB_LANE void stored_tile(const StoredByte* const* row, const StoredByte* const* scale, const StoredByte* ahead,
                            std::int64_t k, StoredInput x, float* out) {
  StoredSums<stored_group, M> s;
  for (std::int64_t block = 0; block * 32 * F::units < k; ++block) {
    for (int line = 0; ahead != nullptr && line < stored_group * F::bytes; line += 64)
      _mm_prefetch(reinterpret_cast<const char*>(ahead + block * stored_group * F::bytes + line), _MM_HINT_T0);
#pragma GCC unroll 8
    for (int j = 0; j < F::units; ++j) {
      stored_step<F, stored_group, M>(s, row, scale, block, j, x);
      x.at += 32;
      x.pairs += 2;
    }
  }
  put_rows<stored_group, M>(s, out);
}

/// The scales of a row that lie apart; types that have none get a place that is never read.
KDLIB_LANE const StoredByte* stored_scales(const StoredRanges& w, std::int64_t r) {
  return w.scale_parts == nullptr ? w.row(r) : w.row_scales(r);
}

/// y[m, count] (leading dimension ldy) = x W[begin, begin + count)^T + beta * y, m rows of x: four, two or one at a
/// time meet four rows of W.
template <class F>
KDLIB_LOOP void stored_rows_dots(const StoredRanges& w, std::int64_t begin, std::int64_t count, std::int64_t m,
                                 const StoredInput& x, float beta, float* y, std::int64_t ldy) {
  const StoredByte *row[stored_group], *scale[stored_group];
  float out[stored_group * 4];
  for (std::int64_t r = 0; r < count; r += stored_group) {
    for (std::int64_t i = 0; i < stored_group; ++i) {  // past the end: the last row again
      const std::int64_t at = begin + (r + i < count ? r + i : count - 1);
      row[i] = w.row(at), scale[i] = stored_scales(w, at);
    }
    const StoredByte* ahead =
        row[0] + 2 * stored_group * w.row_bytes();  // the group after the next: asking evenly keeps the memory busy
    for (std::int64_t i = 0; i < m; ahead = nullptr) {
      const std::int64_t n = m - i >= 4 ? 4 : (m - i >= 2 ? 2 : 1);
      const StoredInput part{x.at + i * x.stride, x.stride, x.pairs};
      if (n == 1) stored_tile<F, 1>(row, scale, ahead, w.columns, part, out);
      else if (n == 2) stored_tile<F, 2>(row, scale, ahead, w.columns, part, out);
      else stored_tile<F, 4>(row, scale, ahead, w.columns, part, out);
      for (std::int64_t c = 0; c < stored_group && r + c < count; ++c)
        for (std::int64_t t = 0; t < n; ++t) {
          float& to = y[(i + t) * ldy + r + c];
          to = out[c * n + t] + (beta == 0.0f ? 0.0f : beta * to);
        }
      i += n;
    }
  }
}

template <class F>
KDLIB_LOOP void stored_rows_decode(const StoredRanges& w, std::int64_t begin, std::int64_t count, float* out) {
  const std::int64_t ahead = count * w.row_bytes();  // the rows that are decoded next, as a rule
  for (std::int64_t r = begin; r < begin + count; ++r) {
    const StoredByte *b = w.row(r), *scale = stored_scales(w, r);
    for (std::int64_t block = 0; block * 32 * F::units < w.columns; ++block, b += F::bytes) {
      for (int line = 0; line < F::bytes; line += 64)
        _mm_prefetch(reinterpret_cast<const char*>(b + ahead + line), _MM_HINT_T0);
#pragma GCC unroll 8
      for (int j = 0; j < F::units; ++j, out += 32) {
        const __m128 s = F::scales(b, scale + block, j);
        const V<float> first = broadcast_low(s);
        put_codes<F::minimum>(F::codes(b, j), first, F::two_scales ? broadcast_low(_mm_movehl_ps(s, s)) : first,
                              F::minimum ? broadcast_low(_mm_shuffle_ps(s, s, 1)) : V<float>{}, out);
      }
    }
  }
}

/// Calls f with the format of the weight; false: there is no vector code for it.
template <class Call>
KDLIB_LANE bool with_stored_format(const StoredRanges& w, Call call) {
  if (w.columns % 32 != 0) return false;
  if (w.scale_parts != nullptr) return call(StoredMxfp4Apart()), true;
  switch (w.type) {
    case GgufType::f32:
      return call(StoredF32()), true;
    case GgufType::f16:
      return call(StoredF16()), true;
    case GgufType::bf16:
      return call(StoredBf16()), true;
    case GgufType::q8_0:
      return call(StoredQ8_0()), true;
    case GgufType::q4_0:
      return call(StoredQ4_0()), true;
    case GgufType::q4_1:
      return call(StoredQ4_1()), true;
    case GgufType::q5_0:
      return call(StoredQ5_0()), true;
    case GgufType::q5_1:
      return call(StoredQ5_1()), true;
    case GgufType::q4_k:
      return call(StoredQ4_K()), true;
    case GgufType::q5_k:
      return call(StoredQ5_K()), true;
    case GgufType::q6_k:
      return call(StoredQ6_K()), true;
    case GgufType::mxfp4:
      return call(StoredMxfp4()), true;
    default:
      return false;
  }
}

/// out[count, columns] = rows from `begin`; done = false where this format has no vector code.
KDLIB_LOOP void decode_stored(const StoredRanges& w, std::int64_t begin, std::int64_t count, float* out, bool& done) {
  done = with_stored_format(w, [&](auto format) { stored_rows_decode<decltype(format)>(w, begin, count, out); });
}
/// Products straight from the blocks; see stored_rows_dots.
KDLIB_LOOP void dot_stored(const StoredRanges& w, std::int64_t begin, std::int64_t count, std::int64_t m,
                           const float* x, const float* pairs, float beta, float* y, std::int64_t ldy, bool& done) {
  const StoredInput input{x, w.columns, pairs};
  done = with_stored_format(
      w, [&](auto format) { stored_rows_dots<decltype(format)>(w, begin, count, m, input, beta, y, ldy); });
}

#else

inline void decode_stored(const StoredRanges&, std::int64_t, std::int64_t, float*, bool& done) { done = false; }
inline void dot_stored(const StoredRanges&, std::int64_t, std::int64_t, std::int64_t, const float*, const float*, float,
                       float*, std::int64_t, bool& done) {
  done = false;
}

#endif
#endif
